package netsh

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Files of testdata are what netsh writes, in the code page that is usual
// for the language: 437, 850, 949. The excluded-* are what users have posted of
// their machines in these languages, and so are the queues of
// servicestate-reporting-en (of SQL Server Reporting Services) and of
// servicestate-heading-en; what stands above these is from other posts. The
// other servicestate-* are made: their layout is that of posted ones, their
// numbers are ours, and so is what they say in Korean and German.
func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseServiceState(t *testing.T) {
	older := []Queue{{Name: "DefaultAppPool", URLs: []string{"HTTP://*:8000/", "HTTPS://[::1]:8000/API/"}, PIDs: []int{3248, 5120}}}
	newer := []Queue{{Name: "Request queue is unnamed.", URLs: []string{"HTTP://+:8000/MONITORSERVICE/"}, PIDs: []int{4796}}}
	korean := []Queue{{URLs: newer[0].URLs, PIDs: newer[0].PIDs}}
	for _, tt := range []struct {
		file string
		want []Queue
	}{
		{"servicestate-older-en.txt", older},
		{"servicestate-older-de.txt", older},
		{"servicestate-newer-en.txt", newer},
		{"servicestate-newer-ko.txt", korean},
	} {
		if diff := cmp.Diff(tt.want, ParseServiceState(recorded(t, tt.file), 8000)); diff != "" {
			t.Errorf("ParseServiceState(%s, 8000):\n%s", tt.file, diff)
		}
		if got := ParseServiceState(recorded(t, tt.file), 800); got != nil {
			t.Errorf("ParseServiceState(%s, 800) = %v; want none", tt.file, got)
		}
		if got := ParseServiceState(recorded(t, tt.file), 5985); len(got) != 1 || len(got[0].PIDs) != 1 {
			t.Errorf("ParseServiceState(%s, 5985) = %v; want one queue of one process", tt.file, got)
		}
	}
}

func TestParsePostedServiceState(t *testing.T) {
	for _, tt := range []struct {
		file string
		port uint16
		url  string
		pid  int
	}{
		{"servicestate-reporting-en.txt", 8082, "HTTP://LOCALHOST:8082/", 2312},
		{"servicestate-heading-en.txt", 47001, "HTTP://+:47001/wsman/", 8496},
		{"servicestate-heading-en.txt", 19443, "HTTP://127.0.0.1:19443:127.0.0.1/", 33704},
		{"servicestate-heading-en.txt", 8100, "HTTP://+:8100/WMPNSSDeployment/", 6856},
	} {
		want := []Queue{{Name: "Request queue is unnamed.", URLs: []string{tt.url}, PIDs: []int{tt.pid}}}
		got := ParseServiceState(recorded(t, tt.file), tt.port)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseServiceState(%s, %d):\n%s", tt.file, tt.port, diff)
		}
	}
}

func TestParseExcluded(t *testing.T) {
	for file, want := range map[string][]Range{
		"excluded-en.txt": {
			{5357, 5357, false},
			{9800, 9800, false},
			{9801, 9801, false},
			{49671, 49770, false},
			{49871, 49970, false},
			{50000, 50059, true},
			{61117, 61216, false},
			{61220, 61319, false},
			{61902, 62001, false},
		},
		"excluded-de.txt": {
			{28380, 28380, false},
			{28385, 28385, false},
			{49711, 49810, false},
			{49811, 49910, false},
			{49911, 50010, false},
			{50111, 50210, false},
			{50211, 50310, false},
			{51099, 51198, false},
		},
		"excluded-ko.txt": {
			{5357, 5357, false},
			{5537, 5636, false},
			{7468, 7567, false},
			{7768, 7867, false},
			{7868, 7967, false},
			{7975, 8074, false},
			{8552, 8651, false},
			{50000, 50059, true},
		},
	} {
		if diff := cmp.Diff(want, ParseExcluded(recorded(t, file))); diff != "" {
			t.Errorf("ParseExcluded(%s):\n%s", file, diff)
		}
	}
	for _, line := range []string{"", "8000", "8000 8001 8002", "8001 8000", "70000 70001", "-1 5", "a 1 2"} {
		if got := ParseExcluded([]byte(line)); got != nil {
			t.Errorf("ParseExcluded(%q) = %v; want none", line, got)
		}
	}
}

func TestExcludedCommands(t *testing.T) {
	p := Range{First: 8000, Last: 8009, Administered: true}
	for _, tt := range []struct {
		got  []string
		want string
	}{
		{ShowExcluded("ipv4", "tcp"), "interface ipv4 show excludedportrange protocol=tcp"},
		{ShowExcluded("ipv6", "udp"), "interface ipv6 show excludedportrange protocol=udp"},
		{p.Remove("ipv4", "udp"), "netsh interface ipv4 delete excludedportrange protocol=udp startport=8000 numberofports=10"},
		{p.Remove("ipv6", "tcp"), "netsh interface ipv6 delete excludedportrange protocol=tcp startport=8000 numberofports=10"},
	} {
		if got := strings.Join(tt.got, " "); got != tt.want {
			t.Errorf("the command is %q; want %q", got, tt.want)
		}
	}
}

func TestParseForward(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Forward
	}{
		{"0.0.0.0/8000", "127.0.0.1/3000", Forward{Kind: "v4tov4", Listen: "0.0.0.0", Port: 8000, Connect: "127.0.0.1", ConnectPort: 3000, ListenAddr: netip.IPv4Unspecified()}},
		{"*/8000", "wsl.local/80", Forward{Kind: "v4tov4", Listen: "*", Port: 8000, Connect: "wsl.local", ConnectPort: 80}},
		{"localhost/8000", "127.0.0.1/80", Forward{Kind: "v4tov4", Listen: "localhost", Port: 8000, Connect: "127.0.0.1", ConnectPort: 80}},
		{"::1/8000", "::1/80", Forward{Kind: "v4tov4", Listen: "::1", Port: 8000, Connect: "::1", ConnectPort: 80, ListenAddr: netip.IPv6Loopback()}},
	} {
		got, err := ParseForward("v4tov4", tt.name, tt.text)
		if err != nil || got != tt.want {
			t.Errorf("ParseForward(%q, %q) = %v, %v; want %v", tt.name, tt.text, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "8000", "/8000", "0.0.0.0/", "0.0.0.0/0", "0.0.0.0/65536", "0.0.0.0:8000", "x/1/2"} {
		if got, err := ParseForward("v4tov4", bad, "127.0.0.1/1"); err == nil {
			t.Errorf("ParseForward(%q) = %v; want an error", bad, got)
		}
	}
	rule := Forward{Kind: "v6tov4", Listen: "*", Port: 8000}
	if got := strings.Join(rule.Remove(), " "); got != "netsh interface portproxy delete v6tov4 listenport=8000 listenaddress=*" {
		t.Errorf("Remove() = %s", got)
	}
}

func FuzzNetsh(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, q := range ParseServiceState(b, 8000) {
			if len(q.URLs) == 0 {
				t.Errorf("a queue without a URL: %v", q)
			}
		}
		for _, r := range ParseExcluded(b) {
			if r.First > r.Last {
				t.Errorf("%v ends before it begins", r)
			}
		}
	})
}
