//go:build linux

package suite_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// stays is the verdict on a holder that SIGKILL does not end, and the reason.
func stays(reason string) verdict {
	return verdict{Status: "partial", Failed: []string{"holder"}, Still: true, Remaining: []string{"holder"}, Reason: reason}
}

// inTime is within the grace period, two seconds for SIGKILL to do its work, and
// a while for a machine that has more to do. Waiting for what is on its way out
// would take ten seconds more.
const inTime = 8 * time.Second

// odd are holders that do not end as others do.
var odd = []situation{
	{
		// Nothing but SIGKILL gets through to it. What is left then has no socket,
		// and stays until its tracer takes notice.
		name: "traced", args: quick, set: play("traced"), want: cleaned("holder"),
		after: func(s *staging, o outcome) { o.within(s, inTime) },
	},
	{
		name: "traced_to_the_end", args: quick, set: play("traced", "--exit-stop"), want: stays("traced"), codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			o.within(s, inTime)
			o.says(s, "PID "+statusOf(s.cast[0].PID, "TracerPid"))
			s.live("holder")
		},
	},
	{
		name: "uninterruptible", args: quick, set: play("hung"), want: stays("uninterruptible"), codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			o.within(s, inTime)
			o.says(s, "in request_wait_answer")
			s.live("holder")
		},
	},
	{
		// The thread that leads the process ends, and what it says of itself is of
		// no use. This is how a server hangs in its file system.
		name: "uninterruptible_thread", args: quick, set: play("hung", "--thread"), want: stays("uninterruptible"), codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			o.within(s, inTime)
			o.says(s, "in request_wait_answer")
			s.live("holder")
		},
	},
	{
		name: "frozen_v1", args: quick, set: frozen(freezerV1), want: stays("frozen"), codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			o.within(s, inTime)
			o.says(s, "echo THAWED > /sys/fs/cgroup/freezer/killport-")
			s.live("holder")
		},
	},
	{
		name: "frozen_above_v1", args: quick, set: frozen(freezerAboveV1), want: stays("frozen"), codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			if strings.Contains(o.raw, "/below/") {
				s.Errorf("to thaw that does not help: %s", o.raw)
			}
			s.live("holder")
		},
	},
	{
		name: "frozen_v2", args: quick, set: frozen(freezerV2), want: cleaned("holder"),
		after: func(s *staging, o outcome) { o.within(s, inTime) },
	},
	{
		// It takes no signal that it has no handler for, save SIGKILL from outside.
		name: "init_of_a_namespace", args: quick, set: namespaceInit, want: cleaned("holder"),
		after: func(s *staging, o outcome) {
			if o.took < 300*time.Millisecond {
				s.Errorf("ended by SIGTERM, after %v", o.took)
			}
		},
	},
	{
		// What is being taken down needs no second signal.
		name: "lingering", args: []string{"--grace", "100ms"}, set: play("lingering", "--for", "800ms"), want: cleaned("holder"),
		after: func(s *staging, o outcome) {
			if o.took < 800*time.Millisecond {
				s.Errorf("it was not waited for: %v", o.took)
			}
		},
	},
	{name: "memory", set: play("memory", "--bytes", strconv.Itoa(1<<30)), want: cleaned("holder")},
	{name: "threads", set: play("threads", "--n", "500"), want: cleaned("holder")},
	{
		// It looks like one that is on its way out, and is not.
		name: "leader_gone_draining",
		set:  play("leader-gone", "--drains", "--for", "4s", "--mark", "mark"), // longer than the grace period
		want: verdict{Status: "cleaned", Released: []string{"holder"}},
		after: func(s *staging, o outcome) {
			s.live("holder")
			s.marked("drained")
		},
	},
	// The socket goes a moment after its holder: the kernel's garbage collector
	// finds it, in flight in a unix socket that is in flight in itself.
	{name: "scm_and_open", set: play("scm", "--keep"), want: cleaned("holder")},
	{name: "scm_cycle_and_open", set: play("scm", "--keep", "--cycle"), want: cleaned("holder")},
	{
		name: "scm_cycle", needs: []string{"ghosts"}, codes: "0 0 1 1",
		set: func(s *staging) {
			s.add("holder", "scm", "--cycle")
			s.through = []string{"seeing"}
		},
		want: verdict{
			Status: "ghost", Ghost: []string{"nobody"}, Still: true, Remaining: []string{"nobody"},
			Reason: "ghost", Diagnosed: "ghost",
		},
		after: lives("holder"),
	},
}

func TestOddHolders(t *testing.T) {
	require(t, "private", "bash")
	for _, sit := range odd {
		t.Run(sit.name, func(t *testing.T) {
			t.Parallel()
			require(t, sit.needs...)
			for name, script := range map[string]string{"pipe": piped, "killport": single} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					innocent := sleeper(t)
					sit.try(t, script)
					innocent.lives(t)
				})
			}
		})
	}
}

// within fails the test unless the verdict came in time.
func (o outcome) within(s *staging, limit time.Duration) {
	s.Helper()
	if o.took > limit {
		s.Errorf("took %v, want %v at most", o.took, limit)
	}
}

// says fails the test unless the hint has these words.
func (o outcome) says(s *staging, words string) {
	s.Helper()
	if hint := gjson.Get(o.raw, "hint").Str; !strings.Contains(hint, words) {
		s.Errorf("hint %q, want %q in it", hint, words)
	}
}

// statusOf reads a line of /proc/PID/status.
func statusOf(pid int, key string) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "\n"+key+":\t")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// freezer is a kind of cgroup that freezes processes.
type freezer struct {
	root, below  string // where the holder goes, below the one that is frozen
	file         string
	freeze, thaw string
	state, is    string // a file, and what is in it when all are frozen
}

var (
	freezerV1      = freezer{"/sys/fs/cgroup/freezer", "", "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN\n"}
	freezerAboveV1 = freezer{"/sys/fs/cgroup/freezer", "below", "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN\n"}
	freezerV2      = freezer{"/sys/fs/cgroup/unified", "", "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1\n"}
)

// frozen is a situation with a holder in a frozen cgroup. It must be thawed
// again: as long as it is not, nothing ends the holder, nor our PID namespace.
func frozen(f freezer) func(*staging) {
	return func(s *staging) {
		if _, err := os.Stat(filepath.Join(f.root, "cgroup.procs")); f == freezerV2 && err != nil {
			f.root = "/sys/fs/cgroup" // of systems without v1
		}
		dir, _ := cgroup(s, f.root, f.below)
		a := s.add("holder", "serve")
		write := func(name, value string) error { return os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644) }
		if err := write(filepath.Join(f.below, "cgroup.procs"), strconv.Itoa(a.PID)); err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() {
			if err := write(f.file, f.thaw); err != nil {
				s.Error(err)
			}
		})
		if err := write(f.file, f.freeze); err != nil {
			s.Skipf("cannot be frozen: %v", err)
		}
		if !eventually(patience, func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, f.state))
			return strings.Contains(string(b), f.is)
		}) {
			s.Fatal("it does not freeze")
		}
	}
}

// gone removes a cgroup, once it is empty.
func gone(dir string) bool {
	err := unix.Rmdir(dir)
	return err == nil || errors.Is(err, unix.ENOENT)
}

// namespaceInit has PID 1 of a PID namespace within ours hold the port: a shell
// that waits for a line.
func namespaceInit(s *staging) {
	s.fresh()
	l, err := net.Listen("tcp4", s.at("127.0.0.1"))
	if err != nil {
		s.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		s.Fatal(err)
	}
	in, leash, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "read line")
	cmd.Stdin, cmd.ExtraFiles = in, []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	err = cmd.Start()
	for _, c := range []interface{ Close() error }{l, socket, in} {
		c.Close()
	}
	if err != nil {
		s.Skipf("no PID namespace: %v", err)
	}
	s.roles[cmd.Process.Pid] = "holder"
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.Cleanup(func() {
		defer leash.Close()
		if procState(cmd.Process.Pid) != "" && len(ended) == 0 { // nobody has ended it
			leash.Close()
			<-ended
		} else if err := <-ended; cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			s.Errorf("it ended otherwise than by SIGKILL: %v", err)
		}
	})
}

// TestOneSignal: a holder whose end takes longer than the grace period is sent
// one signal, and so is one that has 1,000 sockets.
func TestOneSignal(t *testing.T) {
	require(t, "private", "strace")
	for _, tt := range []struct {
		grace string
		args  []string
	}{
		{"1s", []string{"lingering", "--for", "2500ms"}},
		{"10s", []string{"many", "--n", "1000"}},
	} {
		t.Run(tt.args[0], func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a := zoo(t, dir, tt.args...)
			trace := filepath.Join(dir, "trace")
			ports := a.Ports
			if len(ports) == 0 {
				ports = []int{a.Port}
			}
			res := run(t, tool(t.Context(), list(t, ports...), "strace", "-f", "-qq", "-e", "trace=pidfd_send_signal", "-o", trace,
				"pkill2", "--grace", tt.grace))
			var sent []string
			text, _ := os.ReadFile(trace)
			for line := range strings.Lines(string(text)) {
				if _, call, ok := strings.Cut(line, "pidfd_send_signal("); ok {
					sent = append(sent, strings.Split(call, ", ")[1])
				}
			}
			if diff := gocmp.Diff([]string{"SIGTERM", "SIGCONT"}, sent); diff != "" {
				t.Errorf("signals (-want +got):\n%s", diff)
			}
			n := 0
			for line := range strings.Lines(res.stdout) {
				n++
				if done := gjson.Get(line, "pkill2"); done.Get("outcome").Str != "terminated" || done.Get("signals").Raw != `["SIGTERM"]` {
					t.Fatalf("record %d: %s", n, line)
				}
			}
			if n != len(ports) || res.code != 0 {
				t.Errorf("%d records, exit code %d; want %d, 0: %s", n, res.code, len(ports), res.stderr)
			}
		})
	}
}

// TestManyListeners: 1,000 listeners among 10,000 sockets of one process are
// all listed, and go with it.
func TestManyListeners(t *testing.T) {
	require(t, "private")
	t.Parallel()
	const listeners, limit = 1000, patience
	a := zoo(t, t.TempDir(), "many", "--n", strconv.Itoa(listeners), "--idle-fds", "9000")
	ports := map[int64]bool{}
	var words []string
	for _, port := range a.Ports {
		ports[int64(port)] = true
		words = append(words, strconv.Itoa(port))
	}
	all := strings.Join(words, ",")
	res := run(t, tool(t.Context(), "", "listeners", all))
	for line := range strings.Lines(res.stdout) {
		if gjson.Get(line, "pid").Int() != int64(a.PID) || gjson.Get(line, "birth").Str == "" {
			t.Fatalf("want PID %d and its birth: %s", a.PID, line)
		}
		delete(ports, gjson.Get(line, "local_port").Int())
	}
	if len(ports) > 0 || strings.Count(res.stdout, "\n") != listeners || res.took > limit {
		t.Errorf("%d ports are missing, after %v", len(ports), res.took)
	}
	res = run(t, tool(t.Context(), "", "killport", all))
	for line := range strings.Lines(res.stdout) {
		if gjson.Get(line, "status").Str != "cleaned" || gjson.Get(line, "killed").Raw != fmt.Sprintf("[%d]", a.PID) {
			t.Fatalf("want it cleaned of PID %d: %s", a.PID, line)
		}
	}
	if strings.Count(res.stdout, "\n") != listeners || res.code != 0 || res.took > limit {
		t.Errorf("exit code %d after %v, %d records: %s", res.code, res.took, strings.Count(res.stdout, "\n"), res.stderr)
	}
}

// TestRange: one process has every other port of a range, and an innocent the
// one behind it.
func TestRange(t *testing.T) {
	require(t, "private")
	t.Parallel()
	const n = 100
	first := freshPorts(n + 1)
	addrs := []string{"serve"}
	for port := first; port < first+n; port += 2 {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
	}
	holder := zoo(t, t.TempDir(), addrs...)
	beside := zoo(t, t.TempDir(), "serve", fmt.Sprintf("127.0.0.1:%d", first+n))
	res := run(t, tool(t.Context(), "", "killport", fmt.Sprintf("%d-%d", first, first+n-1)))
	want := []struct{ status, killed string }{{"cleaned", fmt.Sprintf("[%d]", holder.PID)}, {"free", "[]"}}
	lines := 0
	for line := range strings.Lines(res.stdout) {
		if want := want[lines%2]; gjson.Get(line, "port").Int() != int64(first+lines) ||
			gjson.Get(line, "status").Str != want.status || gjson.Get(line, "killed").Raw != want.killed {
			t.Errorf("record %d, want %v: %s", lines+1, want, line)
		}
		lines++
	}
	if lines != n || res.code != 0 {
		t.Errorf("%d records, exit code %d; want %d, 0: %s", lines, res.code, n, res.stderr)
	}
	beside.lives(t, beside.PID)
}

// TestVanishing: processes that end while they are looked at hide nobody, and
// make nobody a ghost.
func TestVanishing(t *testing.T) {
	require(t, "ghosts")
	const sleepers = 2000
	stdin, leash, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	silence, w, err := os.Pipe() // which they read from, and nobody writes to
	if err != nil {
		t.Fatal(err)
	}
	// They end one after the other, once the leash is let go.
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do read x <&3 & p="$p $!"; i=$((i+1)); done; echo ready; read line; for i in $p; do kill $i; wait $i; done`, sleepers)
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdin, cmd.ExtraFiles = stdin, []*os.File{silence}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	stdin.Close()
	silence.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leash.Close(); w.Close(); _ = cmd.Wait() })
	if n, err := ready.Read(make([]byte, 16)); n == 0 {
		t.Fatal(err)
	}
	a := zoo(t, t.TempDir(), "serve")
	ghost := zoo(t, t.TempDir(), "scm")
	leash.Close()
	end := time.Now().Add(patience)
	crowds := 0
	for n := sleepers; n > 100 && time.Now().Before(end); crowds++ {
		n = processes(t)
		if line := list(t, a.Port); gjson.Get(line, "pid").Int() != int64(a.PID) {
			t.Fatalf("want PID %d: %s", a.PID, line)
		}
		if _, line := (sight{through: []string{"seeing"}}).run(t, "listeners", ghost.port()); line.Get("owner").Str != "none" {
			t.Fatalf("want a ghost: %s", line)
		}
	}
	t.Logf("looked %d times", crowds)
}

func processes(t *testing.T) (n int) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
