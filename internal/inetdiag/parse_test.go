package inetdiag_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/killport/killport/internal/inetdiag"
)

// recorded returns the datagrams of testdata/recorded by their names.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	file, err := os.ReadFile("testdata/recorded")
	if err != nil {
		t.Fatal(err)
	}
	datagrams := make(map[string][]byte)
	for line := range strings.Lines(string(file)) {
		name, bytes, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "#" {
			datagrams[name] = unhex(t, bytes)
		}
	}
	return datagrams
}

var (
	listen4 = inetdiag.Socket{
		Family: inetdiag.FamilyIPv4, State: inetdiag.StateListen,
		Local: netip.MustParseAddrPort("127.0.0.1:28000"), Remote: netip.MustParseAddrPort("0.0.0.0:0"),
		Cookie: 1, SendQueue: 7, Inode: 13002,
	}
	listen6 = inetdiag.Socket{
		Family: inetdiag.FamilyIPv6, State: inetdiag.StateListen,
		Local: netip.MustParseAddrPort("[::]:28001"), Remote: netip.MustParseAddrPort("[::]:0"),
		Cookie: 2, SendQueue: 7, Inode: 13004,
	}
	bound4 = inetdiag.Socket{
		Family: inetdiag.FamilyIPv4, State: inetdiag.StateClose,
		Local: netip.MustParseAddrPort("127.0.0.1:28003"), Remote: netip.MustParseAddrPort("0.0.0.0:0"),
		Cookie: 4, Inode: 13009,
	}
	timeWait = inetdiag.Socket{
		Family: inetdiag.FamilyIPv4, State: inetdiag.StateTimeWait,
		Local: netip.MustParseAddrPort("127.0.0.1:28000"), Remote: netip.MustParseAddrPort("127.0.0.1:33090"),
		Cookie: 8, Timer: 3, Expires: 59952 * time.Millisecond,
	}
)

// compareSockets makes addresses comparable.
var compareSockets = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})}

func parse(datagram []byte) (sockets []inetdiag.Socket, done bool, err error) {
	done, err = inetdiag.Parse(datagram, func(s inetdiag.Socket) { sockets = append(sockets, s) })
	return sockets, done, err
}

func TestParseRecorded(t *testing.T) {
	littleEndian(t)
	tests := []struct {
		names []string // in one datagram
		want  []inetdiag.Socket
		done  bool
	}{
		{[]string{"listen4"}, []inetdiag.Socket{listen4}, false},
		{[]string{"listen6"}, []inetdiag.Socket{listen6}, false},
		{[]string{"v6only"}, []inetdiag.Socket{{
			Family: inetdiag.FamilyIPv6, State: inetdiag.StateListen,
			Local: netip.MustParseAddrPort("[::1]:28002"), Remote: netip.MustParseAddrPort("[::]:0"),
			Cookie: 3, SendQueue: 7, Inode: 13006, V6Only: true,
		}}, false},
		// An IPv4 connection of the socket on [::]:28001.
		{[]string{"mapped"}, []inetdiag.Socket{{
			Family: inetdiag.FamilyIPv6, State: inetdiag.StateEstablished,
			Local:  netip.MustParseAddrPort("[::ffff:127.0.0.1]:28001"),
			Remote: netip.MustParseAddrPort("[::ffff:127.0.0.1]:43030"),
			Cookie: 6, ReceiveQueue: 3, Inode: 13015,
		}}, false},
		// Every state was asked for, and port 28000: a bound socket comes whatever its port.
		{[]string{"three"}, []inetdiag.Socket{listen4, bound4, timeWait}, false},
		{[]string{"udp"}, []inetdiag.Socket{{
			Family: inetdiag.FamilyIPv4, State: inetdiag.StateClose,
			Local: netip.MustParseAddrPort("127.0.0.1:28004"), Remote: netip.MustParseAddrPort("0.0.0.0:0"),
			Cookie: 9, Inode: 13021,
		}}, false},
		{[]string{"done"}, nil, true},
		{[]string{"listen4", "listen6", "done"}, []inetdiag.Socket{listen4, listen6}, true},
		{[]string{"listen4", "done", "listen6"}, []inetdiag.Socket{listen4}, true},
	}
	datagrams := recorded(t)
	for _, tt := range tests {
		t.Run(strings.Join(tt.names, "+"), func(t *testing.T) {
			var datagram []byte
			for _, name := range tt.names {
				datagram = append(datagram, datagrams[name]...)
			}
			got, done, err := parse(datagram)
			if done != tt.done || err != nil {
				t.Errorf("Parse = %v, %v; want %v, <nil>", done, err, tt.done)
			}
			if diff := cmp.Diff(tt.want, got, compareSockets); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRecordedRefusal(t *testing.T) {
	littleEndian(t)
	datagrams := recorded(t)
	tests := []struct {
		name string
		want syscall.Errno
	}{
		{"protocol", 2}, // 200: a dump that ends with -ENOENT
		{"family", 22},  // 99: -EINVAL, and the request again
	}
	for _, tt := range tests {
		_, done, err := parse(datagrams[tt.name])
		if !done || !errors.Is(err, tt.want) {
			t.Errorf("%s: Parse = %v, %v; want true, errno %d", tt.name, done, err, int(tt.want))
		}
	}
}

// Messages in the byte order of this machine, to say what no kernel could be made to say.
const (
	noop     = 1
	failure  = 2
	done     = 3
	overrun  = 4
	diag     = 20
	multi    = 0x2
	dumpIntr = 0x10
)

// netlink returns a netlink message with its padding.
func netlink(kind, flags uint16, body ...byte) []byte {
	order := binary.NativeEndian
	b := order.AppendUint32(nil, uint32(16+len(body)))
	b = order.AppendUint16(b, kind)
	b = order.AppendUint16(b, flags)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint32(b, 0)
	return pad(append(b, body...))
}

// socketMessage returns the message with s, and with more attributes.
func socketMessage(s inetdiag.Socket, attributes ...[]byte) []byte {
	return netlink(diag, multi, append(inetDiagMsg(s), slices.Concat(attributes...)...)...)
}

func attribute(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func errno(n int32) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(n))
}

// inetDiagMsg is what parseSocket undoes.
func inetDiagMsg(s inetdiag.Socket) []byte {
	order := binary.NativeEndian
	b := []byte{s.Family, s.State, s.Timer, 0}
	b = binary.BigEndian.AppendUint16(b, s.Local.Port())
	b = binary.BigEndian.AppendUint16(b, s.Remote.Port())
	for _, a := range []netip.Addr{s.Local.Addr(), s.Remote.Addr()} {
		b = append(b, a.AsSlice()...)
		b = append(b, make([]byte, 16-a.BitLen()/8)...)
	}
	b = order.AppendUint32(b, s.Interface)
	b = order.AppendUint32(b, uint32(s.Cookie))
	b = order.AppendUint32(b, uint32(s.Cookie>>32))
	for _, n := range []uint32{uint32(s.Expires / time.Millisecond), s.ReceiveQueue, s.SendQueue, s.UID, s.Inode} {
		b = order.AppendUint32(b, n)
	}
	if s.V6Only {
		b = append(b, attribute(11, 1)...)
	}
	return b
}

func TestParseControl(t *testing.T) {
	everything := inetdiag.Socket{
		Family: inetdiag.FamilyIPv6, State: inetdiag.StateLastAck, Timer: 1,
		Local: netip.MustParseAddrPort("[fe80::1]:1"), Remote: netip.MustParseAddrPort("[fe80::2]:65535"),
		Interface: 4, Cookie: 0xfedcba9876543210, Expires: (1<<32 - 1) * time.Millisecond,
		ReceiveQueue: 5, SendQueue: 6, UID: 1<<32 - 1, Inode: 1<<32 - 2, V6Only: true,
	}
	socket := socketMessage(everything)
	interrupted := netlink(diag, multi|dumpIntr, inetDiagMsg(everything)...)
	one := []inetdiag.Socket{everything}
	tests := []struct {
		name     string
		datagram []byte
		want     []inetdiag.Socket
		done     bool
		err      error
	}{
		{"every field", socket, one, false, nil},
		{"acknowledgement", netlink(failure, 0, slices.Concat(errno(0), make([]byte, 16))...), nil, true, nil},
		{"refused", netlink(failure, 0, errno(-1)...), nil, true, syscall.Errno(1)},
		{"dump ends with an error", slices.Concat(socket, netlink(done, multi, errno(-105)...)), one, true, syscall.Errno(105)},
		{"end without an error number", netlink(done, multi), nil, true, nil},
		{"no operation", slices.Concat(netlink(noop, 0, 1, 2, 3), socket), one, false, nil},
		{"interrupted", slices.Concat(interrupted, socket), slices.Repeat(one, 2), false, inetdiag.ErrInterrupted},
		{"interrupted at the end", slices.Concat(socket, netlink(done, multi|dumpIntr, errno(0)...)), one, true, inetdiag.ErrInterrupted},
		{"overrun", slices.Concat(netlink(overrun, 0), socket), one, false, inetdiag.ErrInterrupted},
		{"unknown attributes", socketMessage(everything, attribute(999, 1, 2, 3), attribute(0x8000)), one, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, done, err := parse(tt.datagram)
			if done != tt.done || !errors.Is(err, tt.err) {
				t.Errorf("Parse(%x) = %v, %v; want %v, %v", tt.datagram, done, err, tt.done, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, compareSockets); diff != "" {
				t.Errorf("Parse(%x) (-want +got):\n%s", tt.datagram, diff)
			}
		})
	}
}

// The last message and the last attribute may go without their padding.
func TestParseNoPadding(t *testing.T) {
	b := socketMessage(listen4, attribute(8, 1))
	length := len(b) - 3
	binary.NativeEndian.PutUint32(b, uint32(length))
	got, _, err := parse(b[:length])
	if len(got) != 1 || err != nil {
		t.Errorf("Parse(%x) = %v, %v; want one socket", b[:length], got, err)
	}
}

func TestParseGarbage(t *testing.T) {
	socket := socketMessage(listen4)
	tests := []struct {
		name     string
		datagram []byte
		want     string // in the error
		sockets  int
	}{
		{"empty", nil, "empty", 0},
		{"half a header", socket[:15], "offset 0: cut off", 0},
		{"cut off", socket[:len(socket)-1], "offset 0: cut off", 0},
		{"second cut off", slices.Concat(socket, socket[:40]), "offset 88: cut off", 1},
		{"bytes behind", slices.Concat(socket, []byte{0}), "offset 88: cut off", 1},
		{"length 0", slices.Concat(socket, make([]byte, 16)), "offset 88: length 0", 1},
		{"length 15", slices.Concat(word(15), make([]byte, 12)), "offset 0: length 15", 0},
		{"length 2^32-1", slices.Concat(word(1<<32-1), make([]byte, 12)), "offset 0: cut off", 0},
		{"unknown type", netlink(5, 0), "offset 0: unknown type 5", 0},
		{"short socket", netlink(diag, multi, inetDiagMsg(listen4)[:71]...), "offset 0: socket of 71 bytes", 0},
		{"unknown family", netlink(diag, multi, make([]byte, 72)...), "offset 0: unknown family 0", 0},
		{"short error number", netlink(failure, 0, 1, 2, 3), "offset 0: cut off: 3 bytes", 0},
		{"error without number", netlink(failure, 0), "offset 0: cut off: 0 bytes", 0},
		{"short end", slices.Concat(socket, netlink(done, 0, 1)), "offset 88: cut off: 1 bytes", 1},
		{"positive error number", netlink(failure, 0, errno(1)...), "error number 1 is out of range", 0},
		{"huge error number", netlink(failure, 0, errno(-4096)...), "error number -4096 is out of range", 0},
		{"smallest error number", netlink(done, 0, errno(-1<<31)...), "out of range", 0},
		{"attribute cut off", socketMessage(listen4, []byte{4, 0}), "attribute at 72: cut off", 0},
		{"attribute of length 0", socketMessage(listen4, make([]byte, 4)), "attribute at 72: length 0", 0},
		{"attribute too long", socketMessage(listen4, attribute(8, 1, 2, 3, 4)[:7]), "attribute at 72: length 8, 7 bytes left", 0},
		{"attribute without value", socketMessage(listen4, attribute(11)), "attribute at 72: no value", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sockets, done, err := parse(tt.datagram)
			if done || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%x) = %v, %v; want false, an error with %q", tt.datagram, done, err, tt.want)
			}
			if len(sockets) != tt.sockets {
				t.Errorf("Parse(%x) yields %d sockets; want %d", tt.datagram, len(sockets), tt.sockets)
			}
		})
	}
}

func word(n uint32) []byte {
	return binary.NativeEndian.AppendUint32(nil, n)
}

func FuzzParse(f *testing.F) {
	for _, datagram := range recorded(f) {
		f.Add(datagram)
	}
	f.Add(netlink(diag, multi|dumpIntr, inetDiagMsg(listen6)...))
	f.Add(slices.Concat(netlink(noop, 0), socketMessage(timeWait), netlink(done, multi, errno(-1)...)))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		sockets, done, err := parse(datagram)
		if len(sockets) > len(datagram)/88 {
			t.Fatalf("%d sockets in %d bytes", len(sockets), len(datagram))
		}
		if !done && err == nil && len(datagram) == 0 {
			t.Fatal("an empty datagram is no answer")
		}
		for _, s := range sockets {
			checkSocket(t, s)
		}
	})
}

// checkSocket fails if s is not what can be written back.
func checkSocket(t *testing.T, s inetdiag.Socket) {
	t.Helper()
	if is4 := s.Family == inetdiag.FamilyIPv4; is4 != s.Local.Addr().Is4() || is4 != s.Remote.Addr().Is4() {
		t.Fatalf("family %d, addresses %v and %v", s.Family, s.Local, s.Remote)
	}
	again, _, err := parse(socketMessage(s))
	if err != nil || len(again) != 1 || again[0] != s {
		t.Fatalf("%+v was written and read as %+v, %v", s, again, err)
	}
	if wild := s.Cookie == 0 || s.Cookie == 1<<64-1; wild != (inetdiag.Destroy(s, inetdiag.ProtocolTCP, 1) == nil) {
		t.Fatalf("Destroy(%+v) = nil is %v; want %v", s, !wild, wild)
	}
}
