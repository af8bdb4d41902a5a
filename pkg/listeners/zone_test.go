package listeners

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func first(t *testing.T) net.Interface {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	return all[0]
}

func TestZoneIndex(t *testing.T) {
	dev := first(t)
	for zone, want := range map[string]uint32{
		"": 0, "12": 12, "4294967296": 0, "no such interface": 0, dev.Name: uint32(dev.Index),
	} {
		if got := ZoneIndex(zone); got != want {
			t.Errorf("ZoneIndex(%q) = %d; want %d", zone, got, want)
		}
	}
}

// What is asked for on one interface is not looked for on another, however the
// two are named.
func TestQueryAsksForAZone(t *testing.T) {
	dev := first(t)
	number := strconv.Itoa(dev.Index)
	for _, tt := range []struct {
		asked, zone string
		want        bool
	}{
		{"%" + dev.Name, "%" + dev.Name, true},
		{"%" + number, "%" + dev.Name, true},
		{"%" + dev.Name, "%" + number, true},
		{"%" + dev.Name, "%other", false},
		{"%" + number, "%4000000000", false},
		{"%" + dev.Name, "", false}, // /proc/net has no zones: it may be another's
		{"", "%" + dev.Name, true},
		{"%no such", "%no such either", false},
	} {
		q := Query{Proto: TCP, Addr: netip.MustParseAddr("fe80::5" + tt.asked), Port: 8000}
		s := Socket{Proto: TCP, Local: netip.AddrPortFrom(netip.MustParseAddr("fe80::5"+tt.zone), 8000)}
		if got := q.Matches(s); got != tt.want {
			t.Errorf("%v matches %v: %v; want %v", q.Args(), s.Local, got, tt.want)
		}
		if got := q.Asks(s.Listener()); got != tt.want {
			t.Errorf("%v asks for %v: %v; want %v", q.Args(), s.Local, got, tt.want)
		}
	}
	q := Query{Proto: TCP, Addr: netip.MustParseAddr("fe80::5%" + dev.Name), Port: 8000}
	if wildcard := (Socket{Proto: TCP, Local: netip.MustParseAddrPort("[::]:8000")}); !q.Matches(wildcard) {
		t.Errorf("%v does not match %v, which is in its way", q.Args(), wildcard.Local)
	}
	if got, want := strings.Join(q.Args(), " "), "[fe80::5%"+dev.Name+"]:8000"; got != want {
		t.Errorf("Args = %q; want %q", got, want)
	}
}

func TestParsePortsWithZones(t *testing.T) {
	dev := first(t)
	for _, tt := range []struct{ word, wrong string }{
		{"[fe80::5%" + dev.Name + "]:8000", ""},
		{"[fe80::5%" + strconv.Itoa(dev.Index) + "]:8000-8001", ""},
		{"[fe80::5]:8000", "a link-local address needs its interface: [fe80::5%INTERFACE]:8000"},
		{"[fe80::5]:8000-8001", "a link-local address needs its interface: [fe80::5%INTERFACE]:8000-8001"},
		{"[fe80::5%nosuch]:8000", `"fe80::5%nosuch": there is no interface "nosuch"`},
		{"[fe80::5%4000000000]:8000", `"fe80::5%4000000000": there is no interface "4000000000"`},
		{"[::1%" + dev.Name + "]:8000", `only a link-local address is of an interface`},
		{"169.254.0.1:8000", ""},
	} {
		got, err := ParsePorts(TCP, "", tt.word)
		switch {
		case tt.wrong == "" && (err != nil || got[0].Addr.String() != strings.Trim(tt.word[:strings.LastIndex(tt.word, ":")], "[]")):
			t.Errorf("ParsePorts(%q) = %v, %v", tt.word, got, err)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("ParsePorts(%q) = %v, %v; want an error that says %q", tt.word, got, err, tt.wrong)
		}
	}
}
