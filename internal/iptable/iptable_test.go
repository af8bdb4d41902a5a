package iptable

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A table is written as a C compiler lays it out: the rows with their padding
// spelled out, in the order of the fields.
func table(rows ...any) []byte {
	var b []byte
	for _, r := range rows {
		b, _ = binary.Append(b, binary.LittleEndian, r)
	}
	return b
}

// port is in network byte order, in a DWORD whose upper half is not cleared.
func port(n uint16) [4]byte { return [4]byte{byte(n >> 8), byte(n), 0xab, 0xcd} }

type (
	tcp4 struct {
		State      uint32
		Local      [4]byte
		LocalPort  [4]byte
		Remote     [4]byte
		RemotePort [4]byte
		PID        uint32
	}
	tcp6 struct {
		Local       [16]byte
		LocalScope  [4]byte
		LocalPort   [4]byte
		Remote      [16]byte
		RemoteScope [4]byte
		RemotePort  [4]byte
		State, PID  uint32
	}
	udp4 struct {
		Local     [4]byte
		LocalPort [4]byte
		PID       uint32
	}
	udp6 struct {
		Local      [16]byte
		LocalScope [4]byte
		LocalPort  [4]byte
		PID        uint32
	}
)

var (
	pad    uint32
	module [16]uint64 // OwningModuleInfo
	bound  = uint64(134_000_000_000_000_000)
	local4 = [4]byte{127, 0, 0, 1}
	local6 = [16]byte{0xfe, 0x80, 15: 1}
	scope  = [4]byte{3: 12}

	row4 = tcp4{State: StateListen, Local: local4, LocalPort: port(8000), PID: 4242}
	row6 = tcp6{Local: local6, LocalScope: scope, LocalPort: port(8000), State: StateListen, PID: 4242}
	dgr4 = udp4{local4, port(8000), 4242}
	dgr6 = udp6{local6, scope, port(8000), 4242}
)

func TestParse(t *testing.T) {
	at4, at6 := netip.MustParseAddrPort("127.0.0.1:8000"), netip.MustParseAddrPort("[fe80::1%12]:8000")
	for _, tt := range []struct {
		layout Layout
		b      []byte
		want   Row
	}{
		{TCP4PID, table(uint32(2), row4, row4), Row{at4, StateListen, 4242, 0}},
		{TCP6PID, table(uint32(2), row6, row6), Row{at6, StateListen, 4242, 0}},
		{UDP4PID, table(uint32(2), dgr4, dgr4), Row{at4, 0, 4242, 0}},
		{UDP6PID, table(uint32(2), dgr6, dgr6), Row{at6, 0, 4242, 0}},
		{TCP4Module, table(uint32(2), pad, row4, bound, module, row4, bound, module), Row{at4, StateListen, 4242, FileTime(bound)}},
		{TCP6Module, table(uint32(2), pad, row6, bound, module, row6, bound, module), Row{at6, StateListen, 4242, FileTime(bound)}},
		{UDP4Module, table(uint32(2), pad, dgr4, pad, bound, pad, pad, module, dgr4, pad, bound, pad, pad, module), Row{at4, 0, 4242, FileTime(bound)}},
		{UDP6Module, table(uint32(2), pad, dgr6, pad, bound, pad, pad, module, dgr6, pad, bound, pad, pad, module), Row{at6, 0, 4242, FileTime(bound)}},
	} {
		if len(tt.b) != tt.layout.first+2*tt.layout.size {
			t.Errorf("%v of 2 rows takes %d bytes; the test has %d", tt.layout, tt.layout.first+2*tt.layout.size, len(tt.b))
			continue
		}
		got, err := tt.layout.Parse(append(tt.b, 1, 2, 3)) // the buffer may be longer
		if diff := cmp.Diff([]Row{tt.want, tt.want}, got, cmp.Comparer(sameAddr)); err != nil || diff != "" {
			t.Errorf("%v.Parse(…) = %v, %v; want two of %v\n%s", tt.layout, got, err, tt.want, diff)
		}
		if got, err := tt.layout.Parse(tt.b[:len(tt.b)-1]); !errors.Is(err, ErrTruncated) {
			t.Errorf("%v.Parse(all but the last byte) = %v, %v; want %v", tt.layout, got, err, ErrTruncated)
		}
	}
}

func sameAddr(a, b netip.AddrPort) bool { return a == b }

func TestParseOddTables(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"nothing at all", nil, false},
		{"half a number", []byte{0, 0}, false},
		{"no rows", table(uint32(0)), true},
		{"rows that are not there", table(uint32(1)), false},
		{"more rows than can be", append(table(uint32(1<<31)), make([]byte, 1<<10)...), false},
	} {
		rows, err := TCP4Module.Parse(tt.b)
		if (err == nil) != tt.ok || len(rows) != 0 {
			t.Errorf("Parse(%s) = %v, %v", tt.name, rows, err)
		}
	}
}

func TestNoScopeButForLinkLocal(t *testing.T) {
	row := row6
	row.Local = [16]byte{15: 1}
	rows, err := TCP6PID.Parse(table(uint32(1), row))
	if err != nil || rows[0].Local != netip.MustParseAddrPort("[::1]:8000") {
		t.Errorf("Parse(::1 with a scope) = %v, %v; want [::1]:8000", rows, err)
	}
}

func TestFileTime(t *testing.T) {
	want := time.Date(2026, 11, 22, 17, 30, 0, 123_456_700, time.UTC)
	if got := FileTime(134_398_422_001_234_567).Time(); !got.Equal(want) {
		t.Errorf("Time() = %v; want %v", got, want)
	}
	if got := FileTime(0).Time(); !got.IsZero() {
		t.Errorf("FileTime(0).Time() = %v; want zero", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table(uint32(1), pad, row4, bound, module))
	f.Add(table(uint32(1), pad, row6, bound, module))
	f.Add(table(uint32(1), dgr4))
	f.Add(table(uint32(1<<32-1), dgr6))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, l := range []Layout{TCP4Module, TCP6Module, TCP4PID, TCP6PID, UDP4Module, UDP6Module, UDP4PID, UDP6PID} {
			rows, err := l.Parse(b)
			if err == nil && len(rows)*l.size > len(b) {
				t.Errorf("%v.Parse(%d bytes) = %d rows", l, len(b), len(rows))
			}
			for _, r := range rows {
				if r.Local.Addr().Is6() != l.V6() {
					t.Errorf("%v.Parse: address %v", l, r.Local)
				}
			}
		}
	})
}
