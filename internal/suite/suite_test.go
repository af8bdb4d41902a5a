//go:build linux

package suite_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// insideVar is set for the test binary that runs inside the namespaces.
const insideVar = "KILLPORT_SUITE_INSIDE"

// patience bounds every wait for something that takes milliseconds.
const patience = 20 * time.Second

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

// build makes the commands and the zoo the first of their names on PATH.
func build(dir string) error {
	bin, cover := filepath.Join(dir, "bin"), filepath.Join(dir, "cover")
	for _, d := range []string{bin, cover} {
		if err := os.Mkdir(d, 0o777); err != nil {
			return err
		}
	}
	// Other users run the programs, and write what those covered.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(bin, 0o755), os.Chmod(cover, 0o777)); err != nil {
		return err
	}
	args := []string{"build", "-buildvcs=false", "-o", bin}
	if mode := testing.CoverMode(); mode != "" {
		args = append(args, "-cover", "-covermode="+mode)
		// go test -cover has a GOCOVERDIR of its own, and takes another one with -args.
		given := flag.Lookup("test.gocoverdir").Value.String()
		os.Setenv("GOCOVERDIR", cmp.Or(given, os.Getenv("GOCOVERDIR"), cover))
	}
	cmd := exec.Command("go", append(args, "./cmd/...", "./internal/zoo")...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	os.Unsetenv("KILLPORT_ALL")
	return os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
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
	"otheruser": sync.OnceValue(otherUser),
	"ipv6":      sync.OnceValue(ipv6),
	"bash":      program("bash"),
	"jq":        program("jq"),
	"script":    program("script"),
	"strace":    program("strace"),
}

// private is for all tests that kill.
func private() error {
	if os.Getenv(insideVar) == "" || os.Getppid() != 1 {
		return errors.New("it kills, and unshare gives us no namespaces of our own")
	}
	return nil
}

// nobody runs a command as a user that may do nothing.
var nobody = []string{"setpriv", "--reuid", "65534", "--clear-groups"}

func otherUser() error {
	argv := append(nobody[:len(nobody):len(nobody)], "killport", "--help")
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot become another user: %w: %s", err, out)
	}
	return nil
}

func ipv6() error {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return fmt.Errorf("no IPv6: %w", err)
	}
	return l.Close()
}

func program(name string) func() error {
	return func() error {
		_, err := exec.LookPath(name)
		return err
	}
}

// missing says why what is needed is not all here.
func missing(names ...string) error {
	for _, name := range names {
		need, ok := needs[name]
		if !ok {
			panic(fmt.Sprintf("nobody knows what %q is", name)) // a skip would hide it
		}
		if err := need(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func require(t *testing.T, names ...string) {
	t.Helper()
	if err := missing(names...); err != nil {
		t.Skip(err)
	}
}
