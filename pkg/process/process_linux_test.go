package process_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/process"
)

// childVar makes this test binary, run again, a child that does what it is told.
const childVar = "KILLPORT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		obey(os.NewFile(3, "orders"), os.NewFile(4, "answers"))
		return
	}
	os.Exit(m.Run())
}

// obey answers each order on a line of its own, until there are no more.
func obey(orders io.Reader, answers io.Writer) {
	for in := bufio.NewScanner(orders); in.Scan(); {
		verb, what, _ := strings.Cut(in.Text(), " ")
		var answer any = "done"
		switch verb {
		case "protect":
			pid, _ := strconv.Atoi(what)
			answer = protection(pid)
		case "visible":
			answer = process.Visible()
		case "open": // ourselves
			p, err := process.Open(os.Getpid())
			if err == nil {
				p.Close()
			}
			answer = err
		case "stop":
			syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		case "comm":
			name, _ := strconv.Unquote(what)
			answer = os.WriteFile("/proc/self/comm", []byte(name), 0)
		}
		fmt.Fprintln(answers, answer)
	}
}

func protection(pid int) string {
	p, err := process.Open(pid)
	if err != nil {
		return err.Error()
	}
	defer p.Close()
	info, err := p.Inspect()
	if err != nil {
		return err.Error()
	}
	why, err := process.Protect(p, info)
	if err != nil {
		return err.Error()
	}
	return cmp.Or(string(why), "nothing")
}

// A child obeys until its test is over.
type child struct {
	cmd     *exec.Cmd
	orders  *os.File
	answers *bufio.Reader
}

// start starts a child; set changes what it is started with.
func start(t *testing.T, set func(*exec.Cmd)) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(self)}
	c.cmd.Env = append(os.Environ(), childVar+"=yes", "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = os.Stderr
	if set != nil {
		set(c.cmd)
	}
	theirOrders, orders := pipe(t)
	answers, theirAnswers := pipe(t)
	c.orders, c.answers = orders, bufio.NewReader(answers)
	if err := answers.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c.cmd.ExtraFiles = []*os.File{theirOrders, theirAnswers}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirOrders.Close()
	theirAnswers.Close()
	t.Cleanup(c.end)
	c.tell(t, "be there")
	return c
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// order sends an order and does not wait for the answer.
func (c *child) order(t *testing.T, words string) {
	t.Helper()
	if _, err := io.WriteString(c.orders, words+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (c *child) answer(t *testing.T) string {
	t.Helper()
	said, err := c.answers.ReadString('\n')
	if err != nil {
		t.Fatalf("child %d says %q: %v", c.pid(), said, err)
	}
	return strings.TrimSuffix(said, "\n")
}

// tell sends an order and returns the answer.
func (c *child) tell(t *testing.T, words string) string {
	t.Helper()
	c.order(t, words)
	return c.answer(t)
}

// end lets the child end, a stopped one as well, and reaps it.
func (c *child) end() {
	c.orders.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// dismiss makes the child end, and leaves it unreaped.
func (c *child) dismiss(t *testing.T, p *process.Pin) {
	t.Helper()
	c.orders.Close()
	await(t, p)
}

func pin(t *testing.T, pid int) *process.Pin {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// await waits for the end of a process.
func await(t *testing.T, p *process.Pin) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Fatalf("%d does not end: %v", p.PID(), err)
	}
}

func birth(t *testing.T, p *process.Pin) process.Birth {
	t.Helper()
	b, err := p.Birth()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBirth(t *testing.T) {
	c := start(t, nil)
	p := pin(t, c.pid())
	first := birth(t, p)
	if again := birth(t, p); again != first || first == "" {
		t.Errorf("birth = %q, then %q; want it to stay", first, again)
	}
	if other := birth(t, pin(t, c.pid())); other != first {
		t.Errorf("birth through another pin = %q; want %q", other, first)
	}
	if other := birth(t, pin(t, start(t, nil).pid())); other == first {
		t.Errorf("birth of another child = %q as well", other)
	}
	if p.PID() != c.pid() || p.Exited() || p.Exiting() {
		t.Errorf("pin of %d: exited %v, exiting %v; want %d alive", p.PID(), p.Exited(), p.Exiting(), c.pid())
	}

	c.dismiss(t, p)
	if got, err := p.Birth(); !errors.Is(err, process.ErrGone) {
		t.Errorf("birth of a zombie = %q, %v; want ErrGone", got, err)
	}
	c.end()
	if got, err := p.Birth(); !errors.Is(err, process.ErrGone) {
		t.Errorf("birth after the end = %q, %v; want ErrGone", got, err)
	}
	if _, err := process.Open(c.pid()); !errors.Is(err, process.ErrGone) {
		t.Errorf("Open after the end: %v; want ErrGone", err)
	}
}

// What cannot be a process is refused, and never taken for one that is gone.
func TestOpenRefuses(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	tid := os.Getpid()
	for tid == os.Getpid() { // the goroutine got the thread that leads the process
		tid = thread(stop)
	}
	for _, pid := range []int{0, -1, -os.Getpid(), 1<<32 + 1, 1<<32 + os.Getpid(), process.MaxPID + 1, tid} {
		p, err := process.Open(pid)
		if err == nil {
			p.Close()
		}
		if err == nil || errors.Is(err, process.ErrGone) {
			t.Errorf("Open(%d): %v; want it refused", pid, err)
		}
	}
}

// thread returns the id of one that stays until stop is closed.
func thread(stop <-chan struct{}) int {
	id := make(chan int)
	go func() {
		runtime.LockOSThread() // and not to be unlocked: it ends with the goroutine
		id <- syscall.Gettid()
		<-stop
	}()
	return <-id
}

func TestWait(t *testing.T) {
	c := start(t, nil)
	p := pin(t, c.pid())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait, cancelled before: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait, cancelled meanwhile: %v", err)
	}
	if p.Exited() {
		t.Errorf("waiting has ended the child")
	}

	got := make(chan error, 1)
	go func() { got <- p.Wait(t.Context()) }()
	c.orders.Close()
	select {
	case err := <-got:
		if err != nil || !p.Exited() {
			t.Errorf("Wait = %v, exited %v; want nil when it has ended", err, p.Exited())
		}
	case <-time.After(20 * time.Second):
		t.Errorf("Wait does not see the end")
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait after the end: %v", err)
	}
}

func TestZombie(t *testing.T) {
	c := start(t, nil)
	p := pin(t, c.pid())
	c.dismiss(t, p)
	z := pin(t, c.pid()) // it is there until its parent looks
	for what, q := range map[string]*process.Pin{"before": p, "afterwards": z} {
		if !q.Exited() || !q.Exiting() {
			t.Errorf("pinned %s: exited %v, exiting %v; want both", what, q.Exited(), q.Exiting())
		}
		if _, err := q.Inspect(); !errors.Is(err, process.ErrGone) {
			t.Errorf("pinned %s: Inspect: %v; want ErrGone", what, err)
		}
	}
}

// A pin stays with its process, whoever has the PID.
func TestSignalsGoThroughThePin(t *testing.T) {
	c := start(t, nil)
	p := pin(t, c.pid())
	if err := p.MayTerminate(); err != nil {
		t.Errorf("MayTerminate: %v", err)
	}
	c.end()
	for what, err := range map[string]error{
		"MayTerminate": p.MayTerminate(), "Terminate": p.Terminate(syscall.SIGTERM), "Kill": p.Kill(),
	} {
		if !errors.Is(err, process.ErrGone) {
			t.Errorf("%s after the end: %v; want ErrGone", what, err)
		}
	}
}

func TestTerminateAndKill(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*process.Pin) error
		want syscall.Signal
	}{
		{"Terminate", func(p *process.Pin) error { return p.Terminate(syscall.SIGTERM) }, syscall.SIGTERM},
		{"Terminate by another signal", func(p *process.Pin) error { return p.Terminate(syscall.SIGQUIT) }, syscall.SIGQUIT},
		{"Kill", (*process.Pin).Kill, syscall.SIGKILL},
	} {
		for _, stopped := range []bool{false, true} {
			c := start(t, func(cmd *exec.Cmd) { cmd.Stderr = nil })
			p := pin(t, c.pid())
			if stopped {
				c.order(t, "stop")
				awaitStop(t, c.pid())
			}
			if err := tt.end(p); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			await(t, p)
			c.cmd.Wait()
			// The Go runtime answers SIGQUIT with its stacks and exit code 2.
			if by := c.cmd.ProcessState.Sys().(syscall.WaitStatus); by.Signal() != tt.want && (tt.want != syscall.SIGQUIT || by.ExitStatus() != 2) {
				t.Errorf("%s, stopped %v: %v; want it ended by %v", tt.name, stopped, c.cmd.ProcessState, tt.want)
			}
		}
	}
}

// awaitStop waits until the process is in state T.
func awaitStop(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, _ := strings.Cut(string(b), ") "); strings.HasPrefix(rest, "T") {
			return
		}
	}
	t.Fatalf("%d does not stop", pid)
}

func TestInspect(t *testing.T) {
	argv := []string{"\x1b]0;title\a", "line\nbreak", "", "\xff\xfe", "\u202eeno", ") R 1", "--"}
	before := time.Now().Add(-time.Minute)
	c := start(t, func(cmd *exec.Cmd) { cmd.Args = argv })
	const name = "a) R 1 (\n\x1b\xff"
	if said := c.tell(t, "comm "+strconv.Quote(name)); said != "<nil>" {
		t.Fatal(said)
	}
	info, err := pin(t, c.pid()).Inspect()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if info.PID != c.pid() || info.PPID != os.Getpid() || info.Group != syscall.Getpgrp() || info.Kernel {
		t.Errorf("Inspect = %+v; want PID %d, parent %d, group %d", info, c.pid(), os.Getpid(), syscall.Getpgrp())
	}
	if info.Name != name || info.Exe != self {
		t.Errorf("Inspect: name %q, exe %q; want %q, %q", info.Name, info.Exe, name, self)
	}
	if !slices.Equal(info.Argv, argv) || info.Truncated {
		t.Errorf("Inspect: argv %q, truncated %v; want %q", info.Argv, info.Truncated, argv)
	}
	if info.Started.Before(before) || info.Started.After(time.Now().Add(time.Minute)) {
		t.Errorf("Inspect: started %v; want just now", info.Started)
	}
}

func TestInspectLongArgv(t *testing.T) {
	for _, tt := range []struct {
		size int // with a NUL after each argument
		want bool
	}{{process.MaxArgv, false}, {process.MaxArgv + 1, true}, {1 << 20, true}} {
		var argv []string
		for left := tt.size; left > 0; left -= len(argv[len(argv)-1]) + 1 {
			argv = append(argv, strings.Repeat("x", min(left, 1000)-1))
		}
		c := start(t, func(cmd *exec.Cmd) { cmd.Args = argv })
		info, err := pin(t, c.pid()).Inspect()
		if err != nil {
			t.Fatal(err)
		}
		if info.Truncated != tt.want {
			t.Errorf("argv of %d bytes: truncated %v; want %v", tt.size, info.Truncated, tt.want)
		}
		got, whole := strings.Join(info.Argv, "\x00"), strings.Join(argv, "\x00")
		if len(got) > process.MaxArgv || !strings.HasPrefix(whole, got) || !tt.want && got != whole {
			t.Errorf("argv of %d bytes: read %d bytes that are not its beginning", tt.size, len(got))
		}
	}
}

func TestObstacle(t *testing.T) {
	if got := pin(t, start(t, nil).pid()).Obstacle(); got != (process.Obstacle{}) {
		t.Errorf("Obstacle of a child that can be ended = %+v; want none", got)
	}
}

func TestProtect(t *testing.T) {
	c, sibling := start(t, nil), start(t, nil)
	parent := "ancestor"
	if os.Getpid() == 1 {
		parent = "init"
	}
	for _, tt := range []struct {
		what string
		pid  int
		want string
	}{
		{"itself", c.pid(), "self"},
		{"its parent", os.Getpid(), parent},
		{"PID 1", 1, "init"},
		{"its sibling", sibling.pid(), "nothing"},
	} {
		if got := c.tell(t, "protect "+strconv.Itoa(tt.pid)); got != tt.want {
			t.Errorf("a child is protected from ending %s by %s; want %s", tt.what, got, tt.want)
		}
	}
	if got := protection(c.pid()); got != "nothing" {
		t.Errorf("a child is protected from us by %s; want nothing", got)
	}
	for pid, want := range map[int]bool{os.Getppid(): true, c.pid(): false, os.Getpid(): false, 0: false, -1: false} {
		if got, err := process.IsAncestor(pid); err != nil || got != want && pid > 0 {
			t.Errorf("IsAncestor(%d) = %v, %v; want %v", pid, got, err, want)
		}
	}
}

func TestOverridable(t *testing.T) {
	for p, want := range map[process.Protection]bool{
		"":                         false,
		process.ProtectedInit:      false,
		process.ProtectedKernel:    false,
		process.ProtectedSelf:      false,
		process.ProtectedPipeline:  false,
		process.ProtectedNamespace: false,
		process.ProtectedAncestor:  true,
		process.ProtectedShared:    true,
	} {
		if got := p.Overridable(); got != want {
			t.Errorf("%q.Overridable() = %v; want %v", p, got, want)
		}
	}
}

// In "{ first | second | third | fourth; } 2>&1", with others of the same
// script, the neighbours of the second are those in its own pipeline.
func TestPipelineNeighbours(t *testing.T) {
	r1, w1 := pipe(t)
	r2, w2 := pipe(t)
	r3, w3 := pipe(t)
	apart, apartW := pipe(t)
	group := 0
	member := func(stdin, stdout *os.File) *child {
		c := start(t, func(cmd *exec.Cmd) {
			if stdin != nil {
				cmd.Stdin = stdin
			}
			if stdout != nil {
				cmd.Stdout = stdout
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
		})
		group = cmp.Or(group, c.pid())
		return c
	}
	first, second, third, fourth := member(nil, w1), member(r1, w2), member(r2, w3), member(r3, nil)
	sameOut, sameIn := member(nil, w2), member(r1, nil)
	noPipe, otherPipe := member(nil, nil), member(apart, apartW)
	elsewhere := func(stdin, stdout, stderr *os.File) *child {
		return start(t, func(cmd *exec.Cmd) {
			if stdin != nil {
				cmd.Stdin = stdin
			}
			if stdout != nil {
				cmd.Stdout = stdout
			}
			if stderr != nil {
				cmd.Stderr = stderr
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as sudo and setsid do; timeout has a group of its own
		})
	}
	reader, writer, complainer := elsewhere(r2, nil, nil), elsewhere(nil, w1, nil), elsewhere(nil, nil, w1)
	sameErr := elsewhere(nil, nil, w2)
	for _, tt := range []struct {
		name string
		of   *child
		want string
	}{
		{"the first", first, "pipeline"},
		{"the third", third, "pipeline"},
		{"the fourth", fourth, "pipeline"},
		{"one that writes where it writes", sameOut, "nothing"},
		{"one that reads where it reads", sameIn, "nothing"},
		{"one without a pipe", noPipe, "nothing"},
		{"one with another pipe", otherPipe, "nothing"},
		{"one of another session that reads what it writes", reader, "pipeline"},
		{"one of another session that writes what it reads", writer, "pipeline"},
		{"one that complains where it reads", complainer, "pipeline"},
		{"one that complains where it writes", sameErr, "nothing"},
	} {
		if got := second.tell(t, "protect "+strconv.Itoa(tt.of.pid())); got != tt.want {
			t.Errorf("the second of a pipeline is kept from ending %s by %s; want %s", tt.name, got, tt.want)
		}
	}
	for name, of := range map[string]*child{"the last": fourth, "the first": first} {
		if got := of.tell(t, "protect "+strconv.Itoa(second.pid())); got != "pipeline" {
			t.Errorf("%s of a pipeline is kept from ending the second by %s; want pipeline", name, got)
		}
	}
}

// A FIFO is a pipe by its inode, and not by its path: another link has another.
func TestPipelineFIFO(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(fifo, fifo+"2"); err != nil {
		t.Fatal(err)
	}
	open := func(path string, how int) *os.File {
		f, err := os.OpenFile(path, how|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	r, w := open(fifo, os.O_RDONLY), open(fifo+"2", os.O_WRONLY)
	with := func(stdin, stdout *os.File) *child {
		return start(t, func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if stdin != nil {
				cmd.Stdin = stdin
			}
			if stdout != nil {
				cmd.Stdout = stdout
			}
		})
	}
	before, beside, behind := with(nil, w), with(r, nil), with(r, nil)
	for pid, want := range map[int]string{before.pid(): "pipeline", beside.pid(): "nothing"} {
		if got := behind.tell(t, "protect "+strconv.Itoa(pid)); got != want {
			t.Errorf("who reads from a FIFO is kept from ending %d, of %d before and %d beside it, by %s; want %s", pid, before.pid(), beside.pid(), got, want)
		}
	}
}

// ksh has pairs of sockets in place of pipes.
func TestPipelineOfSockets(t *testing.T) {
	pair := func() (near, far *os.File) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		near, far = os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
		t.Cleanup(func() { near.Close(); far.Close() })
		return near, far
	}
	r1, w1 := pair()
	r2, w2 := pair()
	other, _ := pair()
	with := func(stdin, stdout *os.File) *child {
		return start(t, func(cmd *exec.Cmd) { cmd.Stdin, cmd.Stdout = stdin, stdout })
	}
	first, second, third := with(other, w1), with(r1, w2), with(r2, nil)
	sameOut, apart := with(nil, w2), with(other, other)
	for _, tt := range []struct {
		name string
		by   *child
		of   *child
		want string
	}{
		{"the first", second, first, "pipeline"},
		{"the third", second, third, "pipeline"},
		{"the first, by the third", third, first, "pipeline"},
		{"one that writes where it writes", second, sameOut, "nothing"},
		{"one with another pair", second, apart, "nothing"},
	} {
		if got := tt.by.tell(t, "protect "+strconv.Itoa(tt.of.pid())); got != tt.want {
			t.Errorf("a process in a pipeline is kept from ending %s by %s; want %s", tt.name, got, tt.want)
		}
	}
}

// What an ancestor has as stdin and stdout counts as ours: sudo gives its
// command a terminal, and keeps the pipe.
func TestPipelineOfAncestor(t *testing.T) {
	r1, w1 := pipe(t)
	r2, w2 := pipe(t)
	before := start(t, func(cmd *exec.Cmd) { cmd.Stdout = w1 })
	behind := start(t, func(cmd *exec.Cmd) { cmd.Stdin = r2 })
	below := start(t, func(cmd *exec.Cmd) {
		cmd.Args = []string{"sh", "-c", `"$0" </dev/null >/dev/null 2>&1 & wait`, cmd.Path}
		cmd.Path, cmd.Stdin, cmd.Stdout = "/bin/sh", r1, w2
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	})
	for name, of := range map[string]*child{"feeds": before, "reads from": behind} {
		if got := below.tell(t, "protect "+strconv.Itoa(of.pid())); got != "pipeline" {
			t.Errorf("it is kept from ending what %s its ancestor by %s; want pipeline", name, got)
		}
	}
}

// Below a /proc of another namespace a number means another process, whoever
// has it there.
func TestForeignProc(t *testing.T) {
	unshare := []string{"unshare", "--pid", "--fork", "--kill-child"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command(unshare[0], append(unshare[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no namespace of our own: %v: %s", err, out)
	}
	c := start(t, func(cmd *exec.Cmd) {
		path, err := exec.LookPath(unshare[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Args = path, append(slices.Clone(unshare), cmd.Path)
	})
	for order, want := range map[string]string{"visible": "another PID namespace", "open": "another PID namespace"} {
		if got := c.tell(t, order); !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %q in it", order, got, want)
		}
	}
}

func TestVisible(t *testing.T) {
	if err := process.Visible(); err != nil {
		t.Skip(err)
	}
	c := start(t, nil)
	pids, err := process.All()
	if err != nil || !slices.Contains(pids, os.Getpid()) || !slices.Contains(pids, c.pid()) {
		t.Errorf("All = %v, %v; want %d and %d among them", pids, err, os.Getpid(), c.pid())
	}
}

func TestKin(t *testing.T) {
	c := start(t, nil)
	pid := c.cmd.Process.Pid
	if got, err := process.Kin(os.Getpid(), time.Time{}); err != nil || !slices.Contains(got, pid) {
		t.Errorf("Kin(ourselves) = %v, %v; want %d among them", got, err, pid)
	}
	if got, err := process.Kin(os.Getppid(), time.Time{}); err != nil || !slices.Contains(got, pid) {
		t.Errorf("Kin(our parent) = %v, %v; want %d among them", got, err, pid)
	}
	if got, err := process.Kin(os.Getpid(), time.Now().Add(time.Hour)); err != nil || len(got) > 0 {
		t.Errorf("Kin(ourselves, since the future) = %v, %v; want none", got, err)
	}
}
