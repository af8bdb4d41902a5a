package main

import (
	"encoding/binary"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A bare is one process, or two, forked without exec and so without the Go runtime, whose threads a fork does not copy.
// They have open what was open at the fork, and end with us or with their life. All that they do is raw system calls,
// in functions that neither grow the stack nor are instrumented, as in syscall.forkAndExecInChild; everything that
// they need is laid out before.
type bare struct {
	second  uintptr // clone flags of the second process; 0: there is none
	blocked uint64  // signal mask of both
	turns   int     // how often the process hands on what it has to a child of its own, and ends

	leash  [2]int // a pipe; its write end is ours alone
	report [2]int // a pipe, through which the second process says its PID
	poll   unix.PollFd
	turn   unix.Timespec // how long a process stays
	left   unix.Timespec // of that
	action [4]uintptr    // a struct sigaction of zeros, that is, SIG_DFL
	pid    uint32
}

// maskSize is the kernel's sizeof(sigset_t), include/uapi/asm-generic/signal.h.
const maskSize = 8

func blockTerm(c *call) error {
	return c.playBare(&bare{blocked: 1<<(unix.SIGTERM-1) | 1<<(unix.SIGINT-1) | 1<<(unix.SIGHUP-1)}, "blocked")
}

func cloneFiles(c *call) error { return c.playBare(&bare{second: unix.CLONE_FILES}, "") }

// vfork suspends the first process until the second ends, in state D yet killable (wait_for_vfork_done in
// kernel/fork.c). CLONE_VM, which is of no consequence for an observer, is left out: they would share a stack.
func vfork(c *call) error { return c.playBare(&bare{second: unix.CLONE_VFORK}, "") }

func (c *call) playBare(b *bare, signals string) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	pids, err := b.start(c)
	if err != nil {
		return err
	}
	l.Close()
	r := at(l.Addr(), pids...)
	r.Parent, r.Signals = os.Getpid(), signals
	return c.hold(r)
}

// prepare lays out what the processes need, which stay for so long.
func (b *bare) prepare(turn time.Duration) error {
	for _, pipe := range []*[2]int{&b.leash, &b.report} {
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("pipe2", err)
		}
	}
	b.poll.Fd = int32(b.leash[0]) // POLLHUP needs not be asked for
	b.turn = unix.NsecToTimespec(turn.Nanoseconds())
	return nil
}

func (b *bare) start(c *call) ([]int, error) {
	if err := b.prepare(c.left()); err != nil {
		return nil, err
	}
	pid, err := b.forkUnsignalled()
	if err != nil {
		return nil, err
	}
	unix.Close(b.leash[0])
	unix.Close(b.report[1])
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	go p.Wait()
	if b.second == 0 {
		return []int{pid}, nil
	}
	var second [4]byte
	if n, err := unix.Read(b.report[0], second[:]); n != len(second) {
		return nil, os.NewSyscallError("read", err)
	}
	return []int{pid, int(binary.NativeEndian.Uint32(second[:]))}, nil
}

// forkUnsignalled blocks signals around the fork: the handlers that the child inherits are those of the Go runtime.
func (b *bare) forkUnsignalled() (int, error) {
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, os.NewSyscallError("rt_sigprocmask", err)
	}
	pid, errno := b.fork()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		return 0, os.NewSyscallError("rt_sigprocmask", err)
	}
	if errno != 0 {
		return 0, os.NewSyscallError("clone", errno)
	}
	return int(pid), nil
}

// fork returns in the parent only.
//
//go:nosplit
//go:norace
func (b *bare) fork() (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(b.leash[1]), 0, 0)
	for sig := uintptr(1); sig <= 64; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&b.action)), 0, maskSize, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&b.blocked)), 0, maskSize, 0, 0)
	if b.second != 0 {
		pid, _, _ = syscall.RawSyscall6(unix.SYS_CLONE, b.second|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 {
			self, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
			b.pid = uint32(self)
			syscall.RawSyscall(unix.SYS_WRITE, uintptr(b.report[1]), uintptr(unsafe.Pointer(&b.pid)), 4)
		}
	}
	for ; ; b.turns-- {
		// ppoll(2) writes back what is left, so that SIGCONT, which interrupts it, does not prolong it.
		b.left = b.turn
		n := uintptr(0)
		for errno = syscall.EINTR; errno == syscall.EINTR; {
			n, _, errno = syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&b.poll)), 1,
				uintptr(unsafe.Pointer(&b.left)), 0, maskSize, 0)
		}
		if n != 0 || b.turns == 0 { // the leash was let go, or that was the last one
			break
		}
		if pid, _, _ = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); pid != 0 {
			break
		}
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
