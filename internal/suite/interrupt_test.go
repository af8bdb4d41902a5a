//go:build linux

package suite_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// promptly is how soon a command has to end that was interrupted, on a machine
// that has more to do. Their grace period is longer.
const promptly = 10 * time.Second

// ends are the signals by which people and their programs interrupt.
var ends = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}

// begin starts a command, which ends with the test at the latest.
func begin(t *testing.T, cmd *exec.Cmd) *started {
	t.Helper()
	s := &started{cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &s.stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &s.stderr
	}
	cmd.WaitDelay = time.Second // another one may have its output still
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.done
	})
	return s
}

// finish waits for the end of s, and wants an exit code.
func (s *started) finish(t *testing.T, code int) {
	t.Helper()
	if !eventually(promptly, s.ended) {
		t.Fatalf("%q does not end", s.cmd.Args)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%q: %v, want exit code %d: %s%s", s.cmd.Args, s.cmd.ProcessState, code, s.stdout.String(), s.stderr.String())
	}
}

func (s *started) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// TestInterrupted: what was sent is reported, and nothing more is sent.
func TestInterrupted(t *testing.T) {
	require(t, "private")
	for _, sig := range ends {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			for command, wants := range map[string]map[string]string{
				"killport --grace 1m $port": {
					"status": `"partial"`, "reason": `"interrupted"`, "failed": `[$pid]`, "remaining_pids": `[$pid]`, "killed": `[]`,
				},
				"pkill2 --grace 1m": {"pkill2.outcome": `"interrupted"`, "pkill2.signals": `["SIGTERM"]`},
			} {
				a := zoo(t, t.TempDir(), "block-term")
				fill := strings.NewReplacer("$port", a.port(), "$pid", strconv.Itoa(a.PID))
				s := begin(t, tool(t.Context(), list(t, a.Port), strings.Fields(fill.Replace(command))...))
				if !eventually(patience, func() bool { return pending(a.PID) }) {
					t.Fatal("no SIGTERM came")
				}
				_ = s.cmd.Process.Signal(sig)
				s.finish(t, 130)
				for path, want := range wants {
					if got := gjson.Get(s.stdout.String(), path).Raw; got != fill.Replace(want) {
						t.Errorf("%s: %s is %s, want %s: %s", command, path, got, fill.Replace(want), s.stdout.String())
					}
				}
				a.lives(t, a.PID)
			}
		})
	}
}

// TestInterruptedAmongMany: once the interrupt is there, at most the signal that is
// under way goes out. Each one is held up for so long that this can be seen.
func TestInterruptedAmongMany(t *testing.T) {
	require(t, "private", "strace")
	const delay = 150 * time.Millisecond // in which any machine hands an interrupt on
	for _, command := range []string{"killport", "killport --grace=0s", "pkill2", "pkill2 --grace=0s"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			a := crowd(t, 20, "port")
			argv := strings.Fields(command)
			if argv[0] == "killport" {
				argv = append(argv, a.port())
			}
			log := filepath.Join(t.TempDir(), "strace")
			cmd := tool(t.Context(), list(t, a.Port), append([]string{
				"strace", "-f", "-qq", "-o", log, "-e", "signal=none",
				"-e", "trace=pidfd_send_signal", "-e", fmt.Sprintf("inject=pidfd_send_signal:delay_enter=%d", delay.Microseconds()),
			}, argv...)...)
			s := begin(t, cmd)
			left := interruptOnce(t, s, a, func() int { return children(cmd.Process.Pid)[0] })
			if n := left - len(children(a.Parent)); n > 2 { // one is under way, and one may be before we are
				t.Errorf("%d of %d were signalled after the interrupt", n, left)
			}
		})
	}
}

// TestInterruptedAmongHundreds is the same without anything that holds them up:
// while the kernel and the Go runtime hand the interrupt on, some more go out: 2 as a
// rule, 24 where 40 processes waited for two processors. There the interrupt itself
// may be late, after all is done, so that it gets three tries.
func TestInterruptedAmongHundreds(t *testing.T) {
	require(t, "private")
	const tries, many = 3, 30
	var after []int
	for range tries {
		a := crowd(t, 300, "port")
		s := begin(t, tool(t.Context(), list(t, a.Port), "pkill2"))
		left := interruptOnce(t, s, a, func() int { return s.cmd.Process.Pid })
		after = append(after, left-len(children(a.Parent)))
		if said, ended := strings.Count(s.stdout.String(), `"signals":["SIGTERM"]`), len(a.PIDs)-len(children(a.Parent)); said != ended {
			t.Errorf("%d are said to have been signalled, %d have ended", said, ended)
		}
	}
	t.Logf("%d were signalled after the interrupt", after)
	if slices.Min(after) > many {
		t.Errorf("%d were signalled after the interrupt", after)
	}
}

// interruptOnce sends SIGINT as soon as one of a crowd has ended, and returns how
// many there were left then, when all is over.
func interruptOnce(t *testing.T, s *started, a *animal, whom func() int) (left int) {
	t.Helper()
	if !eventually(patience, func() bool { left = len(children(a.Parent)); return left < len(a.PIDs) }) {
		t.Fatal("nobody ends")
	}
	p, err := pinned(whom())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	left = len(children(a.Parent))
	p.signal(unix.SIGINT)
	if !eventually(promptly, s.ended) {
		t.Fatalf("%q does not end", s.cmd.Args)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 130 && len(children(a.Parent)) > 0 {
		t.Errorf("exit code %d, want 130: %s", code, s.stderr.String())
	}
	time.Sleep(50 * time.Millisecond) // nothing says that nobody is ending any more
	return left
}

// children are those of the thread that leads the process (CONFIG_PROC_CHILDREN).
func children(pid int) (pids []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for word := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestInterruptedPipe: Ctrl-C is for the whole pipe, and its verdict is that of
// killport.
func TestInterruptedPipe(t *testing.T) {
	require(t, "private", "bash")
	t.Parallel()
	a := zoo(t, t.TempDir(), "block-term")
	cmd := tool(t.Context(), "", "bash", "-c", "trap : INT; "+piped, "bash", a.port(), "--grace", "1m")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s := begin(t, cmd)
	if !eventually(patience, func() bool { return pending(a.PID) }) {
		t.Fatal("no SIGTERM came")
	}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGINT)
	s.finish(t, 0)
	if !strings.HasSuffix(s.stderr.String(), "0 0 130 130\n") {
		t.Errorf("exit codes, want 0 0 130 130: %s", s.stderr.String())
	}
	if line := s.stdout.String(); gjson.Get(line, "status").Str != "partial" || gjson.Get(line, "reason").Str != "interrupted" ||
		gjson.Get(line, "failed").Raw != fmt.Sprintf("[%d]", a.PID) {
		t.Errorf("want it partial, interrupted: %s", line)
	}
	a.lives(t, a.PID)
}

// TestInterruptedTwice: whoever has no patience with the first signal is heard.
func TestInterruptedTwice(t *testing.T) {
	require(t, "private")
	for _, sig := range ends {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			a := zoo(t, t.TempDir(), "block-term")
			cmd := exec.CommandContext(t.Context(), "killport", "--grace", "1m", a.port())
			r, w := fullPipe(t)
			defer r.Close()
			cmd.Stdout = w // so that it cannot say what it has done
			s := begin(t, cmd)
			w.Close()
			if !eventually(patience, func() bool { return pending(a.PID) }) {
				t.Fatal("no SIGTERM came")
			}
			_ = cmd.Process.Signal(sig)
			if !eventually(patience, func() bool { return waitsIn(cmd.Process.Pid, "pipe_write") }) {
				t.Fatal("it does not write")
			}
			// One that comes on the heels of the first may be taken for the same.
			again := func() bool { _ = cmd.Process.Signal(sig); return s.ended() }
			if !eventually(promptly, again) {
				t.Fatal("it does not end")
			}
			if got := cmd.ProcessState.Sys().(syscall.WaitStatus); got.Signal() != sig {
				t.Errorf("ended by %v, want %v", cmd.ProcessState, sig)
			}
			a.lives(t, a.PID)
		})
	}
}

// fullPipe is a pipe that has no room.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// waitsIn reports whether a thread of the process waits in that function of the
// kernel.
func waitsIn(pid int, function string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	return slices.ContainsFunc(files, func(file string) bool {
		wchan, _ := os.ReadFile(file)
		return strings.Contains(string(wchan), function)
	})
}

// TestInterruptedReading: a stage that waits for records does not hold anybody
// up, and pkill2 does nothing with those that it has.
func TestInterruptedReading(t *testing.T) {
	require(t, "private")
	for _, stage := range []string{"pidcheck", "pkill2", "classify"} {
		for _, sig := range ends {
			t.Run(stage+"/"+sig.String(), func(t *testing.T) {
				t.Parallel()
				a := zoo(t, t.TempDir(), "block-term")
				f := feed(t, stage)
				f.say(t, list(t, a.Port))
				if !eventually(patience, func() bool { return f.unread(t) == 0 }) {
					t.Fatal("it does not read")
				}
				ended := make(chan struct{})
				go func() { _ = f.cmd.Wait(); close(ended) }()
				_ = f.cmd.Process.Signal(sig)
				select {
				case <-ended:
				case <-time.After(promptly):
					_ = f.cmd.Process.Kill()
					<-ended
					t.Fatal("it does not end")
				}
				if got := f.cmd.ProcessState.ExitCode(); got != 130 {
					t.Errorf("%v, want exit code 130: %s", f.cmd.ProcessState, f.stderr)
				}
				if line := f.hear(t); stage == "pkill2" && (gjson.Get(line, "pkill2.outcome").Str != "interrupted" || gjson.Get(line, "pkill2.signals").Exists()) {
					t.Errorf("want nothing sent: %s", line)
				}
				if pending(a.PID) {
					t.Error("SIGTERM was sent")
				}
				a.lives(t, a.PID)
			})
		}
	}
}

// TestNohup: whoever has it ignore a signal is heard, too: nohup, or a shell
// that started it in the background.
func TestNohup(t *testing.T) {
	require(t, "private")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			a := zoo(t, t.TempDir(), "block-term")
			s := begin(t, tool(t.Context(), "", "sh", "-c",
				fmt.Sprintf(`trap "" %d; exec killport --grace 500ms %d`, sig, a.Port)))
			if !eventually(patience, func() bool { return pending(a.PID) }) {
				t.Fatal("no SIGTERM came")
			}
			_ = s.cmd.Process.Signal(sig)
			s.finish(t, 0)
			if status := gjson.Get(s.stdout.String(), "status").Str; status != "cleaned" {
				t.Errorf("status %q, want cleaned", status)
			}
		})
	}
}

// TestSlowReader: who does not read what we say does not gain time for those
// who are to end.
func TestSlowReader(t *testing.T) {
	require(t, "private")
	const ports = 600 // whose records do not fit into a pipe
	for _, command := range []string{"killport", "pkill2"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			many, stubborn := zoo(t, dir, "many", "--n", strconv.Itoa(ports)), zoo(t, dir, "block-term")
			argv, stdin := []string{command, "--grace", "500ms"}, ""
			if all := append(slices.Clone(many.Ports), stubborn.Port); command == "killport" {
				argv = append(argv, strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ","), "[]"))
			} else {
				stdin = list(t, all...)
			}
			r, w := fullPipe(t)
			cmd := tool(t.Context(), stdin, argv...)
			cmd.Stdout = w
			s := begin(t, cmd)
			w.Close()
			for _, a := range []*animal{many, stubborn} {
				if !eventually(patience, a.pins[a.PID].ended) {
					t.Errorf("PID %d of zoo %q lives as long as nobody reads", a.PID, a.cmd.Args[1:])
				}
			}
			if !eventually(patience, func() bool { return waitsIn(cmd.Process.Pid, "pipe_write") }) {
				t.Error("it does not wait for its reader")
			}
			text, err := io.ReadAll(r)
			if n := strings.Count(string(text), "\n"); n != ports+1 || err != nil {
				t.Errorf("%d records, %v; want %d", n, err, ports+1)
			}
			s.finish(t, 0)
		})
	}
}

// TestHeldTerminal: nor does a terminal that shows nothing any more (Ctrl-S).
func TestHeldTerminal(t *testing.T) {
	require(t, "private")
	t.Parallel()
	a := zoo(t, t.TempDir(), "block-term")
	terminal := heldTerminal(t)
	cmd := exec.CommandContext(t.Context(), "killport", "--grace", "1s", a.port())
	cmd.Stderr = terminal
	s := begin(t, cmd)
	if !eventually(patience, a.pins[a.PID].ended) {
		t.Error("the holder lives as long as the terminal is held")
	}
	s.finish(t, 0)
}

// heldTerminal is a pseudo terminal (pts(4)) that takes no more output.
func heldTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { terminal.Close() })
	const off = 0 // TCOOFF
	if err := unix.IoctlSetInt(int(terminal.Fd()), unix.TCXONC, off); err != nil {
		t.Fatal(err)
	}
	return terminal
}

// TestMonotonicClock: a step of the wall clock moves no deadline. A time.Time of
// time.Now has the monotonic clock in it, which comparisons, Sub, Since and Until
// use; what takes it out, or makes a time without it, is here with its reason.
func TestMonotonicClock(t *testing.T) {
	known := []string{
		"pkg/process/inspect_linux.go: UTC",    // when a process started, for people
		"pkg/process/inspect_linux.go: Unix",   // likewise
		"pkg/process/inspect_windows.go: UTC",  // likewise
		"pkg/process/inspect_windows.go: Unix", // likewise; two such times of the kernel are compared, not with now
		"pkg/process/pin_linux.go: Unix",       // a deadline that is long over, whatever the time
	}
	methods := []string{"Round", "Truncate", "UTC", "Local", "In", "AddDate", "Unix", "UnixMilli", "UnixMicro", "UnixNano"}
	functions := []string{"Date", "Parse", "ParseInLocation", "Unix", "UnixMilli", "UnixMicro"}
	var found []string
	root := os.DirFS(filepath.Join("..", ".."))
	for _, dir := range []string{"pkg", "internal/cli", "cmd"} {
		err := fs.WalkDir(root, dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"time"` }) {
				return nil
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				fun, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				of, names := ast.Unparen(fun.X), methods
				if pkg, ok := of.(*ast.Ident); ok && pkg.Name == "time" {
					names = functions
				}
				if slices.Contains(names, fun.Sel.Name) {
					found = append(found, path+": "+fun.Sel.Name)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	if diff := gocmp.Diff(known, slices.Compact(found)); diff != "" {
		t.Errorf("times without the monotonic clock (-want +got):\n%s", diff)
	}
}

// hostile are names that a process may give itself: the flags of the zoo, and
// the name as JSON has it.
var hostile = []struct {
	name  string
	flags []string
	comm  string // as pidcheck must give it; "": whatever it is
}{
	{"escape", []string{`--comm=\x1b[31mred`}, "\x1b[31mred"},
	{"osc_and_bel", []string{`--comm=\x1b]0;owned\a`, `--argv=\x1b]52;c;b3duZWQ=\a`}, "\x1b]0;owned\a"},
	{"c1", []string{`--comm=\u009b2J\u0090x\u009c`, `--argv=\u009b2J`}, "\u009b2J\u0090x\u009c"},
	{"c1_bytes", []string{`--comm=\x9b2J`, `--argv=\x9b2J`}, ""},
	{"bidi", []string{`--comm=\u202egnp\u2069`, `--argv=\u202egnp\u202c\u2066x\u2069\u200f\u061c`}, "\u202egnp\u2069"},
	{"newlines", []string{`--comm=a\nb\r\nc`, `--argv=a\nb\r\u0085\u2028\u2029c`}, "a\nb\r\nc"},
	{"stat", []string{`--comm=) R 1 1 1 (`, `--argv=) R 1`}, ") R 1 1 1 ("},
	{"zombie", []string{`--comm=x) Z 1`}, "x) Z 1"},
	{"status", []string{`--comm=x\nTracerPid:`}, "x\nTracerPid:"},
	{"json", []string{`--comm=\",\"pid\":1,\"`, `--argv=\"},{\"pid\":1}`}, `","pid":1,"`},
	{"backslash", []string{`--comm=\\u001b\\`, `--argv=\\x1b[2J`}, `\u001b\`},
	{"empty", []string{`--comm=`, `--argv=`}, ""},
	{"not_utf8", []string{`--comm=\xff\xfe\xc3(`, `--argv=\xff\xfe\xc0\x80\xed\xa0\x80`}, ""},
	{"invisible", []string{`--comm=a\u200bb\u00ad`, `--argv=\ufeff\u200d\U000e0041`}, "a\u200bb\u00ad"},
	{"huge", []string{`--comm=x\x7f`, `--argv=\x1b[2J`, `--argv-bytes=4194304`}, "x\x7f"},
	{"exe", []string{`--comm=x`, `--exe=a) R 1\n\x1b[2J\u202e\xff`}, "x"},
}

// TestHostileNames: whatever a process calls itself, each command lists it and
// it is ended, and neither a terminal nor a reader of JSON comes to harm.
func TestHostileNames(t *testing.T) {
	require(t, "private", "script")
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a := zoo(t, dir, append([]string{"hostile-name"}, tt.flags...)...)
			if out := list(t, a.Port); gjson.Get(out, "pid").Int() != int64(a.PID) {
				t.Fatalf("want PID %d: %s", a.PID, out)
			}
			for _, command := range []string{
				"listeners P",
				"listeners P | pidcheck",
				"listeners P | pidcheck | pkill2 --dry-run",
				"listeners P | pidcheck | pkill2 --dry-run | classify",
				"portdiag P",
				"killport diagnose P",
				"killport --dry-run P",
				"listeners P | pidcheck | pkill2 --grace 300ms",
			} {
				a.pronounced(t, strings.ReplaceAll(command, "P", a.port()), tt.comm)
			}
			if !eventually(patience, a.pins[a.PID].ended) {
				t.Errorf("PID %d was not ended", a.PID)
			}
			b := zoo(t, dir, append([]string{"hostile-name"}, tt.flags...)...)
			res := run(t, terminal(t, "killport "+b.port()))
			harmless(t, "killport", res.stdout)
			if !strings.Contains(res.stdout, "cleaned") || res.code != 0 {
				t.Errorf("killport on a terminal: exit code %d, want it cleaned: %q", res.code, res.stdout)
			}
		})
	}
}

func terminal(t *testing.T, command string) *exec.Cmd {
	return tool(t.Context(), "", "script", "-qec", command, "/dev/null")
}

// pronounced runs a command, on a terminal unless it is one that ends it, and
// with a reader of JSON.
func (a *animal) pronounced(t *testing.T, command, comm string) {
	t.Helper()
	if !strings.Contains(command, "--grace") {
		res := run(t, terminal(t, command))
		harmless(t, command, res.stdout)
		if !strings.Contains(res.stdout, a.port()) || !strings.Contains(res.stdout, strconv.Itoa(a.PID)) {
			t.Errorf("%s: does not name port and PID: %q", command, res.stdout)
		}
		for line := range strings.Lines(res.stdout) {
			if n := utf8.RuneCountInString(line); n > 400 {
				t.Errorf("%s: a line of %d characters", command, n)
			}
		}
	}
	res := run(t, tool(t.Context(), "", "sh", "-c", command))
	harmless(t, command, res.stdout)
	if strings.Count(res.stdout, "\n") != 1 || !strings.Contains(res.stdout, strconv.Itoa(a.PID)) {
		t.Errorf("%s: want one record, with PID %d: %q", command, a.PID, res.stdout)
	}
	if err := fitsSchema(res.stdout); err != nil {
		t.Errorf("%s: %v", command, err)
	}
	for _, path := range []string{"pidcheck.name", "listeners.0.pidcheck.name"} {
		if name := gjson.Get(res.stdout, path); comm != "" && name.Exists() && name.Str != comm {
			t.Errorf("%s: %s is %q, want %q", command, path, name.Str, comm)
		}
	}
}

// harmless fails the test if the text moves a cursor, rings a bell, turns text
// around, hides something, or is not UTF-8.
func harmless(t *testing.T, command, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "\r\n", "\n") // a terminal adds the CR
	bad := func(c rune) bool { return c != '\n' && c != utf8.RuneError && !unicode.IsPrint(c) }
	if i := strings.IndexFunc(text, bad); i >= 0 || !utf8.ValidString(text) || bytes.ContainsRune([]byte(text), 0) {
		t.Errorf("%s: harmful at byte %d: %.500q", command, i, text)
	}
}

// TestTimeout: timeout(1) signals its child, and then the group that this is in.
// What was done is told all the same.
func TestTimeout(t *testing.T) {
	require(t, "private")
	t.Parallel()
	a := zoo(t, t.TempDir(), "block-term")
	rounds := 20
	if long() {
		rounds = 300
	}
	untold := 0
	for range rounds {
		res := run(t, tool(limited(t), "", "timeout", "0.2", "killport", "--grace", "1m", a.port()))
		if res.code != 124 {
			t.Fatalf("exit code %d, want 124: %s%s", res.code, res.stdout, res.stderr)
		}
		if line := res.stdout; strings.Count(line, "\n") != 1 || gjson.Get(line, "reason").Str != "interrupted" {
			untold++
		}
	}
	if untold > 0 {
		t.Errorf("%d of %d without a record", untold, rounds)
	}
	a.lives(t, a.PID)
}
