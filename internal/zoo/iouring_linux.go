package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The interface of include/uapi/linux/io_uring.h, since 5.1; accept since 5.5. Native byte order.
const (
	registerFiles = 2 // IORING_REGISTER_FILES
	opAccept      = 13
	fixedFile     = 1 << 0     // IOSQE_FIXED_FILE: sqe.fd is an index of the registered files
	offSQRing     = 0          // mmap offsets
	offSQEs       = 0x10000000 //
	sqeSize       = 64
)

// ringParams is struct io_uring_params, 120 bytes.
type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32

	sqHead, sqTail, sqMask, sqRingEntries, sqFlags, sqDropped, sqArray uint32
	_                                                                  [3]uint32
	_                                                                  [10]uint32 // the completion queue's
}

// ioUring: a registered file needs no descriptor any more (io_uring_register(2), IORING_REGISTER_FILES). When we end,
// the kernel takes the ring apart in a work queue, so that the port is free only some time later.
func ioUring(c *call) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	fd, err := detach(l)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, false); err != nil { // else accept says EAGAIN instead of being pending
		return os.NewSyscallError("fcntl", err)
	}
	var p ringParams
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return unavailable("io_uring_setup", errno)
	}
	files := [1]int32{int32(fd)}
	_, _, errno = unix.Syscall6(unix.SYS_IO_URING_REGISTER, ring, registerFiles, uintptr(unsafe.Pointer(&files)), 1, 0, 0)
	if errno != 0 {
		return unavailable("io_uring_register", errno)
	}
	unix.Close(fd)
	if c.accepts {
		if err := submitAccept(int(ring), &p); err != nil {
			return err
		}
	}
	return c.hold(at(l.Addr()))
}

// submitAccept has file 0 accept. The request belongs to this thread, which stays: see init.
func submitAccept(ring int, p *ringParams) error {
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	queue, err := unix.Mmap(ring, offSQRing, int(p.sqArray+4*p.sqEntries), prot, flags)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	sqes, err := unix.Mmap(ring, offSQEs, int(sqeSize*p.sqEntries), prot, flags)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	sqes[0], sqes[1] = opAccept, fixedFile // the rest is 0: file 0, the peer's address not wanted
	atomic.AddUint32((*uint32)(unsafe.Pointer(&queue[p.sqTail])), 1)
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(ring), 1, 0, 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("io_uring_enter", errno)
	}
	if n != 1 {
		return fmt.Errorf("io_uring took %d requests", n)
	}
	return nil
}
