package listeners

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/killport/killport/internal/iptable"
)

var (
	iphlpapi = windows.NewLazySystemDLL("iphlpapi.dll")
	tcpTable = iphlpapi.NewProc("GetExtendedTcpTable")
	udpTable = iphlpapi.NewProc("GetExtendedUdpTable")
)

// table is one of the tables of Windows, in the form that has the time of the
// bind and in the one that has not.
type table struct {
	proto        Proto
	call         *windows.LazyProc
	family       uintptr
	module, bare form
}

// form is what GetExtendedTcpTable and GetExtendedUdpTable call a table class:
// https://learn.microsoft.com/windows/win32/api/iprtrmib/ne-iprtrmib-tcp_table_class
type form struct {
	class  uintptr
	layout iptable.Layout
}

const (
	tcpPIDListener    = 3 // TCP_TABLE_OWNER_PID_LISTENER
	tcpPIDConnections = 4 // TCP_TABLE_OWNER_PID_CONNECTIONS
	tcpModuleListener = 6 // TCP_TABLE_OWNER_MODULE_LISTENER
	udpPID            = 1 // UDP_TABLE_OWNER_PID
	udpModule         = 2 // UDP_TABLE_OWNER_MODULE
)

var tables = []table{
	{TCP, tcpTable, windows.AF_INET, form{tcpModuleListener, iptable.TCP4Module}, form{tcpPIDListener, iptable.TCP4PID}},
	{TCP, tcpTable, windows.AF_INET6, form{tcpModuleListener, iptable.TCP6Module}, form{tcpPIDListener, iptable.TCP6PID}},
	{UDP, udpTable, windows.AF_INET, form{udpModule, iptable.UDP4Module}, form{udpPID, iptable.UDP4PID}},
	{UDP, udpTable, windows.AF_INET6, form{udpModule, iptable.UDP6Module}, form{udpPID, iptable.UDP6PID}},
}

// sockets reads the tables of the protocols that are asked for, whole.
func sockets(ctx context.Context, queries []Query) ([]Socket, error) {
	asked := map[Proto]bool{}
	for _, q := range queries {
		asked[q.Proto] = true
	}
	var found []Socket
	for _, t := range tables {
		if !asked[t.proto] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows, err := t.read()
		if err != nil {
			return nil, fmt.Errorf("the table of sockets: %w", err)
		}
		for _, r := range rows {
			if t.proto == UDP || r.State == iptable.StateListen {
				found = append(found, fromRow(t.proto, r))
			}
		}
	}
	return found, nil
}

// read falls back to the table without times.
func (t table) read() ([]iptable.Row, error) {
	rows, err := t.fill(t.module)
	if err == nil {
		return rows, nil
	}
	rows, berr := t.fill(t.bare)
	if berr != nil {
		return nil, errors.Join(err, berr)
	}
	return rows, nil
}

// fill asks until the buffer is large enough: the table may have grown between
// two calls. It is not asked to sort it.
func (t table) fill(f form) ([]iptable.Row, error) {
	const tries, limit = 16, 1 << 28
	size := uint32(1 << 14)
	for range tries {
		buf := make([]uint64, (size+7)/8) // aligned as the structures are
		b := unsafe.Slice((*byte)(unsafe.Pointer(&buf[0])), size)
		errno, _, _ := t.call.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0, t.family, f.class, 0)
		switch err := windows.Errno(errno); {
		case err == 0:
			return f.layout.Parse(b)
		case err != windows.ERROR_INSUFFICIENT_BUFFER || size > limit:
			return nil, fmt.Errorf("%s %v: %w", t.call.Name, f.layout, err)
		}
		size += size / 4
	}
	return nil, fmt.Errorf("%s %v: it grows faster than it can be read", t.call.Name, f.layout)
}

// Connections are the rows of TCP sockets that are or were connected, in any
// state but LISTEN and TIME_WAIT, with the port of q as their own.
func Connections(q Query) ([]iptable.Row, error) {
	var found []iptable.Row
	for _, t := range []table{
		{TCP, tcpTable, windows.AF_INET, form{}, form{tcpPIDConnections, iptable.TCP4PID}},
		{TCP, tcpTable, windows.AF_INET6, form{}, form{tcpPIDConnections, iptable.TCP6PID}},
	} {
		rows, err := t.fill(t.bare)
		if err != nil {
			return nil, fmt.Errorf("the table of connections: %w", err)
		}
		for _, r := range rows {
			if r.State != iptable.StateListen && r.State != iptable.StateTimeWait && q.Matches(fromRow(TCP, r)) {
				found = append(found, r)
			}
		}
	}
	return found, nil
}

// fromRow: what listens on IPv6 and IPv4 at once has a row in both tables, so
// that each row is for its own family only.
func fromRow(proto Proto, r iptable.Row) Socket {
	return Socket{Proto: proto, Local: r.Local, V6Only: r.Local.Addr().Is6(), PID: r.PID, ID: ID{Row: rowName(proto, r)}}
}

// rowName identifies a socket by its address and by when it was bound. Without
// a time the PID must do: a row that another process has made since must not
// pass for this one.
func rowName(proto Proto, r iptable.Row) string {
	if r.Bound == 0 {
		return fmt.Sprintf("%s %s PID %d", proto, r.Local, r.PID)
	}
	return fmt.Sprintf("%s %s @%d", proto, r.Local, r.Bound)
}

// boundAt is the inverse of rowName, as far as there is a time.
func (a ID) boundAt() iptable.FileTime {
	var proto, addr string
	var at uint64
	if n, _ := fmt.Sscanf(a.Row, "%s %s @%d", &proto, &addr, &at); n != 3 {
		return 0
	}
	return iptable.FileTime(at)
}

// closeSocket: nobody can close a socket of another process on Windows.
func closeSocket(context.Context, Socket) error { return errors.ErrUnsupported }

// among: Windows has no fork, and handles are read of all processes at once.
func among([]int, []Socket) []Listener { return nil }
