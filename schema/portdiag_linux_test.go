package schema_test

import (
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/killport/killport/internal/porttest"
	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/portdiag"
)

// diagnose returns the record of one port, which is as the schema says.
func diagnose(t *testing.T, port uint16) portdiag.Report {
	t.Helper()
	var report portdiag.Report
	for r, err := range portdiag.Source(listeners.Query{Proto: listeners.TCP, Port: port})(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		schematest.Validate(t, "portdiag", []byte(r.String()))
		if err := r.Decode(&report); err != nil {
			t.Fatal(err)
		}
	}
	return report
}

func port(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }

func finds(report portdiag.Report, cause portdiag.Cause) bool {
	return slices.ContainsFunc(report.Findings, func(f portdiag.Finding) bool { return f.Cause == cause })
}

// Real ports, and what portdiag says of each.
func TestReports(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	bound := porttest.Reserve(t)
	expect := func(port uint16, verdict portdiag.Verdict, causes ...portdiag.Cause) {
		t.Helper()
		got := diagnose(t, port)
		if got.Verdict != verdict {
			t.Errorf("port %d: verdict %s; want %s", port, got.Verdict, verdict)
		}
		for _, cause := range causes {
			if !finds(got, cause) {
				t.Errorf("port %d: findings %+v; want %s among them", port, got.Findings, cause)
			}
		}
	}
	expect(port(l.Addr()), portdiag.Held, portdiag.CauseListener, portdiag.CauseProtected)
	expect(port(client.LocalAddr()), portdiag.Blocked, portdiag.CauseConnection)
	expect(bound.Port(), portdiag.Held, portdiag.CauseBound)

	l.Close()
	server.Close() // first, so that its end of the connection waits
	client.Close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && !finds(diagnose(t, port(l.Addr())), portdiag.CauseTimeWait); {
		runtime.Gosched() // the last packets are under way
	}
	expect(port(l.Addr()), portdiag.Free, portdiag.CauseTimeWait)
}
