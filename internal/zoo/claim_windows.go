package main

import (
	"net"
	"syscall"
)

// claim makes Wine show who listens: its table names the owner of a listener only after getsockopt(SO_KEEPALIVE).
func claim(l net.Listener) error {
	s, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return err
	}
	return s.Control(func(fd uintptr) {
		_, _ = syscall.GetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	})
}
