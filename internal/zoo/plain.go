package main

import (
	"cmp"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func serve(c *call) error {
	time.Sleep(c.warmup)
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	return c.hold(r)
}

// serveAll listens on every ADDR and serves them.
func (c *call) serveAll() (ready, error) {
	all, err := severalTimes(c.listenAll)
	if err != nil {
		return ready{}, err
	}
	for _, l := range all {
		go c.accept(l)
	}
	r := holding(all)
	if c.child {
		ch, err := c.spawn(free, nil, "sleep")
		if err != nil {
			return ready{}, err
		}
		r.Child = ch.PID
	}
	return r, nil
}

func udp(c *call) error {
	var first net.Addr
	for _, addr := range c.addrs() {
		at, err := c.bindUDP(addr)
		if err != nil {
			return err
		}
		first = cmp.Or(first, at)
	}
	return c.hold(at(first, os.Getpid()))
}

func both(c *call) error {
	l, err := severalTimes(func() (net.Listener, error) {
		l, err := c.listen(c.addr(), nil)
		if err != nil {
			return nil, err
		}
		if _, err = c.bindUDP(l.Addr().String()); err != nil {
			l.Close()
		}
		return l, err
	})
	if err != nil {
		return err
	}
	go c.accept(l)
	return c.hold(at(l.Addr(), os.Getpid()))
}

func ignoreTerm(c *call) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if runtime.GOOS == "windows" { // where Ignore has no effect
		onTerm()
	}
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	r.Signals = "ignored"
	return c.hold(r)
}

// onTerm receives requests to end, which then have no other effect.
func onTerm() <-chan os.Signal {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM, os.Interrupt)
	return ch
}

func slow(c *call) error {
	term := onTerm()
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	if err := c.announce(r); err != nil {
		return err
	}
	<-term
	time.Sleep(cmp.Or(c.lasting, time.Second))
	return c.mark("clean")
}

func drain(c *call) error {
	term := onTerm()
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	go c.accept(l)
	if err := c.announce(holding([]net.Listener{l})); err != nil {
		return err
	}
	<-term
	l.Close()
	time.Sleep(cmp.Or(c.lasting, 2*time.Second))
	return c.mark("drained")
}

func memory(c *call) error {
	block := make([]byte, c.bytes)
	for i := 0; i < len(block); i += os.Getpagesize() {
		block[i] = 1
	}
	kept = append(kept, block)
	return serve(c)
}

func many(c *call) error {
	all := make([]net.Listener, c.count(1000))
	for i := range all {
		var err error
		if all[i], err = c.listen(c.addr(), nil); err != nil {
			return err
		}
	}
	for range c.idleFDs {
		if _, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
	}
	return c.hold(holding(all))
}

func threads(c *call) error {
	var started sync.WaitGroup
	for range c.count(500) {
		started.Add(1)
		go func() {
			runtime.LockOSThread() // each parks a thread of its own
			started.Done()
			select {}
		}()
	}
	started.Wait()
	return serve(c)
}

func sleep(c *call) error { return c.hold(at(nil)) }

func noop(*call) error { return nil }
