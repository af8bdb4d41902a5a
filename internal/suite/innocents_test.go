//go:build linux

package suite_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// innocent is a process that nobody has a reason to end.
type innocent struct {
	cmd       *exec.Cmd
	done      chan struct{} // closed when it has ended and was reaped
	letGo     atomic.Bool   // it is us who end it
	began     time.Time
	stderr    bytes.Buffer // to be read when it has ended
	cherished bool         // it does not end by itself
	inode     uint64       // of its pidfd: no other process of this boot has it (Linux 6.9)

	mu    sync.Mutex
	pidfd int // -1: there is none, any more
}

func startInnocent(argv ...string) (*innocent, error) {
	i := &innocent{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{}), began: time.Now(), pidfd: -1}
	i.cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &i.pidfd}
	if argv[0] != "sleep" { // which has nothing to say
		i.cmd.Stderr = &i.stderr
	}
	if err := i.cmd.Start(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if unix.Fstat(i.pidfd, &st) == nil {
		i.inode = st.Ino
	}
	go func() {
		_ = i.cmd.Wait()
		i.mu.Lock()
		unix.Close(i.pidfd)
		i.pidfd = -1
		i.mu.Unlock()
		close(i.done)
	}()
	return i, nil
}

// wasStopped reports whether it stands still, or did so since this was asked last:
// waitid(2) goes on saying so until somebody has asked.
func (i *innocent) wasStopped() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pidfd < 0 {
		return false
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PIDFD, i.pidfd, &info, unix.WSTOPPED|unix.WCONTINUED|unix.WNOHANG, nil)
	return err == nil && info.Signo != 0
}

// TestWasStopped: that a process was stopped is seen, also when it goes on again.
func TestWasStopped(t *testing.T) {
	i := sleeper(t)
	p, err := pinned(i.pid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if i.wasStopped() {
		t.Error("it was never stopped")
	}
	for _, s := range []syscall.Signal{unix.SIGSTOP, unix.SIGCONT} {
		p.signal(s)
		if !eventually(patience, func() bool { return (procState(i.pid()) == "T") == (s == unix.SIGSTOP) }) {
			t.Fatalf("no %v", s)
		}
	}
	if !i.wasStopped() || i.wasStopped() {
		t.Error("want it to be said once")
	}
}

// sleeper starts an innocent that must live until the end of the test.
func sleeper(t testing.TB) *innocent {
	t.Helper()
	i, err := startInnocent("sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.lives(t); i.end() })
	return i
}

func (i *innocent) pid() int { return i.cmd.Process.Pid }

func (i *innocent) ended() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

func (i *innocent) lives(t testing.TB) {
	t.Helper()
	if i.ended() {
		t.Errorf("innocent PID %d: %v", i.pid(), i.cmd.ProcessState)
	}
}

func (i *innocent) end() {
	i.letGo.Store(true)
	_ = i.cmd.Process.Kill()
	<-i.done
}

// lastPID is the PID that was given last in this PID namespace. Whoever writes
// it chooses the next one.
const lastPID = "/proc/sys/kernel/ns_last_pid"

func init() { needs["lastpid"] = mayChoosePIDs }

// mayChoosePIDs: it takes CAP_SYS_ADMIN in the user namespace that the PID
// namespace belongs to.
func mayChoosePIDs() error {
	aiming.Lock()
	defer aiming.Unlock()
	text, err := os.ReadFile(lastPID)
	if err != nil {
		return err
	}
	return os.WriteFile(lastPID, text, 0o644)
}

// aiming is held from writing lastPID to starting the process it is meant for.
var aiming sync.Mutex

// reborn calls start until the process that it starts has the PID, which was
// another's: the next one after lastPID, unless somebody else was faster.
// With each of the others it calls miss.
func reborn[P any](pid int, start func() (P, error), pidOf func(P) int, miss func(P)) (p P, err error) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if p, err = aimed(pid, start); err != nil {
			return p, err
		}
		if pidOf(p) == pid {
			return p, nil
		}
		miss(p)
	}
	return p, fmt.Errorf("PID %d cannot be had again", pid)
}

func aimed[P any](pid int, start func() (P, error)) (p P, err error) {
	aiming.Lock()
	defer aiming.Unlock()
	if err := os.WriteFile(lastPID, []byte(strconv.Itoa(pid-1)), 0o644); err != nil {
		return p, err
	}
	return start()
}

// rebornSleeper is an innocent that has the PID of a process that has ended.
func rebornSleeper(pid int, lifetime time.Duration) (*innocent, error) {
	start := func() (*innocent, error) { return startInnocent("sleep", fmt.Sprint(lifetime.Seconds())) }
	return reborn(pid, start, (*innocent).pid, (*innocent).end)
}

// listening returns the inodes of the sockets that listen on the port. It is
// not the reader under test.
func listening(t testing.TB, port int) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		text, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) { // a kernel without IPv6
			t.Error(err)
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				found[f[9]] = true
			}
		}
	}
	return found
}

// freed: whoever has just ended may still be closing its files.
func freed(t testing.TB, port int) bool {
	t.Helper()
	return len(listening(t, port)) == 0
}

// has reports whether the process has one of the sockets among its files.
func has(pid int, inodes map[string]bool) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		link, _ := os.Readlink(dir + e.Name())
		if inode, ok := strings.CutPrefix(link, "socket:["); ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true
		}
	}
	return false
}

// kernelAtLeast reports whether this is that version of Linux, or a later one.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var has, sub int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &has, &sub); err != nil {
		return false
	}
	return has > major || has == major && sub >= minor
}
