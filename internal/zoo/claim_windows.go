package main

import (
	"net"
	"syscall"
)

func claim(l net.Listener) error { return control(l.(syscall.Conn), showOwner) }

// showOwner: the table of Wine names the owner of a socket only after getsockopt(SO_KEEPALIVE).
func showOwner(s syscall.Handle) {
	_, _ = syscall.GetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
}

func control(socket syscall.Conn, f func(syscall.Handle)) error {
	s, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	return s.Control(func(fd uintptr) { f(syscall.Handle(fd)) })
}
