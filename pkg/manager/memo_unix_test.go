//go:build unix

package manager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/killport/killport/pkg/listeners"
)

// fakeEngine puts a docker before all others that answers to "ps" and to
// "container inspect", and writes down what it was asked.
func fakeEngine(t *testing.T, ps, inspect string) (asked func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := "#!/bin/sh\necho \"$*\" >>" + log + "\ncase $1 in\nps) printf '%s' '" + ps + "' ;;\ncontainer) printf '%s' '" + inspect + "' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		b, _ := os.ReadFile(log)
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

var web = listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000}

func TestPublisher(t *testing.T) {
	const of = `[{"Id":"` + "%s" + `","Name":"/web","Config":{"Image":"shop:1"},"HostConfig":{"RestartPolicy":{"Name":"always"}},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8000"}]}}}]`
	inspect := strings.ReplaceAll(of, "%s", id)
	asked := fakeEngine(t, id, inspect)
	ctx := Remember(t.Context())
	for range 3 {
		m := Publisher(ctx, web)
		if m == nil || m.Name != "web" || m.Restart != "always" || !m.Halts() {
			t.Fatalf("Publisher() = %+v", m)
		}
	}
	if got := asked(); len(got) != 2 || got[0] != "ps --quiet --no-trunc --filter publish=8000/tcp" || got[1] != "container inspect "+id {
		t.Errorf("the engine was asked %q", got)
	}
}

// What an engine says is not trusted to be well-formed.
func TestPublisherOfOddEngine(t *testing.T) {
	for _, test := range []struct{ ps, inspect string }{
		{"", ""},
		{"--help", "[]"},
		{id, ""},
		{id, "{}"},
		{id, "[{}]"},
		{id, `[{"Id":"` + id + `","NetworkSettings":{"Ports":{"80/tcp":[{"HostPort":"8001"}]}}}]`},
		{id, `[{"Id":"` + id + `","NetworkSettings":{"Ports":{"x":[{"HostPort":"8000"}]}}}]`},
		{id, `[{"Id":"short","NetworkSettings":{"Ports":{"80/tcp":[{"HostPort":"8000"}]}}}]`},
	} {
		fakeEngine(t, test.ps, test.inspect)
		if m := Publisher(t.Context(), web); m != nil {
			t.Errorf("Publisher() of an engine that says %q, %q = %+v; want none", test.ps, test.inspect, m)
		}
	}
}
