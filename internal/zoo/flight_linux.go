package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// scm leaves the listener in the receive queue of a unix socket, as unix(7) has it under SCM_RIGHTS: the kernel keeps
// it, no descriptor table has it (but ours, if told so).
func scm(c *call) error {
	all, err := c.listenAll()
	if err != nil {
		return err
	}
	l := all[0]
	fd, err := detach(l)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	from, to := pair[0], pair[1]
	sent := []int{fd}
	if c.cycle || c.outlive {
		// to is in its own queue. Our descriptor is its last reference from outside; without it, it is garbage
		// (net/unix/garbage.c), which ends when the collector next runs.
		sent = append(sent, from, to)
	}
	if err := unix.Sendmsg(from, []byte{0}, unix.UnixRights(sent...), nil, 0); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	r := at(l.Addr())
	if c.keep {
		r.PIDs = []int{r.PID}
	} else {
		unix.Close(fd)
	}
	if len(sent) > 1 {
		unix.Close(from)
	}
	if c.cycle {
		// The collector runs when a unix socket is released, and to is not. This one is, with us.
		if _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
	}
	return c.hold(r)
}
