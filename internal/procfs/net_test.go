package procfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/killport/killport/internal/procfs"
)

// compareAddresses makes addresses comparable.
var compareAddresses = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})}

func parseNet(r io.Reader) (sockets []procfs.NetSocket, err error) {
	err = procfs.ParseNet(r, func(s procfs.NetSocket) { sockets = append(sockets, s) })
	return sockets, err
}

func netSocket(local, remote string, state uint8, inode uint64) procfs.NetSocket {
	return procfs.NetSocket{
		Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote),
		State: state, Inode: inode,
	}
}

func TestParseNet(t *testing.T) {
	littleEndian(t)
	tests := []struct {
		name string
		want []procfs.NetSocket
	}{
		{"net-tcp", []procfs.NetSocket{
			netSocket("127.0.0.1:28000", "0.0.0.0:0", 10, 13002),
			netSocket("127.0.0.1:28000", "127.0.0.1:33090", 6, 0),
			netSocket("127.0.0.1:43030", "127.0.0.1:28001", 1, 13014),
		}},
		{"net-tcp6", []procfs.NetSocket{
			netSocket("[::1]:28002", "[::]:0", 10, 13006),
			netSocket("[::]:28001", "[::]:0", 10, 13004),
			netSocket("[::ffff:127.0.0.1]:28001", "[::ffff:127.0.0.1]:43030", 1, 13015),
		}},
		{"net-udp", []procfs.NetSocket{netSocket("127.0.0.1:28004", "0.0.0.0:0", 7, 13021)}},
		{"net-udp6", []procfs.NetSocket{netSocket("[::]:28005", "[::]:0", 7, 13023)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseNet(iotest.OneByteReader(bytes.NewReader(sample(t, tt.name))))
			wantError(t, err)
			if diff := cmp.Diff(tt.want, got, compareAddresses); diff != "" {
				t.Errorf("ParseNet (-want +got):\n%s", diff)
			}
		})
	}
}

const (
	netHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	netRest = "00000000:00000000 00:00000000 00000000"
)

// netLine returns a line of which the addresses are the same in every byte order.
func netLine(port int) string {
	return fmt.Sprintf(" 123: 00000000:%04X 00000000:0000 0A %s 4294967295 0 18446744 1\n", port, netRest)
}

func TestParseNetLines(t *testing.T) {
	good := func(port uint16) procfs.NetSocket {
		any4 := netip.IPv4Unspecified()
		return procfs.NetSocket{
			Local: netip.AddrPortFrom(any4, port), Remote: netip.AddrPortFrom(any4, 0),
			State: 10, UID: 1<<32 - 1, Inode: 18446744,
		}
	}
	one, two := netLine(1), netLine(2)
	both := []procfs.NetSocket{good(1), good(2)}
	bad := func(old, new string) string { return strings.Replace(one, old, new, 1) }
	tests := []struct {
		name, in string
		want     []procfs.NetSocket
		words    []string
	}{
		{"empty", "", nil, nil},
		{"head only", netHead, nil, nil},
		{"head missing", one + two, both, nil},
		{"head twice", netHead + netHead + one, both[:1], []string{"line 2"}},
		{"blank line", netHead + one + "\n" + two, both, []string{"line 3"}},
		{"short line", one + " 1: 00000000:0001 00000000:0000 0A\n" + two, both, []string{"line 2"}},
		{"no number", bad("123:", "123") + two, both[1:], []string{"line 1"}},
		{"no port", bad(":0001", "") + two, both[1:], []string{"line 1", "not an address"}},
		{"long port", bad(":0001", ":00001") + two, both[1:], []string{"line 1", "not an address"}},
		{"short address", bad("00000000:0001", "0000000:0001") + two, both[1:], []string{"line 1", "not an address"}},
		{"address not hexadecimal", bad("00000000:0001", "0000000g:0001") + two, both[1:], []string{"not an address"}},
		{"address with sign", bad("00000000:0001", "+0000000:0001") + two, both[1:], []string{"not an address"}},
		{"two families", bad("00000000:0000", strings.Repeat("0", 32)+":0000") + two, both[1:], []string{"different families"}},
		{"state", bad(" 0A ", " A ") + two, both[1:], []string{"line 1"}},
		{"user ID", bad("4294967295", "4294967296") + two, both[1:], []string{"line 1", "out of range"}},
		{"negative user ID", bad("4294967295", "-1") + two, both[1:], []string{"line 1", "out of range"}},
		{"inode", bad("18446744", "18446744073709551616") + two, both[1:], []string{"line 1"}},
		{"negative inode", bad("18446744", "-1") + two, both[1:], []string{"line 1", "out of range"}},
		{"cut off in the inode", one + strings.TrimSuffix(two, "44 1\n"), both[:1], []string{"line 2", "cut off"}},
		{"last newline missing", one + strings.TrimSuffix(two, "\n"), both[:1], []string{"line 2", "cut off"}},
		{"long line", one + strings.Repeat("x", 1<<20) + "\n" + two, both, []string{"line 2", "more than 65536 bytes"}},
		{"long last line", one + strings.Repeat("x", 1<<20), both[:1], []string{"line 2", "more than"}},
		{"long garbage", strings.Repeat("x", 1000) + ": 0 0 0 0 0 0 0 0 0\n" + two, both[1:], []string{"line 1"}},
		{"longest line", strings.TrimSuffix(one, "\n") + strings.Repeat(" ", 1<<16-len(one)+1) + "\n" + two, both, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseNet(strings.NewReader(tt.in))
			wantError(t, err, tt.words...)
			if diff := cmp.Diff(tt.want, got, compareAddresses); diff != "" {
				t.Errorf("ParseNet (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseNetManyErrors(t *testing.T) {
	_, err := parseNet(strings.NewReader(strings.Repeat("garbage\n", 1000)))
	if err == nil || strings.Count(err.Error(), "\n") != 8 || !strings.HasSuffix(err.Error(), "and 992 more bad lines") {
		t.Errorf("ParseNet = %v; want eight errors and a count", err)
	}
}

func TestParseNetReadError(t *testing.T) {
	broken := errors.New("broken")
	got, err := parseNet(io.MultiReader(strings.NewReader("x\n"+netLine(1)), iotest.ErrReader(broken)))
	if len(got) != 1 || !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("ParseNet = %v, %v; want one socket, an error of line 1, and %v", got, err, broken)
	}
	long := strings.NewReader(strings.Repeat("x", 1<<17))
	if _, err := parseNet(io.MultiReader(long, iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("ParseNet = %v; want %v", err, broken)
	}
}

func FuzzNet(f *testing.F) {
	addSamples(f, "net-*")
	f.Add([]byte(netHead + netLine(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		sockets, err := parseNet(bytes.NewReader(b))
		if lines := bytes.Count(b, []byte("\n")); len(sockets) > lines {
			t.Fatalf("%d sockets in %d lines", len(sockets), lines)
		}
		if err != nil && len(err.Error()) > 9*5*500 {
			t.Fatalf("error of %d bytes", len(err.Error()))
		}
		for _, s := range sockets {
			local, remote := s.Local.Addr(), s.Remote.Addr()
			if !local.IsValid() || !remote.IsValid() || local.BitLen() != remote.BitLen() || local.Zone() != "" {
				t.Fatalf("addresses %v, %v", s.Local, s.Remote)
			}
			if s.Inode > 1<<63-1 {
				t.Fatalf("inode %d", s.Inode)
			}
		}
	})
}
