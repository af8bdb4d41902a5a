package listeners

import (
	"errors"
	"net/netip"
	"os"
	"os/user"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/killport/killport/internal/afd"
	"github.com/killport/killport/internal/iptable"
	"github.com/killport/killport/pkg/process"
)

func born(t *testing.T) iptable.FileTime {
	t.Helper()
	var created, exit, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &exit, &kernel, &user); err != nil {
		t.Fatal(err)
	}
	return iptable.FileTime(uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime))
}

// A process that was created after the bind has the PID of the owner, and
// nothing to do with the socket.
func TestOwnerOfAReusedPID(t *testing.T) {
	own := born(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		bound iptable.FileTime
		pid   int
		gone  bool
	}{
		{"bound after we were born", own + 1, os.Getpid(), false},
		{"bound in that moment", own, os.Getpid(), false},
		{"bound before we were born", own - 1, os.Getpid(), true},
		{"bound long before", own - 1e10, os.Getpid(), true},
		{"bound nobody knows when", 0, os.Getpid(), false},
		{"of no process", own, 0, true},
		{"of a process that is gone", own, 1<<22 + 4, true},
	} {
		r := iptable.Row{Local: netip.MustParseAddrPort("127.0.0.1:8000"), PID: uint32(tt.pid), Bound: tt.bound}
		s := fromRow(TCP, r)
		owner, err := ownerOf(s)
		if errors.Is(err, process.ErrGone) != tt.gone || (owner.birth == "") != tt.gone {
			t.Errorf("%s: ownerOf = %+v, %v; want gone: %v", tt.name, owner, err, tt.gone)
		}
		if at := s.ID.boundAt(); at != tt.bound {
			t.Errorf("%s: the row %q was bound at %d; want %d", tt.name, s.ID.Row, at, tt.bound)
		}
		lines, err := holders(t.Context(), []Socket{s})
		if tt.gone && len(lines) == 0 && err == nil {
			continue // what nobody has, and is not in the table, has gone by itself
		}
		if err != nil || tt.gone || len(lines) != 1 || lines[0].Owner != "" || lines[0].PID != tt.pid || lines[0].UID != nil || lines[0].User != me.Username {
			t.Errorf("%s: holders = %+v, %v", tt.name, lines, err)
		}
	}
}

// The clock was set back after this process was created, and before it bound.
func TestOwnerOlderByTheClock(t *testing.T) {
	listener, at := open(t, windows.SOCK_STREAM)
	s := fromRow(TCP, iptable.Row{Local: at, PID: uint32(os.Getpid()), Bound: born(t) - 1e10})
	if owner, err := ownerOf(s); !errors.Is(err, process.ErrGone) {
		t.Errorf("of a socket that does not listen: ownerOf = %+v, %v; want gone", owner, err)
	}
	if err := windows.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	if owner, err := ownerOf(s); owner.birth == "" || err != nil {
		t.Errorf("ownerOf = %+v, %v; want us", owner, err)
	}
}

func TestRowsAreTold(t *testing.T) {
	row := iptable.Row{Local: netip.MustParseAddrPort("[fe80::1%12]:8000"), PID: 4242, Bound: 1}
	id := fromRow(TCP, row).ID
	other := []iptable.Row{row, row, row}
	other[0].Bound = 2
	other[1].Local = netip.MustParseAddrPort("[fe80::1%13]:8000")
	other[2].Bound = 0
	for _, o := range other {
		if id.Same(fromRow(TCP, o).ID) {
			t.Errorf("%v and %v are told to be one socket", row, o)
		}
	}
	if id.Same(fromRow(UDP, row).ID) {
		t.Error("TCP and UDP are told to be one socket")
	}
	row.PID = 0 // the owner has ended
	if !id.Same(fromRow(TCP, row).ID) {
		t.Error("a socket is told to be another when its owner has ended")
	}
	row.Bound, row.PID = 0, 1
	again := row
	again.PID = 2
	if fromRow(TCP, row).ID.Same(fromRow(TCP, again).ID) {
		t.Error("without times, rows of two processes are told to be one socket")
	}
}

func TestTablesOfBothForms(t *testing.T) {
	s, want := open(t, windows.SOCK_STREAM)
	if err := windows.Listen(s, 1); err != nil {
		t.Fatal(err)
	}
	for _, f := range []form{tables[0].module, tables[0].bare} {
		rows, err := tables[0].fill(f)
		found := false
		for _, r := range rows {
			found = found || r.Local == want && r.State == iptable.StateListen
		}
		if err != nil || !found {
			t.Errorf("%v: %v, %v; want %v", f.layout, rows, err, want)
		}
	}
	for _, table := range tables {
		if _, err := table.read(); err != nil {
			t.Errorf("%s: %v", table.module.layout, err)
		}
	}
}

// open makes a socket of ours that is bound to a port of 127.0.0.1.
func open(t *testing.T, kind int) (windows.Handle, netip.AddrPort) {
	t.Helper()
	s, err := windows.Socket(windows.AF_INET, kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { windows.Closesocket(s) })
	if err := windows.Bind(s, &windows.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := windows.Getsockname(s)
	if err != nil {
		t.Fatal(err)
	}
	at := name.(*windows.SockaddrInet4)
	return s, netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port))
}

// Our own handle leads to our own socket, and one that is no socket to nothing.
func TestHandles(t *testing.T) {
	listener, at := open(t, windows.SOCK_STREAM)
	if err := windows.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(listener); err != nil || got.local != at || !got.kind.Listening {
		t.Errorf("ask(a listener) = %v, %v; want one at %v", got, err, at)
	}
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := ask(windows.Handle(f.Fd())); err == nil {
		t.Errorf("ask(a file) = %v", got)
	}
	table, err := readHandles()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := table.sockets(t.Context(), os.Getpid())
	if err != nil || !leads(mine, Socket{Proto: TCP, Local: at}) {
		t.Errorf("our sockets are %v, %v; want one at %v", mine, err, at)
	}
	for _, other := range []Socket{
		{Proto: TCP, Local: netip.AddrPortFrom(at.Addr(), at.Port()^1)},
		{Proto: TCP, Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), at.Port())},
		{Proto: UDP, Local: at},
	} {
		if leads(mine, other) {
			t.Errorf("%v lead to %s %v", mine, other.Proto, other.Local)
		}
	}
}

// What has the address of a listener is not always one.
func TestLeads(t *testing.T) {
	listener := afd.Kind{Listening: true}
	for _, test := range []struct {
		local string
		kind  afd.Kind
		proto Proto
		of    string
		want  bool
	}{
		{"127.0.0.1:8000", listener, TCP, "127.0.0.1:8000", true},
		{"127.0.0.1:8000", afd.Kind{}, TCP, "127.0.0.1:8000", false}, // bound only, or a connection
		{"127.0.0.1:8000", afd.Kind{Datagram: true}, TCP, "127.0.0.1:8000", false},
		{"127.0.0.1:8000", afd.Kind{Datagram: true}, UDP, "127.0.0.1:8000", true},
		{"127.0.0.1:8000", listener, UDP, "127.0.0.1:8000", false},
		{"127.0.0.1:8001", listener, TCP, "127.0.0.1:8000", false},
		{"127.0.0.2:8000", listener, TCP, "127.0.0.1:8000", false},
		{"[::]:8000", listener, TCP, "0.0.0.0:8000", true},
		{"[::ffff:127.0.0.1]:8000", listener, TCP, "127.0.0.1:8000", true},
		{"[fe80::1]:8000", listener, TCP, "[fe80::1%12]:8000", true},
		{"0.0.0.0:8000", listener, TCP, "127.0.0.1:8000", false},
	} {
		o := openSocket{netip.MustParseAddrPort(test.local), test.kind}
		s := Socket{Proto: test.proto, Local: netip.MustParseAddrPort(test.of)}
		if got := leads([]openSocket{o}, s); got != test.want {
			t.Errorf("leads(%+v, %s %s) = %v; want %v", o, s.Proto, s.Local, got, test.want)
		}
	}
}

// A connection that is bound, and a UDP socket, are not listeners.
func TestKinds(t *testing.T) {
	bound, _ := open(t, windows.SOCK_STREAM)
	udp, _ := open(t, windows.SOCK_DGRAM)
	for s, want := range map[windows.Handle]afd.Kind{bound: {}, udp: {Datagram: true}} {
		if got, err := ask(s); err != nil || got.kind != want {
			t.Errorf("ask = %+v, %v; want %+v", got, err, want)
		}
	}
}
