package manager

import (
	"os"
	"strings"
	"testing"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/process"
)

func TestStands(t *testing.T) {
	at := func(pid, ppid, group, session, tty int) ancestor {
		return ancestor{process.Info{PID: pid, PPID: ppid}, procfs.Stat{PID: pid, PPID: ppid, PGRP: group, Session: session, TTY: tty}}
	}
	const pty = 34816
	lone := map[int]int{10: 2, 12: 1}
	for _, test := range []struct {
		name string
		line []ancestor
		kin  map[int]int // how many are below each
		want standing
		by   bool // startedBySystemd
	}{
		{"main process", []ancestor{at(10, 1, 10, 10, 0)}, nil, leader, true},
		{"worker", []ancestor{at(12, 10, 10, 10, 0), at(10, 1, 10, 10, 0)}, map[int]int{10: 2}, worker, true},
		{"worker of a worker", []ancestor{at(13, 12, 10, 10, 0), at(12, 10, 10, 10, 0), at(10, 1, 10, 10, 0)}, lone, worker, true},
		{"in one of several terminals", []ancestor{at(13, 12, 12, 12, pty), at(12, 10, 12, 12, pty), at(10, 1, 10, 10, 0)}, map[int]int{10: 3, 12: 1}, stray, false},
		{"in the only terminal", []ancestor{at(13, 12, 12, 12, pty), at(12, 10, 12, 12, pty), at(10, 1, 10, 10, 0)}, lone, worker, false},
		{"a job in the only terminal", []ancestor{at(13, 12, 13, 12, pty), at(12, 10, 12, 12, pty), at(10, 1, 10, 10, 0)}, lone, stray, false},
		{"in the session with a terminal", []ancestor{at(13, 10, 10, 10, pty), at(10, 1, 10, 10, pty)}, map[int]int{10: 1}, worker, false},
		{"in a session of its own, one of several", []ancestor{at(13, 10, 13, 13, 0), at(10, 1, 10, 10, 0)}, map[int]int{10: 2}, stray, false},
		{"in a session of its own", []ancestor{at(13, 10, 13, 13, 0), at(10, 1, 10, 10, 0)}, map[int]int{10: 1}, worker, false},
		{"with workers in a session of its own", []ancestor{at(13, 10, 13, 13, 0), at(10, 1, 10, 10, 0)}, map[int]int{10: 4, 13: 3}, worker, false},
		{"not below it", []ancestor{at(13, 1, 10, 10, 0)}, nil, stray, false},
	} {
		if got := stands(test.line, 10, 0, func(pid int) int { return test.kin[pid] }); got != test.want {
			t.Errorf("%s: stands() = %v; want %v", test.name, got, test.want)
		}
		if got := startedBySystemd(test.line); got != test.by {
			t.Errorf("%s: startedBySystemd() = %v; want %v", test.name, got, test.by)
		}
	}
}

func TestDescendants(t *testing.T) {
	before := descendants(os.Getpid())
	pid := shimmed(t, id)
	if got := descendants(os.Getpid()); got != before+2 {
		t.Errorf("descendants() = %d; want %d", got, before+2)
	}
	if got := descendants(pid); got != 0 {
		t.Errorf("descendants() = %d of one that has none", got)
	}
}

// What runs another once hides nobody above it that starts it again.
func TestNearest(t *testing.T) {
	const pm2 = "PM2\x00v6.0.8: God Daemon (/home/ann/.pm2)" // one argument, as below
	for _, test := range []struct {
		name string
		line []string // below the holder, in its session or with a terminal: "tty" before it
		want string
	}{
		{"nobody", []string{"bash"}, ""},
		{"npm", []string{"sh -c x", "npm run dev", "bash"}, "npm"},
		{"npm of pm2", []string{"npm start", pm2}, "pm2"},
		{"npm of nodemon", []string{"npm start", "node nodemon"}, "nodemon"},
		{"nodemon of npm", []string{"node nodemon", "npm start"}, "nodemon"},
		{"nodemon of a keeper", []string{"node nodemon", "npm start", "circusd"}, "circusd"},
		{"two keepers", []string{"runsv web", "runsvdir", "supervisord"}, "runsv"},
		{"yarn of npm", []string{"yarn dev", "npm start"}, "yarn"},
		{"in a terminal", []string{"tty node nodemon", "tty npm run dev", "tty bash", "code-server", "supervisord"}, "nodemon"},
		{"in a terminal with all", []string{"tty npm start", "tty supervisord"}, "supervisord"},
		{"alone in a terminal", []string{"tty bash", "supervisord"}, ""},
	} {
		line := []ancestor{{Info: process.Info{PID: 100, Argv: []string{"supervisord"}}}}
		for i, args := range test.line {
			args, tty := strings.CutPrefix(args, "tty ")
			argv := strings.Fields(args)
			if strings.Contains(args, "\x00") {
				argv = []string{strings.ReplaceAll(args, "\x00", " ")}
			}
			a := ancestor{Info: process.Info{PID: 99 - i, Argv: argv}}
			if tty {
				a.stat.TTY, line[0].stat.TTY = 34816, 34816
			}
			line = append(line, a)
		}
		got := ""
		if m := nearest(line, func(string) string { return "" }); m != nil {
			got = m.Name
		}
		if got != test.want {
			t.Errorf("%s: nearest() = %q; want %q", test.name, got, test.want)
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
