package suite_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// soft and hard are what records say of terminating and of killing.
const soft, hard = "SIGTERM", "SIGKILL"

// errNoProcess is what pinned says of a PID that is nobody's.
var errNoProcess error = unix.ESRCH

// console: the zoo shares ours.
var console *syscall.SysProcAttr

// pin is a pidfd: whatever becomes of the PID, it stays the process.
type pin int

func pinned(pid int) (pin, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	return pin(fd), err
}

// ended: a pidfd is readable once its process has ended.
func (p pin) ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}, 0)
	return n == 1 && err == nil
}

func (p pin) wake() { p.signal(unix.SIGCONT) }
func (p pin) kill() { p.signal(unix.SIGKILL) }

func (p pin) signal(s syscall.Signal) { _ = unix.PidfdSendSignal(int(p), s, nil, 0) }
func (p pin) close()                  { unix.Close(int(p)) }

// pending reports whether SIGTERM waits for the process, which blocks it.
func pending(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, mask, _ := strings.Cut(string(status), "\nShdPnd:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	bits, err := strconv.ParseUint(mask, 16, 64)
	return err == nil && bits&(1<<(unix.SIGTERM-1)) != 0
}

func init() { commands["pending"] = pendingCommand }

// pending PID: waits until SIGTERM was sent to a process that blocks it.
func pendingCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "pending PID")
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	if !eventually(patience, func() bool { return pending(pid) }) {
		ts.Fatalf("no SIGTERM came to PID %d", pid)
	}
}

// condition: those of Windows do not hold.
func condition(name string) (bool, error) {
	if name == "wine" || name == "admin" {
		return false, nil
	}
	return false, fmt.Errorf("nobody knows what %q is", name)
}
