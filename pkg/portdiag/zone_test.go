package portdiag

import (
	"net"
	"net/netip"
	"testing"
)

func TestZoneID(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for zone, want := range map[string]uint32{
		"": 0, "12": 12, "4294967296": 0, "no such interface": 0, all[0].Name: uint32(all[0].Index),
	} {
		addr := netip.MustParseAddr("fe80::1").WithZone(zone)
		if got := zoneID(addr); got != want {
			t.Errorf("zoneID(%v) = %d; want %d", addr, got, want)
		}
	}
}
