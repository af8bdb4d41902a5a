// Package iptable reads the tables of sockets that GetExtendedTcpTable and
// GetExtendedUdpTable of Windows fill in. It makes no system call, and runs
// everywhere.
package iptable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// States of TCP sockets, MIB_TCP_STATE_…:
// https://learn.microsoft.com/windows/win32/api/tcpmib/ns-tcpmib-mib_tcprow_owner_module
const (
	StateListen   = 2
	StateTimeWait = 11
)

// MaxRows bounds how many rows a table may claim to have.
const MaxRows = 1 << 20

// ErrTruncated says that a table is shorter than it claims.
var ErrTruncated = errors.New("the table is truncated")

// Row is one row of a table.
type Row struct {
	Local netip.AddrPort // with a zone, a number, where the address has one
	State uint32         // TCP only
	PID   uint32         // of who bound the socket; it may be gone
	Bound FileTime       // when that was; 0: unknown
}

// FileTime is a FILETIME as one number: units of 100 ns since 1601, UTC.
// https://learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-filetime
type FileTime uint64

// Time is zero for the zero FileTime.
func (t FileTime) Time() time.Time {
	const unixEpoch = 116444736000000000
	const perSecond = 10_000_000
	if t == 0 {
		return time.Time{}
	}
	since := int64(t) - unixEpoch
	return time.Unix(since/perSecond, since%perSecond*100).UTC()
}

// Layout says where the fields of a row stand: offsets in bytes, as the 64-bit
// and the 32-bit compilers lay the structures out alike. Every number is
// little-endian, except ports and scopes, which are in network byte order.
type Layout struct {
	name  string
	first int // of the first row, behind the number of rows and padding
	size  int // of a row
	addr  int
	v6    bool // the address takes 16 bytes, and its scope follows it
	port  int  // two bytes; what stands in the upper half of the field means nothing
	state int  // -1: there is none
	pid   int
	bound int // -1: there is none
}

// The structures, by what the table is asked for. All are the same since
// Windows Vista. All links: https://learn.microsoft.com/windows/win32/api/ and
var (
	// tcpmib/ns-tcpmib-mib_tcptable_owner_module
	TCP4Module = Layout{name: "MIB_TCPTABLE_OWNER_MODULE", first: 8, size: 160, addr: 4, port: 8, state: 0, pid: 20, bound: 24}
	// tcpmib/ns-tcpmib-mib_tcp6table_owner_module
	TCP6Module = Layout{name: "MIB_TCP6TABLE_OWNER_MODULE", first: 8, size: 192, addr: 0, v6: true, port: 20, state: 48, pid: 52, bound: 56}
	// tcpmib/ns-tcpmib-mib_tcptable_owner_pid
	TCP4PID = Layout{name: "MIB_TCPTABLE_OWNER_PID", first: 4, size: 24, addr: 4, port: 8, state: 0, pid: 20, bound: -1}
	// tcpmib/ns-tcpmib-mib_tcp6table_owner_pid
	TCP6PID = Layout{name: "MIB_TCP6TABLE_OWNER_PID", first: 4, size: 56, addr: 0, v6: true, port: 20, state: 48, pid: 52, bound: -1}
	// udpmib/ns-udpmib-mib_udptable_owner_module
	UDP4Module = Layout{name: "MIB_UDPTABLE_OWNER_MODULE", first: 8, size: 160, addr: 0, port: 4, state: -1, pid: 8, bound: 16}
	// udpmib/ns-udpmib-mib_udp6table_owner_module
	UDP6Module = Layout{name: "MIB_UDP6TABLE_OWNER_MODULE", first: 8, size: 176, addr: 0, v6: true, port: 20, state: -1, pid: 24, bound: 32}
	// udpmib/ns-udpmib-mib_udptable_owner_pid
	UDP4PID = Layout{name: "MIB_UDPTABLE_OWNER_PID", first: 4, size: 12, addr: 0, port: 4, state: -1, pid: 8, bound: -1}
	// udpmib/ns-udpmib-mib_udp6table_owner_pid
	UDP6PID = Layout{name: "MIB_UDP6TABLE_OWNER_PID", first: 4, size: 28, addr: 0, v6: true, port: 20, state: -1, pid: 24, bound: -1}
)

func (l Layout) String() string { return l.name }

// V6 reports whether the table is one of IPv6.
func (l Layout) V6() bool { return l.v6 }

// Parse reads a whole table.
func (l Layout) Parse(b []byte) ([]Row, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%s: %w", l, ErrTruncated)
	}
	rows := binary.LittleEndian.Uint32(b)
	switch {
	case rows > MaxRows:
		return nil, fmt.Errorf("%s: %d rows, more than %d", l, rows, MaxRows)
	case rows > 0 && len(b) < l.first+int(rows)*l.size:
		return nil, fmt.Errorf("%s of %d rows in %d bytes: %w", l, rows, len(b), ErrTruncated)
	}
	found := make([]Row, 0, rows)
	for i := range int(rows) {
		at := l.first + i*l.size
		found = append(found, l.row(b[at:at+l.size]))
	}
	return found, nil
}

// row reads a row, which is whole.
func (l Layout) row(b []byte) Row {
	r := Row{
		Local: netip.AddrPortFrom(l.address(b), binary.BigEndian.Uint16(b[l.port:])),
		PID:   binary.LittleEndian.Uint32(b[l.pid:]),
	}
	if l.state >= 0 {
		r.State = binary.LittleEndian.Uint32(b[l.state:])
	}
	if l.bound >= 0 {
		r.Bound = FileTime(binary.LittleEndian.Uint64(b[l.bound:]))
	}
	return r
}

func (l Layout) address(b []byte) netip.Addr {
	if !l.v6 {
		return netip.AddrFrom4([4]byte(b[l.addr:]))
	}
	addr := netip.AddrFrom16([16]byte(b[l.addr:]))
	if scope := binary.BigEndian.Uint32(b[l.addr+16:]); scope != 0 && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return addr
}
