package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// init runs on the main thread, and the main goroutine keeps to it from here on: leaderGone ends that very thread.
func init() { runtime.LockOSThread() }

// threadFDs: /proc/PID/fd is the leader's table; that of any other thread is task/TID/fd, see unshare(2).
func threadFDs(c *call) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	tid := make(chan int)
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FILES); err != nil { // a copy of the table, for this thread
			failed <- unavailable("unshare", err)
			return
		}
		tid <- unix.Gettid()
		select {}
	}()
	r := at(l.Addr(), os.Getpid())
	select {
	case err := <-failed:
		return err
	case r.TID = <-tid:
	}
	l.Close() // in the table of all the other threads
	return c.hold(r)
}

// leaderGone: a leader that exits before its threads stays as a zombie (delay_group_leader in kernel/exit.c), without
// files, while the process lives.
func leaderGone(c *call) error {
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	go func() {
		for !leaderIsZombie() {
			time.Sleep(time.Millisecond)
		}
		announce := c.announce
		if c.drains {
			announce = c.drainAll
		}
		if err := announce(r); err != nil {
			fmt.Fprintln(os.Stderr, "zoo:", err)
			os.Exit(1)
		}
		if c.drains {
			os.Exit(0)
		}
	}()
	// Not RawSyscall: entering a system call lets the scheduler take the processor away from a thread that never returns.
	_, _, errno := syscall.Syscall(unix.SYS_EXIT, 0, 0, 0)
	return errno
}

// drainAll announces r, and returns when it has drained, see drain.
func (c *call) drainAll(r ready) error {
	term := onTerm()
	if err := c.announce(r); err != nil {
		return err
	}
	<-term
	for _, l := range kept {
		l.(net.Listener).Close()
	}
	time.Sleep(cmp.Or(c.lasting, 2*time.Second))
	return c.mark("drained")
}

func leaderIsZombie() bool {
	stat, err := os.ReadFile("/proc/self/stat")
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

// unavailable is the error of a system call that sandboxes refuse.
func unavailable(call string, err error) error {
	if err == unix.EPERM || err == unix.ENOSYS {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, os.NewSyscallError(call, err))
	}
	return os.NewSyscallError(call, err)
}
