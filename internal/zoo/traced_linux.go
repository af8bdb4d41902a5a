package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// traced has two children: one that serves, and its tracer, which has stopped it.
func traced(c *call) error {
	held, err := c.spawn(leashed, nil, "serve", c.addr())
	if err != nil {
		return err
	}
	args := []string{"--pid=" + strconv.Itoa(held.PID)}
	if c.exitStop {
		args = append(args, "--exit-stop")
	}
	tracer, err := c.spawn(leashed, nil, "tracer", args...)
	if err != nil {
		return err
	}
	r := held.ready
	r.Parent, r.Tracer = os.Getpid(), tracer.PID
	return c.holdWhile([]*child{held, tracer}, r)
}

// tracer stops all threads of a process, and then does nothing more, so that nothing but SIGKILL gets through to it
// (ptrace(2)). With --exit-stop they stop once more on their way out, and SIGKILL does not end them either. All of it is
// done by the main thread, see init: a tracer is a thread.
func tracer(c *call) error {
	options := 0
	if c.exitStop {
		options = unix.PTRACE_O_TRACEEXIT
	}
	seized := map[int]bool{}
	for before := -1; before < len(seized); {
		before = len(seized)
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || seized[tid] {
				continue
			}
			if err := seize(tid, options); err != nil {
				return err
			}
			seized[tid] = true
		}
	}
	return c.hold(at(nil))
}

// seize stops a thread, and waits until it has.
func seize(tid, options int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, uintptr(options), 0, 0); errno != 0 {
		return unavailable("ptrace(PTRACE_SEIZE)", errno)
	}
	if err := unix.PtraceInterrupt(tid); err != nil {
		return os.NewSyscallError("ptrace(PTRACE_INTERRUPT)", err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(tid, &status, unix.WALL, nil); err != nil {
		return os.NewSyscallError("wait4", err)
	}
	if !status.Stopped() {
		return fmt.Errorf("thread %d has ended", tid)
	}
	return nil
}
