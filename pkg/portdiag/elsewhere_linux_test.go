package portdiag

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/killport/killport/pkg/listeners"
)

// Nobody is asked about a port that a plain process holds: not the engine, and
// not the packet filter.
func TestPlainHolderNeedsNoCommands(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"docker", "podman", "nerdctl", "iptables-save", "ip6tables-save", "nft"} {
		script := "#!/bin/sh\n: > " + dir + "/$(basename \"$0\").ran\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q := listeners.Query{Proto: listeners.TCP, Port: netip.MustParseAddrPort(l.Addr().String()).Port()}
	ran := func() []string {
		report, err := Diagnose(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if report.has(CauseReserved) || report.has(CauseEphemeral) {
			t.Errorf("findings of a held port are %+v; want nothing about ranges", report.Findings)
		}
		names, _ := filepath.Glob(dir + "/*.ran")
		return names
	}
	if names := ran(); len(names) > 0 {
		t.Errorf("of a held port, it ran %q", names)
	}
	l.Close()
	if names := ran(); len(names) == 0 {
		t.Error("of a port that nobody has, it asks nobody: this test sees nothing")
	}
}

// A service of the kernel is one only where its thread is.
func TestServiceFinding(t *testing.T) {
	for _, test := range []struct {
		port    uint16
		threads []string
		want    bool
	}{
		{2049, []string{"kthreadd", "nfsd"}, true},
		{2049, []string{"kthreadd"}, false},
		{2050, []string{"nfsd"}, false},
		{445, []string{"ksmbd:r445"}, true},
	} {
		f, ok := serviceFinding(test.port, test.threads)
		if ok != test.want || ok && (f.Cause != CauseKernel || f.Remedy == nil) {
			t.Errorf("serviceFinding(%d, %q) = %+v, %v; want %v", test.port, test.threads, f, ok, test.want)
		}
	}
}
