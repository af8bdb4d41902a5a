package inetdiag_test

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/killport/killport/internal/inetdiag"
)

// littleEndian skips a test whose bytes were recorded on a little-endian machine.
func littleEndian(t testing.TB) {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the recorded bytes are little-endian")
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMarshal(t *testing.T) {
	littleEndian(t)
	tests := []struct {
		request inetdiag.Request
		want    string
	}{
		{
			inetdiag.Request{
				Family: inetdiag.FamilyIPv4, Protocol: inetdiag.ProtocolTCP,
				States: 1 << inetdiag.StateListen, Port: 8000, Seq: 1,
			},
			"48000000" + "1400" + "0103" + "01000000" + "00000000" + // nlmsghdr
				"02060000" + "00040000" + // family, protocol, extensions, states
				"1f40" + "0000" + zeros(16) + zeros(16) + "00000000" + zeros(8), // inet_diag_sockid
		},
		{
			inetdiag.Request{
				Family: inetdiag.FamilyIPv6, Protocol: inetdiag.ProtocolUDP,
				States: inetdiag.StatesAll, Seq: 0x01020304,
			},
			"48000000" + "1400" + "0103" + "04030201" + "00000000" +
				"0a110000" + "ffffffff" +
				"0000" + "0000" + zeros(16) + zeros(16) + "00000000" + zeros(8),
		},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, hex.EncodeToString(tt.request.Marshal())); diff != "" {
			t.Errorf("(%+v).Marshal() (-want +got):\n%s", tt.request, diff)
		}
	}
}

func TestDestroy(t *testing.T) {
	littleEndian(t)
	tests := []struct {
		socket inetdiag.Socket
		want   string
	}{
		{
			inetdiag.Socket{
				Family: inetdiag.FamilyIPv4, State: inetdiag.StateListen, Cookie: 0x1122334455667788, Interface: 3,
				Local:  netip.MustParseAddrPort("127.0.0.1:8000"),
				Remote: netip.MustParseAddrPort("0.0.0.0:0"),
			},
			"48000000" + "1500" + "0500" + "07000000" + "00000000" +
				"02060000" + "00000000" +
				"1f40" + "0000" + "7f000001" + zeros(12) + zeros(16) + "03000000" + "88776655" + "44332211",
		},
		{
			inetdiag.Socket{
				Family: inetdiag.FamilyIPv6, State: inetdiag.StateEstablished, Cookie: 9,
				Local:  netip.MustParseAddrPort("[::ffff:10.0.0.1]:8000"),
				Remote: netip.MustParseAddrPort("[2001:db8::1]:443"),
			},
			"48000000" + "1500" + "0500" + "07000000" + "00000000" +
				"0a060000" + "00000000" +
				"1f40" + "01bb" + "00000000000000000000ffff0a000001" + "20010db8000000000000000000000001" +
				"00000000" + "09000000" + "00000000",
		},
	}
	for _, tt := range tests {
		got := inetdiag.Destroy(tt.socket, inetdiag.ProtocolTCP, 7)
		if diff := cmp.Diff(tt.want, hex.EncodeToString(got)); diff != "" {
			t.Errorf("Destroy(%+v) (-want +got):\n%s", tt.socket, diff)
		}
	}
}

// A request that does not name one socket might close another one.
func TestDestroyNeedsOneSocket(t *testing.T) {
	good := inetdiag.Socket{
		Family: inetdiag.FamilyIPv4, Cookie: 1,
		Local:  netip.MustParseAddrPort("127.0.0.1:8000"),
		Remote: netip.MustParseAddrPort("0.0.0.0:0"),
	}
	if inetdiag.Destroy(good, inetdiag.ProtocolTCP, 1) == nil {
		t.Fatalf("Destroy(%+v) = nil; want a message", good)
	}
	tests := map[string]func(*inetdiag.Socket){
		"no cookie":           func(s *inetdiag.Socket) { s.Cookie = 0 },
		"wildcard cookie":     func(s *inetdiag.Socket) { s.Cookie = 1<<64 - 1 },
		"no local address":    func(s *inetdiag.Socket) { s.Local = netip.AddrPort{} },
		"no remote address":   func(s *inetdiag.Socket) { s.Remote = netip.AddrPort{} },
		"other family":        func(s *inetdiag.Socket) { s.Family = inetdiag.FamilyIPv6 },
		"unknown family":      func(s *inetdiag.Socket) { s.Family = 3 },
		"mapped IPv4 address": func(s *inetdiag.Socket) { s.Local = netip.MustParseAddrPort("[::ffff:127.0.0.1]:8000") },
	}
	for name, change := range tests {
		s := good
		change(&s)
		if got := inetdiag.Destroy(s, inetdiag.ProtocolTCP, 1); got != nil {
			t.Errorf("%s: Destroy(%+v) = %x; want nil", name, s, got)
		}
	}
}

func TestMatches(t *testing.T) {
	socket := inetdiag.Socket{Family: inetdiag.FamilyIPv4, Local: netip.MustParseAddrPort("127.0.0.1:8000")}
	tests := []struct {
		request inetdiag.Request
		want    bool
	}{
		{inetdiag.Request{Family: inetdiag.FamilyIPv4}, true},
		{inetdiag.Request{Family: inetdiag.FamilyIPv4, Port: 8000}, true},
		{inetdiag.Request{Family: inetdiag.FamilyIPv4, Port: 8001}, false},
		{inetdiag.Request{Family: inetdiag.FamilyIPv6, Port: 8000}, false},
	}
	for _, tt := range tests {
		if got := tt.request.Matches(socket); got != tt.want {
			t.Errorf("(%+v).Matches(%v) = %v; want %v", tt.request, socket.Local, got, tt.want)
		}
	}
}

func zeros(n int) string {
	return hex.EncodeToString(make([]byte, n))
}
