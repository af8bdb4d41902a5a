package listeners

import (
	"errors"
	"net/netip"
	"os"
	"os/user"
	"testing"

	"golang.org/x/sys/windows"

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
	s, err := windows.Socket(windows.AF_INET, windows.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.Closesocket(s)
	if err := errors.Join(windows.Bind(s, &windows.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), windows.Listen(s, 1)); err != nil {
		t.Fatal(err)
	}
	name, err := windows.Getsockname(s)
	if err != nil {
		t.Fatal(err)
	}
	want := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*windows.SockaddrInet4).Port))
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

// Our own handle leads to our own socket, and one that is no socket to nothing.
func TestHandles(t *testing.T) {
	s, err := windows.Socket(windows.AF_INET, windows.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.Closesocket(s)
	if err := windows.Bind(s, &windows.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := windows.Getsockname(s)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(name.(*windows.SockaddrInet4).Port)
	if got, ok := askAFD(windows.Handle(s)); !ok || got.Port() != port {
		t.Errorf("askAFD(a socket) = %v, %v; want port %d", got, ok, port)
	}
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, ok := askAFD(windows.Handle(f.Fd())); ok {
		t.Errorf("askAFD(a file) = %v", got)
	}
	table, err := readHandles()
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := table.sockets(t.Context(), os.Getpid())
	local := Socket{Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	if err != nil || !leads(addrs, local) {
		t.Errorf("our sockets are %v, %v; want one with port %d", addrs, err, port)
	}
	other := local
	other.Local = netip.AddrPortFrom(local.Local.Addr(), port^1)
	if leads(addrs, other) {
		t.Errorf("%v lead to %v", addrs, other.Local)
	}
}
