package manager

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	if !isOurs(groups.systemd) || isOurs(groups.systemd+"/below") || isOurs("") {
		t.Errorf("%s is not our cgroup, or another one is", groups.systemd)
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

// A cgroup can be given any name by whom a tree of them was given to.
func TestIsIn(t *testing.T) {
	groups, err := readCgroups("self")
	if err != nil {
		t.Fatal(err)
	}
	at := groups.all[0]
	for _, test := range []struct {
		group place
		want  bool
	}{
		{at, true},
		{place{at.hierarchy, strings.TrimSuffix(at.path, "/") + "/docker-" + id + ".scope"}, false},
		{place{"77:" + at.hierarchy, at.path}, false},
		{place{at.hierarchy, at.path + "x"}, false},
	} {
		if got := isIn(os.Getpid(), test.group); got != test.want {
			t.Errorf("isIn(self, %v) = %v; want %v", test.group, got, test.want)
		}
	}
	if isIn(0, at) || isIn(1<<22+1, at) {
		t.Error("nobody is in our cgroup")
	}
}

// The engine of a user is asked as that user, also of one who is in no list: root's
// own has the containers of others.
func TestEngineOfUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	for uid, want := range map[uint32]string{
		0:         "docker",
		65534:     "setpriv --reuid=65534 --regid=65534 --clear-groups --reset-env env --chdir=/ XDG_RUNTIME_DIR=/run/user/65534 docker",
		987654321: "setpriv --reuid=987654321 --regid=987654321 --clear-groups --reset-env env --chdir=/ XDG_RUNTIME_DIR=/run/user/987654321 docker",
	} {
		if got := strings.Join(engineOfUser(docker, uid).argv(), " "); got != want {
			t.Errorf("engineOfUser(%d) is asked by %q; want %q", uid, got, want)
		}
	}
	if _, err := engineOf(docker, 1<<22+1); err == nil {
		t.Error("nobody's engine is asked, of a process that nobody has")
	}
}

// Who calls itself a shim need not be one.
func TestRunsHere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	c := inspection{ID: id}
	c.State.PID = shimmed(t, id)
	if !runsHere(c, 0) {
		t.Error("root's shim is none")
	}
	c.State.PID = shimmedBy(t, id, 65534)
	if runsHere(c, 0) {
		t.Error("nobody has a shim of root's engine")
	}
	if !runsHere(c, 65534) {
		t.Error("nobody's own shim is none")
	}
}

// conmon is that of the main process if podman says that it runs the container,
// and that this was made so.
func TestIsMadeBy(t *testing.T) {
	var c inspection
	c.Config.CreateCommand = strings.Fields("/usr/bin/podman run --rm -p 8000:80 shop")
	for args, want := range map[string]bool{
		"podman run --rm -p 8000:80 shop":       true,
		"podman run --rm -p 8000:80 blog":       false,
		"podman run --rm -p 8000:80 shop serve": false,
		"podman run":                            false,
		"":                                      false,
	} {
		if got := c.isMadeBy(process.Info{Argv: strings.Fields(args)}); got != want {
			t.Errorf("isMadeBy(%q) = %v; want %v", args, got, want)
		}
	}
	if (inspection{}).isMadeBy(process.Info{}) {
		t.Error("one that podman has not made was made by nobody")
	}
}

// Memory that does not come is not waited for.
func TestReadBriefly(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got := readBriefly(pipe); got != nil || time.Since(start) > 5*time.Second {
		t.Errorf("readBriefly() = %q after %v", got, time.Since(start))
	}
	if end, err := os.OpenFile(pipe, os.O_WRONLY, 0); err == nil { // so that its reader ends
		end.Close()
	}
	if got := readBriefly("/dev/zero"); len(got) != 1<<20 {
		t.Errorf("%d bytes are read; want a megabyte", len(got))
	}
	if got := environ(os.Getpid())("PATH"); got != os.Getenv("PATH") || got == "" {
		t.Errorf("environ(PATH) = %q; want %q", got, os.Getenv("PATH"))
	}
}
