package manager

import (
	"os"
	"testing"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/process"
)

func TestStands(t *testing.T) {
	at := func(pid, ppid, session, tty int) ancestor {
		return ancestor{process.Info{PID: pid, PPID: ppid}, procfs.Stat{PID: pid, PPID: ppid, Session: session, TTY: tty}}
	}
	for _, test := range []struct {
		name string
		line []ancestor
		want standing
		by   bool // startedBySystemd
	}{
		{"main process", []ancestor{at(10, 1, 10, 0)}, leader, true},
		{"worker", []ancestor{at(12, 10, 10, 0), at(10, 1, 10, 0)}, worker, true},
		{"worker of a worker", []ancestor{at(13, 12, 10, 0), at(12, 10, 10, 0), at(10, 1, 10, 0)}, worker, true},
		{"in a terminal", []ancestor{at(13, 12, 12, 34816), at(12, 10, 12, 34816), at(10, 1, 10, 0)}, stray, false},
		{"in the session with a terminal", []ancestor{at(13, 10, 10, 34816), at(10, 1, 10, 34816)}, stray, false},
		{"in a session of its own", []ancestor{at(13, 10, 13, 0), at(10, 1, 10, 0)}, stray, false},
		{"not below it", []ancestor{at(13, 1, 10, 0)}, stray, false},
	} {
		if got := stands(test.line, 10, 0); got != test.want {
			t.Errorf("%s: stands() = %v; want %v", test.name, got, test.want)
		}
		if got := startedBySystemd(test.line); got != test.by {
			t.Errorf("%s: startedBySystemd() = %v; want %v", test.name, got, test.by)
		}
	}
}

// A plain process, as this test is, has no manager, and nobody is asked.
func TestPlain(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // with no engine and no systemctl in it
	groups, err := readCgroups("self")
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := groups.container(groups); ok {
		t.Errorf("we are in a container that is not ours: %+v", c)
	}
	if u, ok := groups.unit(); ok && !ourUnit(u) {
		t.Errorf("%+v is not our unit", u)
	}
}

// What a record says of a manager runs nothing.
func TestForgedManagerHasNoLever(t *testing.T) {
	path := t.TempDir() + "/made"
	m := &Manager{Kind: Container, Name: "web", Engine: "docker", ID: id, Stop: []string{"touch", path}}
	if err := m.Halt(t.Context(), 0); err == nil || m.Halts() {
		t.Error("it has a lever")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the command of a record was run")
	}
}
