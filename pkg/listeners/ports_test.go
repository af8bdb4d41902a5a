package listeners_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/pkg/listeners"
)

// words are queries as a command is asked for them.
func words(queries []listeners.Query) string {
	var all []string
	for _, q := range queries {
		all = append(all, q.Args()...)
	}
	return strings.Join(all, " ")
}

func TestParsePorts(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"8000"}, "8000"},
		{[]string{":8000"}, "8000"},
		{[]string{"*:8000"}, "8000"},
		{[]string{"localhost:8000"}, "8000"},
		{[]string{"LocalHost:8000"}, "8000"},
		{[]string{"1"}, "1"},
		{[]string{"65535"}, "65535"},
		{[]string{"08000"}, "8000"},
		{[]string{"8000-8003"}, "8000 8001 8002 8003"},
		{[]string{"8000-8000"}, "8000"},
		{[]string{"65534-65535"}, "65534 65535"},
		{[]string{"8000,3000"}, "8000 3000"},
		{[]string{"8000 3000"}, "8000 3000"},
		{[]string{" 8000\t3000\n"}, "8000 3000"},
		{[]string{"8000", "3000"}, "8000 3000"},
		{[]string{"8002", "8000-8003"}, "8002 8000 8001 8003"},
		{[]string{"8000", ":8000", "8000"}, "8000"},
		{[]string{"127.0.0.1:8000"}, "127.0.0.1:8000"},
		{[]string{"127.0.0.1:8000", "8000"}, "127.0.0.1:8000 8000"},
		{[]string{"127.0.0.1:8000-8001"}, "127.0.0.1:8000 127.0.0.1:8001"},
		{[]string{"0.0.0.0:8000"}, "0.0.0.0:8000"},
		{[]string{"[::1]:8000"}, "[::1]:8000"},
		{[]string{"[::]:8000"}, "[::]:8000"},
		{[]string{"[fe80::1%1]:8000"}, "[fe80::1%1]:8000"},
		{[]string{"all"}, "9001 9002"},
		{[]string{"all", "9002", "80"}, "9001 9002 80"},
	} {
		got, err := listeners.ParsePorts(listeners.TCP, "9001,9002", tt.args...)
		if err != nil || words(got) != tt.want {
			t.Errorf("ParsePorts(%q) = %q, %v; want %q", tt.args, words(got), err, tt.want)
		}
	}
}

func TestParsePortsOfUDP(t *testing.T) {
	got, err := listeners.ParsePorts(listeners.UDP, listeners.DefaultAll, "all", "[::1]:53")
	if want := "--udp 8000 --udp 8080 --udp 3000 --udp [::1]:53"; err != nil || words(got) != want {
		t.Errorf("ParsePorts = %q, %v; want %q", words(got), err, want)
	}
}

func TestParsePortsRefuses(t *testing.T) {
	for _, arg := range []string{
		"", " ", "\n", ",", "8000,", ",8000", "8000,,3000",
		"0", "65536", "-1", "+80", "80a", "a", "8000.0", "8e3", "0x50", "٨٠", "99999999999999999999",
		"9000-8000", "8000-", "-8000", "8000-8001-8002", "0-10", "65535-65536",
		":", "8000:", "::1:8000", "[::1]", "[:8000", "]:8000", "[::1:8000", "::1]:8000", "127.0.0.1]:8000", "[]:8000", "[127.0.0.1]:8000", "[127.0.0.1:8000",
		"127.0.0.1", "127.0.0:8000", "127.0.0.256:8000", "example.org:8000", "ALL", "8000;3000", "8000\x00", "8000\u00a03000",
	} {
		if got, err := listeners.ParsePorts(listeners.TCP, listeners.DefaultAll, "80", arg); err == nil {
			t.Errorf("ParsePorts(80, %q) = %q; want an error", arg, words(got))
		}
	}
	for _, all := range []string{"", "all", "8000 all", "80a"} {
		if got, err := listeners.ParsePorts(listeners.TCP, all, "all"); err == nil {
			t.Errorf("ParsePorts(all), which is %q, = %q; want an error", all, words(got))
		}
	}
}

// Whatever is accepted has ports, each once, and says the same again.
func FuzzParsePorts(f *testing.F) {
	for _, seed := range []string{
		"8000", ":8000", "*:8000", "8000-8010", "8000,3000 80", "127.0.0.1:8000", "[::1]:8000-8001", "[::ffff:127.0.0.1]:80",
		"[fe80::1%eth0]:80", "all", "all,80", "0", "65536", "-1", "80a", "9000-8000", "", ",", "[::1:8000", "localhost:1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		if len(arg) > 100 { // of ranges one after another
			return
		}
		got, err := listeners.ParsePorts(listeners.TCP, "9001 9002", arg)
		if err != nil {
			return
		}
		if len(got) == 0 {
			t.Fatalf("ParsePorts(%q) has no ports and no error", arg)
		}
		seen := map[listeners.Query]bool{}
		for _, q := range got {
			if q.Port == 0 || q.Proto != listeners.TCP || seen[q] {
				t.Fatalf("ParsePorts(%q) has %+v, or has it twice", arg, q)
			}
			seen[q] = true
		}
		q := got[len(got)-1]
		again, err := listeners.ParsePorts(listeners.TCP, "", q.Args()...)
		if err != nil || !slices.Equal(again, []listeners.Query{q}) {
			t.Fatalf("ParsePorts(%q) of %q = %v, %v; want %+v", q.Args(), arg, again, err, q)
		}
	})
}

// An IPv4 address in IPv6 clothes is in the way of the same.
func TestQueryMatches(t *testing.T) {
	const any4, any6, only6, mapped = "0.0.0.0", "::", ":: only", "::ffff:127.0.0.1"
	sockets := []string{any4, any6, only6, "127.0.0.1", mapped, "127.0.0.2", "::1", "fe80::1%eth0", "::ffff:0.0.0.0"}
	for _, tt := range []struct {
		addr string // "" is every one
		want []string
	}{
		{"", sockets},
		{"::", sockets},
		{any4, []string{any4, any6, "127.0.0.1", mapped, "127.0.0.2", "::ffff:0.0.0.0"}},
		{"::ffff:0.0.0.0", []string{any4, any6, "127.0.0.1", mapped, "127.0.0.2", "::ffff:0.0.0.0"}},
		{"127.0.0.1", []string{any4, any6, "127.0.0.1", mapped, "::ffff:0.0.0.0"}},
		{mapped, []string{any4, any6, "127.0.0.1", mapped, "::ffff:0.0.0.0"}},
		{"127.0.0.3", []string{any4, any6, "::ffff:0.0.0.0"}},
		{"::1", []string{any6, only6, "::1"}},
		{"fe80::1", []string{any6, only6, "fe80::1%eth0"}},
		{"fe80::1%eth0", []string{any6, only6, "fe80::1%eth0"}},
		{"fe80::1%eth1", []string{any6, only6}},
	} {
		q := listeners.Query{Proto: listeners.TCP, Port: 8000}
		if tt.addr != "" {
			q.Addr = netip.MustParseAddr(tt.addr)
		}
		var got []string
		for _, s := range sockets {
			if q.Matches(socket(t, listeners.TCP, s, 8000)) {
				got = append(got, s)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q matches %q; want %q", tt.addr, got, tt.want)
		}
	}
}

func TestQueryMatchesPortAndProto(t *testing.T) {
	for _, tt := range []struct {
		q     listeners.Query
		proto listeners.Proto
		port  uint16
		want  bool
	}{
		{listeners.Query{Proto: listeners.TCP, Port: 8000}, listeners.TCP, 8000, true},
		{listeners.Query{Proto: listeners.TCP, Port: 8000}, listeners.TCP, 8001, false},
		{listeners.Query{Proto: listeners.TCP, Port: 8000}, listeners.UDP, 8000, false},
		{listeners.Query{Proto: listeners.UDP, Port: 8000}, listeners.UDP, 8000, true},
		{listeners.Query{Proto: listeners.TCP}, listeners.TCP, 8001, true},
		{listeners.Query{Proto: listeners.TCP}, listeners.UDP, 8001, false},
	} {
		s := socket(t, tt.proto, "127.0.0.1", tt.port)
		if got := tt.q.Matches(s); got != tt.want {
			t.Errorf("%+v.Matches(%v %v) = %v; want %v", tt.q, s.Proto, s.Local, got, tt.want)
		}
		l := listeners.Listener{Proto: tt.proto, LocalAddr: "127.0.0.1", LocalPort: tt.port}
		if got := tt.q.Asks(l); got != tt.want {
			t.Errorf("%+v.Asks(%v %s) = %v; want %v", tt.q, l.Proto, l.Addr(), got, tt.want)
		}
	}
}

func TestQueryAsks(t *testing.T) {
	q := listeners.Query{Proto: listeners.TCP, Addr: netip.MustParseAddr("127.0.0.1"), Port: 8000}
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.2": false, "0.0.0.0": true, "[::]": true, "[::1]": false, "[::ffff:127.0.0.1]": true,
		"": true, "nowhere": true, // nobody knows: rather too many than one too few
	} {
		l := listeners.Listener{Proto: listeners.TCP, LocalAddr: addr, LocalPort: 8000}
		if got := q.Asks(l); got != want {
			t.Errorf("%v.Asks(%s) = %v; want %v", q.Args(), l.Addr(), got, want)
		}
	}
}

// socket is one that listens on addr; "only" after it is IPV6_V6ONLY.
func socket(t *testing.T, proto listeners.Proto, addr string, port uint16) listeners.Socket {
	t.Helper()
	bare, only := strings.CutSuffix(addr, " only")
	at, err := netip.ParseAddr(bare)
	if err != nil {
		t.Fatal(err)
	}
	return listeners.Socket{Proto: proto, Local: netip.AddrPortFrom(at, port), V6Only: only}
}
