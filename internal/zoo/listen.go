package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// kept holds sockets and memory that nothing else refers to: the garbage collector would close or free them.
var kept []any

// A sockopt is a net.ListenConfig.Control: it runs between socket(2) and bind(2), after Go has set SO_REUSEADDR.
type sockopt = func(network, address string, s syscall.RawConn) error

func (c *call) listen(addr string, opt sockopt) (net.Listener, error) {
	lc := net.ListenConfig{Control: opt}
	lc.SetMultipathTCP(c.mptcp)
	l, err := lc.Listen(context.Background(), c.network("tcp", addr), addr)
	if err != nil {
		return nil, err
	}
	kept = append(kept, l)
	return l, claim(l)
}

// network keeps Go from listening on [::] where 0.0.0.0 was said.
func (c *call) network(proto, addr string) string {
	a, err := netip.ParseAddrPort(addr)
	switch {
	case err == nil && a.Addr().Is4():
		return proto + "4"
	case c.v6only:
		return proto + "6"
	}
	return proto
}

// addrs are the ADDRs of the command line; one with a range of ports is one for each of them.
func (c *call) addrs() []string {
	if len(c.args) == 0 {
		return []string{"127.0.0.1:0"}
	}
	var all []string
	for _, addr := range c.args {
		all = append(all, span(addr)...)
	}
	return all
}

func span(addr string) []string {
	host, ports, err := net.SplitHostPort(addr)
	from, to, _ := strings.Cut(ports, "-")
	first, err1 := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if errors.Join(err, err1, err2) != nil || last < first {
		return []string{addr}
	}
	var all []string
	for port := first; port <= last; port++ {
		all = append(all, net.JoinHostPort(host, strconv.FormatUint(port, 10)))
	}
	return all
}

// addr is the only ADDR of a mode that has one.
func (c *call) addr() string { return c.addrs()[0] }

func (c *call) listenAll() ([]net.Listener, error) {
	var opt sockopt
	if c.reusePort {
		opt = sharePort
	}
	var all []net.Listener
	for _, addr := range c.addrs() {
		if c.samePort && len(all) > 0 {
			addr = withPort(addr, portOf(all[0].Addr().String()))
		}
		l, err := c.listen(addr, opt)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// severalTimes is for what wants one port number twice: the one that the kernel chose for the first socket may be
// taken for the second.
func severalTimes[T any](f func() (T, error)) (v T, err error) {
	for range 10 {
		if v, err = f(); err == nil {
			break
		}
	}
	return v, err
}

func withPort(addr string, port int) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func closeAll[C io.Closer](all []C) {
	for _, c := range all {
		c.Close()
	}
}

// holding is the ready of listeners of this process.
func holding(all []net.Listener) ready {
	r := at(all[0].Addr(), os.Getpid())
	r.MPTCP = isMPTCP(all[0])
	if len(all) > 1 {
		for _, l := range all {
			r.Addrs = append(r.Addrs, l.Addr().String())
			r.Ports = append(r.Ports, portOf(l.Addr().String()))
		}
	}
	return r
}

// accept serves l until it is closed.
func (c *call) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go c.answer(conn)
	}
}

// answer echoes, or says 200 to every request without a body.
func (c *call) answer(conn net.Conn) {
	defer conn.Close()
	if !c.http {
		io.Copy(conn, conn)
		return
	}
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
		}
	}
}

// count is --n, or what the mode does without it.
func (c *call) count(otherwise int) int { return cmp.Or(c.n, otherwise) }
