package main

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

// A ready is the one line on stdout.
type ready struct {
	PID        int      `json:"pid"`  // the first holder; zoo itself where nobody holds anything
	Port       int      `json:"port"` // 0: none
	Addr       string   `json:"addr"` // of the holder's socket: 127.0.0.1:41234, [::]:41234
	PIDs       []int    `json:"pids"` // all that have the sockets open; empty for ghosts
	Addrs      []string `json:"addrs,omitempty"`
	Ports      []int    `json:"ports,omitempty"`
	Parent     int      `json:"parent,omitempty"`     // started the holders; holds nothing unless it is in PIDs
	Supervisor int      `json:"supervisor,omitempty"` // likewise, and starts them again
	Workers    []int    `json:"workers,omitempty"`
	Child      int      `json:"child,omitempty"` // started by the holder, and holds nothing
	Tracer     int      `json:"tracer,omitempty"`
	TID        int      `json:"tid,omitempty"`  // the one thread that has the socket
	Peer       string   `json:"peer,omitempty"` // the other end of the connection
	PeerPID    int      `json:"peer_pid,omitempty"`
	MPTCP      bool     `json:"mptcp,omitempty"`
	Signals    string   `json:"signals,omitempty"` // what became of SIGTERM: blocked, ignored
}

// at is the ready of a socket that pids have open.
func at(addr net.Addr, pids ...int) ready {
	r := ready{PID: os.Getpid(), PIDs: append([]int{}, pids...)}
	if len(pids) > 0 {
		r.PID = pids[0]
	}
	if addr != nil {
		r.Addr, r.Port = addr.String(), portOf(addr.String())
	}
	return r
}

func portOf(addr string) int {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0
	}
	return int(a.Port())
}

func (c *call) announce(r ready) error {
	if err := publish(c.portFile, strconv.Itoa(r.Port)); err != nil {
		return err
	}
	return json.NewEncoder(c.stdout).Encode(r)
}

// hold announces r and stays until a signal, the end of life, or the end of the leash.
func (c *call) hold(r ready) error {
	if err := c.announce(r); err != nil {
		return err
	}
	select {}
}

func (c *call) mark(word string) error { return publish(c.markFile, word) }

// publish writes a file that its reader finds whole or not at all.
func publish(path, text string) error {
	if path == "" {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
