package portdiag

import (
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/windows"
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
