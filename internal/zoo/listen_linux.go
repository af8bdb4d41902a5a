package main

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

func sharePort(_, _ string, s syscall.RawConn) error {
	return setOption(s, unix.SO_REUSEPORT, 1)
}

// exclusive takes back the SO_REUSEADDR that Go sets.
func exclusive(_, _ string, s syscall.RawConn) error {
	return setOption(s, unix.SO_REUSEADDR, 0)
}

func setOption(s syscall.RawConn, opt, value int) error {
	var err error
	if cerr := s.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, value) }); cerr != nil {
		return cerr
	}
	return err
}

// isMPTCP asks the kernel, since Go falls back to TCP in silence.
func isMPTCP(l net.Listener) bool {
	s, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return false
	}
	proto := 0
	err = s.Control(func(fd uintptr) { proto, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL) })
	return err == nil && proto == unix.IPPROTO_MPTCP
}

// detach takes the socket out of the hands of Go: one descriptor, close-on-exec, unknown to the poller.
func detach(l net.Listener) (int, error) {
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return -1, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}
