package portdiag

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/internal/porttest"
	"github.com/killport/killport/pkg/listeners"
)

// What does not depend on the port is asked once for all of them.
func TestSurveyAsksOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: nobody else is asked about the packet filter")
	}
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	tools := []string{"docker", "ip6tables-save", "iptables-save", "nft"}
	for _, name := range tools {
		script := "#!/bin/sh\necho " + name + " >>" + asked + "\n"
		if name == "nft" {
			script += `echo '{"nftables":[]}'` + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var queries []listeners.Query
	for range 5 {
		queries = append(queries, listeners.Query{Proto: listeners.TCP, Port: porttest.Free(t).Port()})
	}
	n := 0
	for r, err := range Source(queries...)(t.Context()) {
		if verdict, verr := r.Text("verdict"); err != nil || verr != nil || verdict != string(Free) {
			t.Errorf("%s, %v; want it free", r, err)
		}
		n++
	}
	b, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(b))
	slices.Sort(got)
	if n != len(queries) || !slices.Equal(got, tools) {
		t.Errorf("of %d ports were asked %q; want each of %q once", n, got, tools)
	}
}

// Who has listed what listens hands it in: it is not listed for each port again.
func TestExplainGoesByTheListing(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q := listeners.Query{Proto: listeners.TCP, Port: l.Addr().(*net.TCPAddr).AddrPort().Port()}
	found, err := listeners.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	other := q
	other.Port++
	for _, tt := range []struct {
		q    listeners.Query
		in   []listeners.Listener
		want int
	}{{q, found, 1}, {q, nil, 0}, {other, found, 0}} {
		r, err := NewSurvey(nil, tt.q).Explain(t.Context(), tt.q, tt.in)
		if err != nil || len(r.Listeners) != tt.want {
			t.Errorf("Explain(%v) of a listing of %d = %+v, %v; want %d listeners", tt.q.Args(), len(tt.in), r.Listeners, err, tt.want)
		}
	}
}
