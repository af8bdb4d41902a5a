package manager

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/process"
)

func TestIsRunBy(t *testing.T) {
	web := &Manager{Name: "web", Engine: "docker", Image: "shop"}
	for _, test := range []struct {
		exe, args string
		want      bool
	}{
		{"/usr/bin/docker", "docker run --rm --name web -p 8000:80 shop", true},
		{"/usr/bin/docker", "docker --context far run --name=web shop", true},
		{"/usr/bin/docker", "docker start --attach web", true},
		{"/usr/bin/docker", "docker run --name backup --volumes-from web shop", false},
		{"/usr/bin/docker", "docker run shop --name", false},
		{"/usr/bin/docker", "docker logs --follow web", false},
		{"/usr/bin/docker", "docker start --attach web2", false},
		{"/usr/bin/docker", "docker run --rm -p 127.0.0.1:8000:80 shop", true},
		{"/usr/bin/docker", "docker run --rm --publish=8000:80/tcp shop", true},
		{"/usr/bin/docker", "docker run --rm --publish=[::1]:8000:80 shop", true},
		{"/usr/bin/docker", "docker run --rm -p 80:8000 shop", false},
		{"/usr/bin/docker", "docker run --rm -p 8000 shop", false},
		{"/usr/bin/docker", "docker run --rm -p 8000:80 blog", false},
		{"/usr/bin/docker", "docker run --rm --name blog -p 8000:80 shop", false},
		{"/usr/bin/podman", "docker run --name web shop", false},
	} {
		if got := web.isRunBy(process.Info{Exe: test.exe, Argv: strings.Fields(test.args)}, 8000); got != test.want {
			t.Errorf("isRunBy(%s, %q) = %v; want %v", test.exe, test.args, got, test.want)
		}
	}
}

func TestIsComposedBy(t *testing.T) {
	folder := t.TempDir()
	above, name := filepath.Split(folder)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(folder, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		at, args string // the first word is the program
		want     bool
	}{
		{folder, "docker compose up", true},
		{folder, "/usr/libexec/docker/cli-plugins/docker-compose compose up --build", true},
		{folder, "/usr/bin/python3 /usr/bin/docker-compose up", true},
		{folder, "docker-compose logs --follow", false},
		{folder, "sh up", false},
		{folder, "agent compose up", false}, // it calls itself what it likes
		{folder, "sh docker compose up", false},
		{folder, "python3 -c docker-compose up", false},
		{folder, "docker up compose", false},
		{sub, "docker compose up", true},
		{above, "docker compose up", false},
		{above, "docker compose -f " + name + "/compose.yaml up", true},
		{above, "docker compose --file=" + folder + "/compose.yaml -f extra/dev.yaml up", true},
		{above, "docker compose -f extra/dev.yaml up", false},
		{above, "docker compose --project-directory " + name + " -f extra/dev.yaml up", true},
		{above, "docker compose -p shop up", true},
		{folder, "docker compose -p blog up", false},
		{folder + "2", "docker compose up", false},
	} {
		if err := os.MkdirAll(test.at, 0o755); err != nil {
			t.Fatal(err)
		}
		at := exec.CommandContext(t.Context(), "sleep", "60")
		at.Dir = test.at
		if err := at.Start(); err != nil {
			t.Fatal(err)
		}
		argv := strings.Fields(test.args)
		client := process.Info{PID: at.Process.Pid, Exe: argv[0], Argv: argv}
		for _, m := range []*Manager{{Project: "shop", folder: folder}, {Project: "shop", folder: link}} {
			if got := m.isComposedBy(client); got != test.want {
				t.Errorf("in %s %q composes %+v: %v; want %v", test.at, test.args, m, got, test.want)
			}
		}
		at.Process.Kill()
		at.Wait()
	}
	if (&Manager{}).isComposedBy(process.Info{PID: os.Getpid(), Exe: "docker", Argv: []string{"docker", "compose", "up"}}) {
		t.Error("compose has started a container that is in no project")
	}
}

// A client is what its service is for if it is the main process, or all that this
// has started.
func TestRuns(t *testing.T) {
	at := func(pid, ppid, group, session, tty int) ancestor {
		return ancestor{process.Info{PID: pid, PPID: ppid}, procfs.Stat{PID: pid, PPID: ppid, PGRP: group, Session: session, TTY: tty}}
	}
	main := at(10, 1, 10, 10, 0)
	for _, test := range []struct {
		name string
		line []ancestor
		kin  map[int]int // how many are below each
		want standing
	}{
		{"main process", []ancestor{main}, map[int]int{10: 7}, leader},
		{"all of it", []ancestor{at(12, 10, 10, 10, 0), main}, map[int]int{10: 1}, worker},
		{"all of it, with a plugin", []ancestor{at(12, 11, 10, 10, 0), at(11, 10, 10, 10, 0), main}, map[int]int{10: 3, 12: 1}, worker},
		{"beside another job", []ancestor{at(12, 10, 10, 10, 0), main}, map[int]int{10: 2}, stray},
		{"beside another job of a shell", []ancestor{at(12, 11, 10, 10, 0), at(11, 10, 10, 10, 0), main}, map[int]int{10: 3}, stray},
		{"typed into a terminal", []ancestor{at(12, 11, 12, 11, 34816), at(11, 10, 11, 11, 34816), main}, map[int]int{10: 2}, stray},
		{"not below it", []ancestor{at(12, 1, 10, 10, 0)}, map[int]int{10: 0}, stray},
	} {
		if got := runs(test.line, 10, func(pid int) int { return test.kin[pid] }); got != test.want {
			t.Errorf("%s: runs() = %v; want %v", test.name, got, test.want)
		}
	}
}

// A hundred holders in containers are one look at the processes.
func TestClientsAreLookedForOnce(t *testing.T) {
	start := func() {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 60; exit", "run")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // execve sets its arguments late
			if info, err := process.Look(cmd.Process.Pid); err == nil && isClient(info) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("it has no arguments")
			}
		}
	}
	start()
	ctx := Remember(t.Context())
	first := len(clients(ctx))
	start()
	start()
	if got := len(clients(ctx)); got != first || first == 0 {
		t.Errorf("%d clients, and then %d: it was looked for them again", first, got)
	}
	if got := len(clients(Remember(t.Context()))); got < first+2 {
		t.Errorf("%d clients; want %d", got, first+2)
	}
}

// slowLever takes a while, and notes until when it might.
type slowLever struct {
	takes time.Duration
	until *time.Time
	err   error
}

func (slowLever) command(time.Duration) []string { return nil }

func (s slowLever) halt(ctx context.Context, _ time.Duration) error {
	*s.until, _ = ctx.Deadline()
	time.Sleep(s.takes)
	return s.err
}

// The service and its container have one time limit, and not each its own.
func TestClientHasOneDeadline(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $* in *--no-block*) ;; *) exec sleep 1 ;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, err := range []error{nil, ErrSlow, errors.New("no such container")} {
		var until time.Time
		start := time.Now()
		const grace = 30 * time.Second
		got := clientLever{unitLever{names: []string{"web.service"}, units: []mortal{{name: "web.service"}}}, slowLever{time.Second, &until, err}}.halt(t.Context(), grace)
		if took := time.Since(start); took > 1900*time.Millisecond {
			t.Errorf("it took %v, one after the other", took)
		}
		if limit := start.Add(grace + teardown + time.Second); until.IsZero() || until.After(limit) {
			t.Errorf("the container has until %v; want %v", until, limit)
		}
		if errors.Is(got, ErrSlow) != errors.Is(err, ErrSlow) || got != nil && !errors.Is(err, ErrSlow) {
			t.Errorf("halt() = %v, whose container says %v", got, err)
		}
	}
}

// Nobody is killed before systemd knows that the unit is to stop.
func TestToldBeforeItIsKilled(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := "#!/bin/sh\ncase $* in stop*--no-block*) sleep 0.2 ;; stop*) sleep 1 ;; esac\necho \"$*\" >>" + log + "\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	web := unitLever{names: []string{"web.service"}, units: []mortal{{"web.service", []string{"all"}}}}
	if err := web.halt(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(log)
	first, rest, _ := strings.Cut(string(said), "\n")
	if err != nil || !strings.Contains(first, "--no-block") || !strings.HasPrefix(rest, "kill ") {
		t.Errorf("systemd was told %q, %v; want to stop it, and then to kill", said, err)
	}
}
