package main

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// orphan leaves its listener to a child that does nothing with it. The table of sockets goes on naming the parent.
func orphan(c *call) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	r, err := c.bequeathed(l)
	if err != nil {
		return err
	}
	return c.announce(r)
}

// heirs leaves a connection to a second child.
func heirs(c *call) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		return err
	}
	defer accepted.Close()
	r, err := c.bequeathed(l)
	if err != nil {
		return err
	}
	guest, err := c.bequeath(accepted.(syscall.Conn))
	if err != nil {
		return err
	}
	r.PeerPID = guest.PID
	if c.stay {
		return c.hold(r)
	}
	return c.announce(r)
}

// bequeathed is the ready of a listener that a child has inherited.
func (c *call) bequeathed(l net.Listener) (ready, error) {
	heir, err := c.bequeath(l.(syscall.Conn))
	if err != nil {
		return ready{}, err
	}
	r := at(l.Addr(), heir.PID)
	r.Parent = os.Getpid()
	return r, nil
}

// bequeath starts a child that inherits the socket.
func (c *call) bequeath(socket syscall.Conn) (*child, error) {
	var handle syscall.Handle
	if err := control(socket, func(s syscall.Handle) { handle = s }); err != nil {
		return nil, err
	}
	if err := windows.SetHandleInformation(windows.Handle(handle), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
		return nil, err
	}
	return c.spawnPrepared(free, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: []syscall.Handle{handle}}
	}, "sleep")
}

// bound does by hand what Go has no call for: net always listens after bind.
func bound(c *call) error {
	addr, err := bind(c.addr(), windows.SOCK_STREAM)
	if err != nil {
		return err
	}
	return c.hold(at(net.TCPAddrFromAddrPort(addr), os.Getpid()))
}

// bindUDP does without package net, whose way Wine does not know.
func (c *call) bindUDP(addr string) (net.Addr, error) {
	at, err := bind(addr, windows.SOCK_DGRAM)
	return net.UDPAddrFromAddrPort(at), err
}

func bind(addr string, kind int) (at netip.AddrPort, err error) {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		return at, err
	}
	s, err := windows.Socket(windows.AF_INET, kind, 0)
	if err != nil {
		return at, os.NewSyscallError("socket", err)
	}
	if err := windows.Bind(s, &windows.SockaddrInet4{Addr: want.Addr().As4(), Port: int(want.Port())}); err != nil {
		return at, os.NewSyscallError("bind", err)
	}
	showOwner(syscall.Handle(s))
	name, err := windows.Getsockname(s)
	if err != nil {
		return at, os.NewSyscallError("getsockname", err)
	}
	return netip.AddrPortFrom(want.Addr(), uint16(name.(*windows.SockaddrInet4).Port)), nil
}
