//go:build linux

package suite_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// badLines are lines that are no record to act on: $pid is of a process that
// lives, $port and the $rest are what listeners says of it.
var badLines = map[string]string{
	"garbage":         `killport 8000`,
	"array":           `[{"pid":$pid,"local_port":$port}]`,
	"string":          `"$pid"`,
	"number":          `$pid`,
	"null":            `null`,
	"no_pid":          `{"local_port":$port,$rest}`,
	"pid_null":        `{"pid":null,"local_port":$port,$rest}`,
	"pid_float":       `{"pid":$pid.0,"local_port":$port,$rest}`,
	"pid_exponent":    `{"pid":${pid}e0,"local_port":$port,$rest}`,
	"pid_string":      `{"pid":"$pid","local_port":$port,$rest}`,
	"pid_boolean":     `{"pid":true,"local_port":$port,$rest}`,
	"pid_array":       `{"pid":[$pid],"local_port":$port,$rest}`,
	"pid_object":      `{"pid":{"pid":$pid},"local_port":$port,$rest}`,
	"pid_negative":    `{"pid":-$pid,"local_port":$port,$rest}`,
	"pid_minus_one":   `{"pid":-1,"local_port":$port,$rest}`,
	"pid_huge":        `{"pid":18446744073709551617,"local_port":$port,$rest}`,
	"pid_wraps":       `{"pid":4294967297,"local_port":$port,$rest}`,
	"pid_zero":        `{"pid":0,"local_port":$port,$rest}`,
	"pid_leading_0":   `{"pid":0$pid,"local_port":$port,$rest}`,
	"pid_plus":        `{"pid":+$pid,"local_port":$port,$rest}`,
	"pid_hex":         `{"pid":0x1F,"local_port":$port,$rest}`,
	"pid_twice":       `{"pid":$pid,"local_port":$port,"pid":$pid,$rest}`,
	"pid_upper_case":  `{"PID":$pid,"local_port":$port,$rest}`,
	"pid_both_cases":  `{"pid":$pid,"local_port":$port,"Pid":$pid,$rest}`,
	"pid_escaped":     `{"pid":$pid,"local_port":$port,"\u0070id":$pid,$rest}`,
	"no_port":         `{"pid":$pid,$rest}`,
	"port_zero":       `{"pid":$pid,"local_port":0,$rest}`,
	"port_too_high":   `{"pid":$pid,"local_port":65536,$rest}`,
	"birth_twice":     `{"pid":$pid,"local_port":$port,"birth":"x",$rest}`,
	"birth_number":    `{"pid":$pid,"local_port":$port,"birth":1}`,
	"socket_string":   `{"pid":$pid,"local_port":$port,"socket":"1"}`,
	"inode_negative":  `{"pid":$pid,"local_port":$port,"socket":{"inode":-1}}`,
	"owner_and_pid":   `{"pid":$pid,"local_port":$port,"owner":"none",$rest}`,
	"two_values":      `{"pid":$pid,"local_port":$port,$rest} {"pid":$pid,"local_port":$port,$rest}`,
	"trailing_comma":  `{"pid":$pid,"local_port":$port,$rest,}`,
	"truncated":       `{"local_port":$port,$rest,"pid":$pid`,
	"truncated_in":    `{"local_port":$port,$rest,"pid":`,
	"control":         "{\"pid\":$pid,\"local_port\":$port,$rest,\"x\":\"\x1b[2J\x07\"}",
	"carriage_return": "{\"pid\":$pid,\r\"local_port\":$port,$rest}",
	"nul":             "{\"pid\":$pid,\x00\"local_port\":$port,$rest}",
	"nested":          `{"pid":$pid,"local_port":$port,$rest,"x":` + strings.Repeat("[", 1e6) + `}`,
	"nested_objects":  strings.Repeat(`{"x":`, 200_000),
	"comment":         `{"pid":$pid,"local_port":$port,$rest} // mine`,
}

// TestBadLine: a bad line 7 is named on stderr and never acted on, whatever
// stands around it is, and the exit code says that there was one.
func TestBadLine(t *testing.T) {
	require(t, "private")
	innocent := zoo(t, t.TempDir(), "serve")
	record := strings.TrimSpace(list(t, innocent.Port))
	_, rest, ok := strings.Cut(strings.TrimSuffix(record, "}"), fmt.Sprintf(`"pid":%d,`, innocent.PID))
	if !ok {
		t.Fatalf("no PID %d in %s", innocent.PID, record)
	}
	said := map[string]string{"pid": strconv.Itoa(innocent.PID), "port": strconv.Itoa(innocent.Port), "rest": rest}
	for name, line := range badLines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			badLine(t, os.Expand(line, func(key string) string { return said[key] }))
			innocent.lives(t, innocent.PID)
		})
	}
}

func list(t testing.TB, ports ...int) string {
	t.Helper()
	var args []string
	for _, port := range ports {
		args = append(args, strconv.Itoa(port))
	}
	return run(t, exec.Command("listeners", args...)).stdout
}

func badLine(t *testing.T, bad string) {
	first, last := zoo(t, t.TempDir(), "serve"), zoo(t, t.TempDir(), "serve")
	input := list(t, first.Port) + strings.Repeat("\n", 5) + bad + "\n" + list(t, last.Port)
	for _, stage := range []struct{ name, want string }{
		{"pidcheck", `"state":"alive"`},
		{"classify", `"still_listening":true`},
		{"pkill2", `"outcome":"terminated"`},
	} {
		res := run(t, tool(limited(t), input, stage.name))
		if n := strings.Count(res.stdout, "\n"); n != 2 || strings.Count(res.stdout, stage.want) < 2 {
			t.Errorf("%s: want 2 records, of the good lines, with %s:\n%s", stage.name, stage.want, res.stdout)
		}
		if voice := regexp.MustCompile(`\A` + stage.name + `: error: line 7: .{1,400}\n\z`); res.code != 2 || !voice.MatchString(res.stderr) {
			t.Errorf("%s: exit code %d, want 2; stderr, want a line on line 7:\n%s", stage.name, res.code, res.stderr)
		}
	}
	for _, holder := range []*animal{first, last} {
		if !eventually(patience, holder.pins[holder.PID].ended) {
			t.Errorf("PID %d, of a good line, is alive", holder.PID)
		}
	}
}

// TestEndlessLine: a line of 100 MB takes bounded memory, is an error, and the
// next line counts.
func TestEndlessLine(t *testing.T) {
	require(t, "private")
	for stage, want := range map[string]string{
		"pidcheck": `"state":"alive"`, "classify": `"status":"stuck"`, "pkill2": `"outcome":"terminated"`,
	} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			holder := zoo(t, t.TempDir(), "serve")
			f := feed(t, stage)
			f.say(t, `{"x":"`)
			for range 100 {
				f.say(t, strings.Repeat("x", 1<<20))
			}
			f.say(t, "\"}\n"+list(t, holder.Port))
			if !eventually(patience, func() bool { return f.unread(t) == 0 }) {
				t.Fatal("it does not read")
			}
			if peak := f.peak(t); peak > 32<<10 {
				t.Errorf("it took %d KiB of memory", peak)
			}
			f.in.Close()
			if line := f.hear(t); !strings.Contains(line, want) {
				t.Errorf("line 2 gave %q, want %s", line, want)
			}
			if err := f.cmd.Wait(); f.cmd.ProcessState.ExitCode() != 2 {
				t.Errorf("%v, want exit code 2", err)
			}
			if got := f.stderr.String(); !strings.HasPrefix(got, stage+": error: line 1: line is longer than ") {
				t.Errorf("stderr %q, want an error of line 1", got)
			}
		})
	}
}

// TestSlowProducer: pidcheck gives each record on as it comes; pkill2 acts on
// none before it has them all.
func TestSlowProducer(t *testing.T) {
	require(t, "private")
	holder := zoo(t, t.TempDir(), "serve")
	record := list(t, holder.Port)

	pidcheck := feed(t, "pidcheck")
	for range 3 {
		pidcheck.say(t, record)
		if line := pidcheck.hear(t); !strings.Contains(line, `"state":"alive"`) {
			t.Errorf("pidcheck: %q", line)
		}
	}
	pidcheck.in.Close()

	pkill2 := feed(t, "pkill2")
	pkill2.say(t, record)
	if !eventually(patience, func() bool { return pkill2.unread(t) == 0 }) {
		t.Fatal("pkill2 does not read")
	}
	holder.lives(t, holder.PID)
	pkill2.in.Close()
	if line := pkill2.hear(t); !strings.Contains(line, `"outcome":"terminated"`) {
		t.Errorf("pkill2: %q", line)
	}
}

// TestInterruptedInput: whoever is interrupted while it waits for its input
// does nothing about what it has read.
func TestInterruptedInput(t *testing.T) {
	require(t, "private")
	for _, stage := range []string{"pidcheck", "pkill2", "classify"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			holder := zoo(t, t.TempDir(), "serve")
			f := feed(t, stage)
			f.say(t, list(t, holder.Port))
			if !eventually(patience, func() bool { return f.unread(t) == 0 }) {
				t.Fatal("it does not read")
			}
			if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := f.cmd.Wait(); f.cmd.ProcessState.ExitCode() != 130 {
				t.Errorf("%v, want exit code 130: %s", err, f.stderr)
			}
			holder.lives(t, holder.PID)
		})
	}
}

// fed is a stage that is spoken to line by line.
type fed struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *bufio.Reader
	stderr *bytes.Buffer
}

func feed(t *testing.T, name string) fed {
	t.Helper()
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f := fed{cmd: tool(limited(t), "", name), in: in, out: bufio.NewReader(out), stderr: new(bytes.Buffer)}
	f.cmd.Stdin, f.cmd.Stdout, f.cmd.Stderr = stdin, stdout, f.stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	_ = out.SetReadDeadline(time.Now().Add(patience))
	t.Cleanup(func() {
		in.Close()
		out.Close()
		_ = f.cmd.Wait() // its exit code is that of SIGPIPE, if it had more to say
	})
	return f
}

func (f fed) say(t *testing.T, line string) {
	t.Helper()
	if _, err := f.in.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

func (f fed) hear(t *testing.T) string {
	t.Helper()
	line, err := f.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return line
}

// peak is how much memory the stage has used at most, in KiB. (The rusage of a
// child counts the memory of who started it.)
func (f fed) peak(t *testing.T) int {
	t.Helper()
	kib := highWater(f.cmd.Process.Pid)
	if kib == 0 {
		t.Fatal("it has ended")
	}
	return kib
}

// unread is how many bytes are left in the pipe.
func (f fed) unread(t *testing.T) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.in.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
