package main

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// bound does by hand what Go has no call for: net always listens after bind.
func bound(c *call) error {
	a, err := netip.ParseAddrPort(c.addr())
	if err != nil {
		return err
	}
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()})
	if a.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if sa, err = unix.Getsockname(fd); err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	return c.hold(at(tcpAddr(sa), os.Getpid()))
}

func tcpAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return nil
}

// connected: a port that a socket without SO_REUSEADDR has cannot be bound, in whatever state that socket is
// (inet_csk_get_port in net/ipv4/inet_connection_sock.c); an accepted socket takes the flag from its listener.
func connected(c *call) error {
	l, err := c.listen(c.addr(), exclusive)
	if err != nil {
		return err
	}
	out, in, err := connect(l)
	if err != nil {
		return err
	}
	l.Close()
	r := at(in.LocalAddr(), os.Getpid())
	r.Peer = out.LocalAddr().String()
	return c.hold(r)
}

// stopped: SIGTERM stays pending until SIGCONT; then the handler runs.
func stopped(c *call) error {
	term := onTerm()
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	if err := c.announce(r); err != nil {
		return err
	}
	if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
		return err
	}
	<-term
	return c.mark("handled")
}
