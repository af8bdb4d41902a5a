package command

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepFiles keeps the files from our commands that we were started with: a
// program that we run as another user could read what that user may not open.
// (Those that Go opens are closed on exec anyway.)
func keepFiles() error {
	const first = 3                                                              // behind stdin, stdout and stderr, which each command gets its own of
	if unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil { // Linux 5.11
		return nil
	}
	return keepEach(first)
}

// keepEach does it one by one, for older kernels.
func keepEach(first int) error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// startWithoutKeys starts a command with a session keyring of its own, which
// has nothing in it: it could use the keys of ours, whoever it becomes
// (session-keyring(7)). Keyrings are a thread's, and a child has those of the
// thread that starts it. So this one ends with the keyring: it is never unlocked.
func startWithoutKeys(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := dropKeys(); err != nil {
			done <- err
			return
		}
		done <- cmd.Start()
	}()
	return <-done
}

// dropKeys fails in no kernel without keys, and in no sandbox that refuses the
// call, as it does to the command then: there are no keys to be had.
func dropKeys() error {
	const anonymous = 0
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, anonymous, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return os.NewSyscallError("keyctl", err)
	}
	return nil
}
