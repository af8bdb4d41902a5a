//go:build linux

package suite_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// insideVar is set for the test binary that runs inside the namespaces.
const insideVar = "KILLPORT_SUITE_INSIDE"

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" || os.Getenv(insideVar) != "" {
		if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
			f.Value.Set(strconv.Itoa(4 * runtime.GOMAXPROCS(0))) // the tests wait far more than they compute
		}
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "killport-suite")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := outside(m, dir)
	os.RemoveAll(dir)
	os.Exit(code)
}

// outside builds the programs, and runs the tests in namespaces where that can
// be.
func outside(m *testing.M, dir string) int {
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, user := range [][]string{nil, {"--user", "--map-root-user"}} {
		if namespaces(user, "true").Run() != nil {
			continue
		}
		code, err := reexec(user)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return code
	}
	return m.Run()
}

// namespaces is the command argv in namespaces of its own. There PID 1 is the
// shell, which reaps orphans; the rest ends with it, and it with unshare.
func namespaces(user []string, argv ...string) *exec.Cmd {
	args := append(user[:len(user):len(user)], "--fork", "--kill-child", "--pid", "--mount-proc", "--net",
		"sh", "-c", `ip link set lo up || exit 1; "$@"; exit $?`, "sh")
	return exec.Command("unshare", append(args, argv...)...)
}

// reexec runs this test binary again, inside, and returns its exit code.
func reexec(user []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	cmd := namespaces(user, append([]string{self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), insideVar+"="+cmp.Or(strings.Join(user, " "), "root"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
			return exit.ExitCode(), nil
		}
		return cmd.ProcessState.ExitCode(), err
	case s := <-signals:
		// PID 1 of a namespace takes no signal from outside but SIGKILL.
		_ = cmd.Process.Kill()
		<-done
		return 128 + int(s.(syscall.Signal)), fmt.Errorf("suite: ended by signal: %v", s)
	}
}

// needs are what tests may need beside Go and a shell. Each says why it is not
// here.
var needs = map[string]func() error{
	"private":   private,
	"ghosts":    ghosts,
	"otheruser": sync.OnceValue(otherUser),
	"ipv6":      sync.OnceValue(ipv6),
	"bash":      program("bash"),
	"bwrap":     program("bwrap"),
	"jq":        program("jq"),
	"script":    program("script"),
	"postgres":  postgresHere,
	"strace":    program("strace"),
}

// private is for all tests that kill.
func private() error {
	if os.Getenv(insideVar) == "" || os.Getppid() != 1 {
		return errors.New("it kills, and unshare gives us no namespaces of our own")
	}
	return nil
}

// ghosts is for tests in which a socket provably has no holder, as the command
// seeing has it: it runs another with tools that take our namespaces for the
// host's, so that nobody is outside of them. They are linked here.
func ghosts() error { return cmp.Or(private(), seeing()) }

var seeing = sync.OnceValue(func() error {
	pids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	zoo, err := exec.LookPath("zoo")
	if err != nil {
		return err
	}
	bin := filepath.Dir(zoo)
	seers := filepath.Join(bin, "seers")
	if err := os.Mkdir(seers, 0o755); err != nil {
		return err
	}
	const host = "-X=github.com/killport/killport/pkg/process.host"
	if err := compileInto(seers, "-ldflags="+host+"PIDs="+pids+" "+host+"Network="+network, "./cmd/..."); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, "seeing"), []byte("#!/bin/sh\nPATH="+seers+":$PATH exec \"$@\"\n"), 0o755)
})

// nobody runs a command as a user that may do nothing.
var nobody = []string{"setpriv", "--reuid", "65534", "--clear-groups"}

func otherUser() error {
	argv := append(nobody[:len(nobody):len(nobody)], "killport", "--help")
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot become another user: %w: %s", err, out)
	}
	return nil
}

func program(name string) func() error {
	return func() error {
		_, err := exec.LookPath(name)
		return err
	}
}

func require(t *testing.T, names ...string) {
	t.Helper()
	if err := missing(names...); err != nil {
		t.Skip(err)
	}
}

// startZoo plays a mode, in a folder.
func startZoo(dir string, args ...string) (*animal, error) {
	return startZooBy([]string{"zoo"}, dir, args...)
}

// zoo is startZoo for a test, which it ends with.
func zoo(t testing.TB, dir string, args ...string) *animal {
	t.Helper()
	return zooBy(t, nil, dir, args...)
}

// zooBy is startZooBy for a test.
func zooBy(t testing.TB, through []string, dir string, args ...string) *animal {
	t.Helper()
	a, err := startZooBy(append(slices.Clip(through), "zoo"), dir, args...)
	if errors.Is(err, errUnplayable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.end)
	return a
}

// lives fails the test unless the process is alive; it must be of this animal.
func (a *animal) lives(t testing.TB, pid int) {
	t.Helper()
	if p, ok := a.pins[pid]; !ok || p.ended() {
		t.Errorf("PID %d of zoo %q has ended", pid, a.cmd.Args[1:])
	}
}

// result is what a command has left behind.
type result struct {
	stdout, stderr string
	code           int
	pid            int
	took           time.Duration
}

// run runs a command to its end.
func run(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	began := time.Now()
	err := cmd.Start()
	if err == nil {
		late := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() })
		err = cmd.Wait()
		late.Stop()
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return result{
		stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode(),
		pid: cmd.Process.Pid, took: time.Since(began),
	}
}

// limited is for a command that is killed if it takes too long.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

// tool is a command with what it reads.
func tool(ctx context.Context, stdin string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}
