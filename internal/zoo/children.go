package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A tie says what becomes of a child when its parent ends.
type tie int

const (
	leashed tie = iota // it ends, too
	free               // it lives on
)

// A child is a mode that another process of zoo plays for us.
type child struct {
	ready
	cmd   *exec.Cmd
	leash io.Closer     // nil if free
	done  chan struct{} // closed when it has ended and was reaped
}

// spawn starts mode and waits until it is ready.
func (c *call) spawn(t tie, files []*os.File, mode string, args ...string) (*child, error) {
	return c.spawnPrepared(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = files }, mode, args...)
}

func (c *call) spawnPrepared(t tie, prepare func(*exec.Cmd), mode string, args ...string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close() // so that it has no output of ours, and nobody who reads ours waits for it
	ch := &child{done: make(chan struct{})}
	ch.cmd = exec.Command(exe, mode, "--life="+c.left().String(), "--leash="+strconv.FormatBool(t == leashed || c.leash))
	ch.cmd.Args = append(ch.cmd.Args, args...)
	ch.cmd.Args[0] = "zoo" // also below one that was started by another name, as a supervisor
	ch.cmd.Stdout, ch.cmd.Stderr = w, w
	prepare(ch.cmd)
	err = ch.start(t, c.leash)
	w.Close()
	if err != nil {
		return nil, err
	}
	return ch, ch.await(mode, r)
}

func (ch *child) start(t tie, inheritLeash bool) (err error) {
	switch {
	case t == leashed:
		if ch.leash, err = ch.cmd.StdinPipe(); err != nil {
			return err
		}
	case inheritLeash:
		ch.cmd.Stdin = os.Stdin
	}
	if err := ch.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = ch.cmd.Wait()
		close(ch.done)
	}()
	return nil
}

// await reads the child's line; anything else is its error.
func (ch *child) await(mode string, r io.Reader) error {
	line, _ := bufio.NewReader(r).ReadBytes('\n')
	if json.Unmarshal(line, &ch.ready) == nil {
		return nil
	}
	ch.end()
	return fmt.Errorf("%s: %s", mode, strings.TrimSpace(string(line)))
}

func (ch *child) end() {
	if ch.leash != nil {
		ch.leash.Close()
	} else {
		_ = ch.cmd.Process.Signal(syscall.SIGTERM)
	}
}

// holdWhile announces r and stays until the children are gone.
func (c *call) holdWhile(children []*child, r ready) error {
	if err := c.announce(r); err != nil {
		return err
	}
	for _, ch := range children {
		<-ch.done
	}
	return nil
}

// A supervisor starts each of its children again when it ends.
type supervisor struct {
	start func() (*child, error)

	mu     sync.Mutex // held while a child starts, so that end misses none
	alive  map[*child]struct{}
	ending bool
	keeper sync.WaitGroup
}

// add starts a child and sees to it that there is always one in its place.
func (s *supervisor) add() (*child, error) {
	ch, err := s.next()
	if err != nil {
		return nil, err
	}
	s.keeper.Go(func() { s.keep(ch) })
	return ch, nil
}

func (s *supervisor) keep(ch *child) {
	for {
		if ch != nil {
			<-ch.done
		}
		s.mu.Lock()
		delete(s.alive, ch)
		ending := s.ending
		s.mu.Unlock()
		if ending {
			return
		}
		var err error
		if ch, err = s.next(); err != nil {
			time.Sleep(5 * time.Millisecond) // somebody else has the port
		}
	}
}

func (s *supervisor) next() (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return nil, context.Canceled
	}
	ch, err := s.start()
	if err != nil {
		return nil, err
	}
	if s.alive == nil {
		s.alive = map[*child]struct{}{}
	}
	s.alive[ch] = struct{}{}
	return ch, nil
}

// end ends all children and waits for them.
func (s *supervisor) end() {
	s.mu.Lock()
	s.ending = true
	for ch := range s.alive {
		ch.end()
	}
	s.mu.Unlock()
	s.keeper.Wait()
}

func respawn(c *call) error {
	term := onTerm()
	server, flag := "serve", "--warmup="+c.warmup.String()
	args := []string{c.addr()}
	if c.drains {
		server, flag = "drain", "--for="+c.lasting.String()
		args = []string{flag, c.addr()}
	}
	s := supervisor{start: func() (*child, error) { return c.spawn(leashed, nil, server, args...) }}
	ch, err := s.add()
	if err != nil {
		return err
	}
	args = []string{flag, ch.Addr}
	r := ch.ready
	r.Supervisor = os.Getpid()
	if err := c.announce(r); err != nil {
		return err
	}
	<-term
	s.end()
	return nil
}

func two(c *call) error {
	if c.parentHolds {
		return twoWithParent(c)
	}
	children, err := severalTimes(func() ([]*child, error) {
		a, err := c.spawn(leashed, nil, "serve", c.addr())
		if err != nil {
			return nil, err
		}
		b, err := c.spawn(leashed, nil, "serve", withPort("127.0.0.2:0", a.Port))
		if err != nil {
			a.end()
		}
		return []*child{a, b}, err
	})
	if err != nil {
		return err
	}
	r := together(children)
	r.Addrs = []string{children[0].Addr, children[1].Addr}
	return c.holdWhile(children, r)
}

func twoWithParent(c *call) error {
	var child *child
	l, err := severalTimes(func() (net.Listener, error) {
		l, err := c.listen(c.addr(), nil)
		if err == nil {
			child, err = c.spawn(leashed, nil, "serve", withPort("127.0.0.2:0", portOf(l.Addr().String())))
		}
		return l, err
	})
	if err != nil {
		return err
	}
	return c.hold(at(l.Addr(), os.Getpid(), child.PID))
}

// together is the ready of children that hold sockets of their own.
func together(children []*child) ready {
	r := children[0].ready
	r.Parent = os.Getpid()
	for _, ch := range children[1:] {
		r.PIDs = append(r.PIDs, ch.PID)
	}
	return r
}

// runHolding has no line of its own: stdout is the command's, and stdin, too, so that --leash is not for it.
func runHolding(c *call) error {
	if len(c.args) < 3 || c.args[1] != "--" {
		return fmt.Errorf("%w: run-holding ADDR -- CMD [ARG]", errUsage)
	}
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	go c.accept(l)
	port := strconv.Itoa(portOf(l.Addr().String()))
	if err := publish(c.portFile, port); err != nil {
		return err
	}
	argv := c.args[2:]
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "{port}", port)
	}
	ctx, cancel := context.WithDeadline(context.Background(), c.over.Add(-100*time.Millisecond))
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

func churn(c *call) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := c.announce(at(nil)); err != nil {
		return err
	}
	over := time.Now().Add(cmp.Or(c.lasting, 10*time.Second))
	var workers sync.WaitGroup
	for range c.count(4) {
		workers.Go(func() {
			for time.Now().Before(over) {
				_ = exec.Command(exe, "noop").Run()
			}
		})
	}
	workers.Wait()
	return nil
}
