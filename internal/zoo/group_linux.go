package main

import (
	"errors"
	"net"
	"os"
)

func reuseport(c *call) error {
	addr := c.addr()
	if c.parentHolds {
		l, err := c.listen(addr, sharePort)
		if err != nil {
			return err
		}
		go c.accept(l)
		addr = l.Addr().String()
	}
	var children []*child
	for range c.count(3) {
		ch, err := c.spawn(leashed, nil, "serve", "--reuseport", addr)
		if err != nil {
			return err
		}
		addr, children = ch.Addr, append(children, ch)
	}
	r := together(children)
	if !c.parentHolds {
		return c.holdWhile(children, r)
	}
	r.PID, r.PIDs = r.Parent, append([]int{r.Parent}, r.PIDs...)
	return c.hold(r)
}

func prefork(c *call) error {
	term := onTerm()
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	start, err := c.inheriting(l)
	if err != nil {
		return err
	}
	s := supervisor{start: start}
	r := at(l.Addr(), os.Getpid())
	for range c.count(3) {
		ch, err := s.add()
		if err != nil {
			return err
		}
		r.Workers, r.PIDs = append(r.Workers, ch.PID), append(r.PIDs, ch.PID)
	}
	if err := c.announce(r); err != nil {
		return err
	}
	for range term {
		if !c.stubborn {
			break
		}
	}
	s.end()
	return nil
}

// inheriting starts workers that have l as fd 3.
func (c *call) inheriting(l net.Listener) (func() (*child, error), error) {
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	t := leashed
	if c.orphans {
		t = free
	}
	return func() (*child, error) { return c.spawn(t, []*os.File{f}, "worker") }, nil
}

// worker has the listener from its parent.
func worker(c *call) error {
	f := os.NewFile(3, "listener")
	if f == nil {
		return errors.New("no fd 3")
	}
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return err
	}
	go c.accept(l)
	return c.hold(at(l.Addr(), os.Getpid()))
}

func orphan(c *call) error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	start, err := c.inheriting(l)
	if err != nil {
		return err
	}
	ch, err := start()
	if err != nil {
		return err
	}
	r := ch.ready
	r.Parent = os.Getpid()
	return c.announce(r)
}
