package portdiag

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/killport/killport/pkg/listeners"
)

func TestSockaddr(t *testing.T) {
	linkLocal := netip.MustParseAddrPort("[fe80::1%12]:8000")
	for _, tt := range []struct {
		at     netip.AddrPort
		family int
		want   windows.Sockaddr
	}{
		{netip.MustParseAddrPort("127.0.0.1:8000"), windows.AF_INET, &windows.SockaddrInet4{Port: 8000, Addr: [4]byte{127, 0, 0, 1}}},
		{netip.MustParseAddrPort("[::]:8000"), windows.AF_INET6, &windows.SockaddrInet6{Port: 8000}},
		{linkLocal, windows.AF_INET6, &windows.SockaddrInet6{Port: 8000, Addr: linkLocal.Addr().As16(), ZoneId: 12}},
	} {
		family, got := sockaddr(tt.at)
		if family != tt.family || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("sockaddr(%v) = %d, %+v; want %d, %+v", tt.at, family, got, tt.family, tt.want)
		}
	}
}

// Each protocol has ranges of its own: those of the one that is asked for count.
func TestExcludedOfProtocol(t *testing.T) {
	for _, tt := range []struct {
		proto      listeners.Proto
		word, name string
	}{
		{listeners.TCP, "protocol=tcp", "TCP"},
		{listeners.UDP, "protocol=udp", "UDP"},
	} {
		ask := func(_ context.Context, args ...string) ([]byte, error) {
			if slices.Contains(args, tt.word) && slices.Contains(args, "ipv4") {
				return []byte("      8000        8009     *\r\n"), nil
			}
			return nil, nil
		}
		var r Report
		r.excluded(t.Context(), listeners.Query{Proto: tt.proto, Port: 8005}, ask)
		if len(r.Findings) != 1 || r.Findings[0].Cause != CauseExcluded || !strings.Contains(r.Findings[0].Summary, tt.name) ||
			!slices.Contains(r.Findings[0].Remedy.Command, tt.word) {
			t.Errorf("excluded(%s) = %+v", tt.proto, r)
		}
	}
}
