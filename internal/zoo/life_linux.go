package main

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigevent is that of include/uapi/asm-generic/siginfo.h: 64 bytes, native order.
type sigevent struct {
	value         uintptr
	signo, notify int32
	_             [56 - unsafe.Sizeof(uintptr(0))]byte
}

// killAfter has the kernel send SIGKILL, since a stopped process runs no timers of its own: timer_create(2) with
// SIGEV_SIGNAL, which is 0. The timer belongs to the process, not to a thread; a child does not inherit it.
func killAfter(d time.Duration) {
	var id int32
	event := sigevent{signo: int32(unix.SIGKILL)}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id)))
	if errno == 0 {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
		_, _, errno = unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(id), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	}
	if errno != 0 {
		panic(os.NewSyscallError("timer_create", errno))
	}
}
