package main

import (
	"io"
	"net"
	"os"
)

func client(c *call) error {
	peer, pid := c.addr(), 0
	if c.udp {
		conn, err := net.Dial("udp", peer)
		if err != nil {
			return err
		}
		kept = append(kept, conn)
		return c.hold(at(conn.LocalAddr(), os.Getpid()))
	}
	if len(c.args) == 0 {
		ch, err := c.spawn(leashed, nil, "serve")
		if err != nil {
			return err
		}
		peer, pid = ch.Addr, ch.PID
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: c.localPort}}
	conn, err := d.Dial("tcp", peer)
	if err != nil {
		return err
	}
	kept = append(kept, conn)
	r := at(conn.LocalAddr(), os.Getpid())
	r.Peer, r.PeerPID = peer, pid
	return c.hold(r)
}

// connect gives both ends of a new connection to l.
func connect(l net.Listener) (out, in net.Conn, err error) {
	if out, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	in, err = l.Accept()
	kept = append(kept, out, in)
	return out, in, err
}

func timeWait(c *call) error {
	var opt sockopt
	if c.exclusive {
		opt = exclusive
	}
	l, err := c.listen(c.addr(), opt)
	if err != nil {
		return err
	}
	out, in, err := connect(l)
	if err != nil {
		return err
	}
	l.Close()
	in.Close()               // TIME_WAIT is for the end that closes first,
	io.Copy(io.Discard, out) // and begins when it has the other's FIN, too
	out.Close()
	if !c.stay {
		return c.announce(at(l.Addr()))
	}
	return c.hold(at(l.Addr()))
}
