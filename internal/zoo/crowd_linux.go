package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// crowd forks bare processes, of which there can be far more than of those that execute zoo again.
func crowd(c *call) error {
	socket, err := c.holding()
	if err != nil {
		return err
	}
	var b bare
	if err := b.prepare(c.left()); err != nil {
		return err
	}
	if !c.unreaped {
		signal.Ignore(syscall.SIGCHLD) // and the kernel reaps them, wait(2)
	}
	if c.stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	r := at(nil)
	r.Parent = r.PID
	for range c.count(300) {
		l, err := socket()
		if err != nil {
			return err
		}
		pid, err := b.forkUnsignalled()
		if err != nil {
			return err
		}
		r.PIDs = append(r.PIDs, pid)
		if l != nil && c.holds != "socket" {
			l.Close()
		}
		r.name(l, c.holds == "ports")
	}
	switch c.holds {
	case "socket":
		r.PIDs = append([]int{r.PID}, r.PIDs...)
	case "port", "ports":
		r.PID = r.PIDs[0]
	}
	return c.hold(r)
}

// name adds what the latest of a crowd has; the first one's is that of them all.
func (r *ready) name(l net.Listener, several bool) {
	if l == nil {
		return
	}
	addr := l.Addr().String()
	if r.Addr == "" {
		r.Addr, r.Port = addr, portOf(addr)
	}
	if several {
		r.Ports = append(r.Ports, portOf(addr))
	}
}

// holding gives each of a crowd what it is to have, nil if that is nothing.
func (c *call) holding() (func() (net.Listener, error), error) {
	addr := c.addr()
	switch c.holds {
	case "nothing":
		return func() (net.Listener, error) { return nil, nil }, nil
	case "socket":
		l, err := c.listen(addr, nil)
		return func() (net.Listener, error) { return l, nil }, err
	case "port":
		return func() (net.Listener, error) {
			l, err := c.listen(addr, sharePort)
			if err == nil {
				addr = l.Addr().String()
			}
			return l, err
		}, nil
	case "ports":
		next := portOf(addr)
		return func() (net.Listener, error) {
			l, err := c.listen(withPort(addr, next), nil)
			if next != 0 {
				next++
			}
			return l, err
		}, nil
	}
	return nil, fmt.Errorf("%w: --holds is port, ports, socket or nothing", errUsage)
}

// storm is faster than a walk over all of /proc may be. Those that end go to PID 1, as they do with their parents gone.
func storm(c *call) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	turn := cmp.Or(c.lasting, 5*time.Millisecond)
	b := bare{turns: int(c.left() / turn)}
	if c.stubborn {
		b.blocked = 1 << (unix.SIGTERM - 1)
	}
	if err := b.prepare(turn); err != nil {
		return err
	}
	pid, err := b.forkUnsignalled()
	if err != nil {
		return err
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	go p.Wait()
	l.Close()
	return c.hold(at(l.Addr())) // a PID that is said would be another's by the time it is read
}
