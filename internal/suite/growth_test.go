//go:build linux

package suite_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// growth is work that has to grow as what there is to do does.
type growth struct {
	name string
	n    int // a size that takes more than a start; in a long run the double
	work func(t *testing.T, n int) *exec.Cmd
}

var growths = []growth{
	{"holders_of_a_port", 100, func(t *testing.T, n int) *exec.Cmd {
		a := crowd(t, n, "port")
		return tool(limited(t), "", "killport", a.port())
	}},
	{"dry_run", 100, func(t *testing.T, n int) *exec.Cmd {
		a := crowd(t, n, "port")
		return tool(limited(t), "", "killport", "--dry-run", a.port())
	}},
	{"workers_of_a_master", 100, func(t *testing.T, n int) *exec.Cmd {
		a := crowd(t, n, "socket", "--stubborn")
		return tool(limited(t), "", "killport", "--grace=100ms", a.port())
	}},
	{"ports_of_children", 60, func(t *testing.T, n int) *exec.Cmd {
		a := crowd(t, n, "ports")
		return tool(limited(t), "", "killport", span(a))
	}},
	{"ports_of_children_that_stay_zombies", 60, func(t *testing.T, n int) *exec.Cmd {
		a := crowd(t, n, "ports", "--unreaped")
		return tool(limited(t), "", "killport", span(a))
	}},
	{"ports_of_one", 200, func(t *testing.T, n int) *exec.Cmd {
		return tool(limited(t), "", "killport", span(ports(t, n)))
	}},
	{"ports_of_one_that_stays", 200, func(t *testing.T, n int) *exec.Cmd {
		return tool(limited(t), "", "classify", span(ports(t, n)))
	}},
	{"ports_of_one_explained", 200, func(t *testing.T, n int) *exec.Cmd {
		return tool(limited(t), "", "portdiag", span(ports(t, n)))
	}},
	{"ports_without_anybody", 400, func(t *testing.T, n int) *exec.Cmd {
		first := freshPorts(n)
		return tool(limited(t), "", "portdiag", fmt.Sprintf("%d-%d", first, first+n-1))
	}},
	{"workers_in_a_container", 25, func(t *testing.T, n int) *exec.Cmd {
		zoo(t, t.TempDir(), "crowd", "--holds=nothing", "--n="+strconv.Itoa(10*n))
		a, err := startZoo(t.TempDir(), "crowd", "--holds=socket", "--n="+strconv.Itoa(n))
		if err != nil {
			t.Fatal(err)
		}
		id := contain(t, a.PIDs...)
		t.Cleanup(a.end) // before its cgroup
		cmd := tool(limited(t), "", "killport", "--dry-run", a.port())
		cmd.Env = append(os.Environ(), "PATH="+engine(t, id, a.PID))
		return cmd
	}},
	{"records_of_nobody", 5500, func(t *testing.T, n int) *exec.Cmd {
		boot, _, _ := strings.Cut(string(birthOf(t, os.Getpid())), ":")
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `{"proto":"TCP","local_addr":"127.0.0.1","local_port":%d,"pid":4194304,"birth":"%s:%d:%[3]d","socket":{"inode":%[3]d,"cookie":"0x%[3]x"}}`+"\n",
				i%65535+1, boot, 1<<40+i)
		}
		return tool(limited(t), b.String(), "pkill2")
	}},
}

// engine is a folder with a docker that knows one container.
func engine(t *testing.T, id string, pid int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
echo '[{"Id":"%s","Name":"/web","State":{"Running":true,"Pid":%d},"Config":{"Image":"shop"},"HostConfig":{"NetworkMode":"host"}}]'
`, id, pid)
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// crowd plays one in which each has what is said.
func crowd(t *testing.T, n int, holds string, flags ...string) *animal {
	t.Helper()
	first := strconv.Itoa(freshPorts(n))
	return zoo(t, t.TempDir(), append([]string{"crowd", "--n=" + strconv.Itoa(n), "--holds=" + holds, "127.0.0.1:" + first}, flags...)...)
}

// ports is a server that listens on so many in a row.
func ports(t *testing.T, n int) *animal {
	t.Helper()
	first := freshPorts(n)
	return zoo(t, t.TempDir(), "serve", fmt.Sprintf("127.0.0.1:%d-%d", first, first+n-1))
}

// span are the ports of an animal, which stand in a row.
func span(a *animal) string { return fmt.Sprintf("%d-%d", a.Ports[0], a.Ports[len(a.Ports)-1]) }

// TestGrowth: four times as much to do takes about four times the processor, and
// not sixteen times. It is not about how fast this machine is, or what else it does.
// Other programs are not run: they have nothing to do with it.
func TestGrowth(t *testing.T) {
	require(t, "private")
	for _, g := range growths {
		t.Run(g.name, func(t *testing.T) {
			n := g.n
			if long() {
				n *= 2
			}
			const linear, tolerable, quadratic = 4, 8, 16
			var ratio float64
			for range 2 { // a neighbour can spoil caches
				once, fourTimes := g.cost(t, n), g.cost(t, 4*n)
				ratio = float64(fourTimes) / float64(once)
				t.Logf("%d: %v; %d: %v, %.1f times as much", n, once, 4*n, fourTimes, ratio)
				if ratio < tolerable {
					return
				}
			}
			t.Errorf("grows %.1f times; linear is %d, quadratic %d", ratio, linear, quadratic)
		})
	}
}

// cost is the processor time that the work takes.
func (g growth) cost(t *testing.T, n int) (took time.Duration) {
	t.Helper()
	t.Run(strconv.Itoa(n), func(t *testing.T) {
		cmd := g.work(t, n)
		if cmd.Env == nil {
			cmd.Env = append(os.Environ(), "PATH=/nonexistent")
		}
		res := run(t, cmd)
		if res.code < 0 || res.code > 1 || res.code == 1 && !strings.HasPrefix(filepath.Base(cmd.Path), "classify") {
			t.Errorf("%q: exit code %d: %.500s", cmd.Args, res.code, res.stderr)
		}
		took = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	})
	return took
}

// TestAskedOnce: programs that are asked for what they know are asked once, and
// not for each port.
func TestAskedOnce(t *testing.T) {
	require(t, "private")
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, program := range []string{"docker", "podman", "nerdctl", "iptables-save", "ip6tables-save", "nft", "ip", "systemctl", "loginctl"} {
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s\n", program, log)
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const n = 20
	first := freshPorts(n)
	cmd := tool(limited(t), "", "portdiag", fmt.Sprintf("%d-%d", first, first+n-1))
	cmd.Env = append(os.Environ(), "PATH="+dir+":/usr/bin:/bin")
	if res := run(t, cmd); res.code != 0 || strings.Count(res.stdout, "\n") != n {
		t.Fatalf("exit code %d, %s%s", res.code, res.stdout, res.stderr)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatalf("nobody was asked: %v", err)
	}
	asked := map[string]int{}
	for line := range strings.Lines(string(text)) {
		asked[strings.Fields(line)[0]]++
	}
	for program, times := range asked {
		if times > 2 { // each for another thing
			t.Errorf("%s was asked %d times:\n%.400s", program, times, text)
		}
	}
}
