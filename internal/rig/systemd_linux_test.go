package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// bootSystemd boots a systemd that knows the units of testdata/units, and has started none of them.
func bootSystemd(t *testing.T) *rig {
	t.Helper()
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip(err)
	}
	units := filepath.Join(programs, "units")
	if err := errors.Join(os.RemoveAll(units), os.CopyFS(units, os.DirFS("testdata/units"))); err != nil {
		t.Fatal(err)
	}
	r := boot(t, []string{"systemctl", "/lib/systemd/systemd"}, "systemd.sh")
	r.eventually("systemd has booted", func() bool {
		return r.command("systemctl", "is-active", "rig.target").Run() == nil
	})
	return r
}

// start starts a unit and waits for its port.
func (r *rig) start(unit string, port int) {
	r.t.Helper()
	r.run("systemctl", "start", unit)
	r.eventually(unit+" listens", func() bool { return r.listens(port) })
}

func (r *rig) property(unit, key string, flags ...string) string {
	r.t.Helper()
	return r.run(append(append([]string{"systemctl"}, flags...), "show", "--value", "--property="+key, unit)...)
}

func TestSystemd(t *testing.T) {
	r := bootSystemd(t)

	// on runs a test of one unit, and sees to it that systemd is unharmed.
	on := func(name, unit string, port int, test func(t *testing.T, r *rig, port string)) {
		t.Run(name, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			in.start(unit, port)
			in.advised(nil, strconv.Itoa(port))
			in.advised([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, "127.0.0.1:"+strconv.Itoa(port))
			test(t, in, strconv.Itoa(port))
			in.run("systemctl", "stop", unit)
			if got := in.property("rig.target", "ActiveState"); got != "active" {
				t.Errorf("rig.target is %s", got)
			}
		})
	}

	on("service that restarts", "always.service", 18101, func(t *testing.T, r *rig, port string) {
		dry := r.killport(nil, "--dry-run", port)
		want := []string{"systemctl", "stop", "always.service"}
		if dry.exit != 0 || len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_stop" || !slices.Equal(dry.holders[0].Done.Stop, want) {
			t.Fatalf("dry run: %s", dry.output)
		}
		if by := dry.holders[0].Check.ManagedBy; by.Kind != "unit" || by.Name != "always.service" || by.Restart != "always" {
			t.Errorf("managed by %+v", by)
		}
		r.freed(r.killport(nil, port), port)
		if got := r.property("always.service", "ActiveState"); got != "inactive" {
			t.Errorf("the service is %s", got)
		}
	})
	on("service that does not restart", "once.service", 18102, func(t *testing.T, r *rig, port string) {
		r.freed(r.killport(nil, port), port)
		if got := r.property("once.service", "ActiveState"); got != "inactive" {
			t.Errorf("the service is %s", got)
		}
	})
	on("socket that nobody asked", "lazy.socket", 18103, func(t *testing.T, r *rig, port string) {
		res := r.killport(nil, port)
		r.freed(res, port)
		if !slices.Equal(res.port.Released, []int{1}) {
			t.Errorf("PID 1 is not among those that released it: %s", res.output)
		}
	})
	on("socket and its service", "lazy.socket", 18103, func(t *testing.T, r *rig, port string) {
		r.run("systemctl", "start", "lazy.service")
		r.freed(r.killport(nil, port), port)
		if got := r.property("lazy.service", "ActiveState"); got != "inactive" {
			t.Errorf("the service is %s", got)
		}
	})
	on("below the main process", "below.service", 18104, func(t *testing.T, r *rig, port string) {
		r.freed(r.killport(nil, port), port)
		if got := r.property("below.service", "ActiveState"); got != "inactive" {
			t.Errorf("the service is %s", got)
		}
	})
	on("deaf to SIGTERM", "deaf.service", 18105, func(t *testing.T, r *rig, port string) {
		r.freed(r.killport(nil, "--grace=300ms", port), port)
	})
	for unit, port := range map[string]int{"terminals.service": 18106, "terminal.service": 18122} {
		on(unit, unit, port, func(t *testing.T, r *rig, port string) {
			before := r.property(unit, "MainPID")
			res := r.killport(nil, "--dry-run", port)
			if len(res.holders) != 1 || res.holders[0].Done.Outcome != "would_terminate" {
				t.Errorf("not a plain process: %s", res.output)
			}
			if unit == "terminal.service" { // it would end with its only terminal
				return
			}
			r.freed(r.killport(nil, port), port)
			if after := r.property(unit, "MainPID"); after != before {
				t.Errorf("the service was touched: main PID %s, then %s", before, after)
			}
		})
	}
	for unit, port := range map[string]int{"session.service": 18123, "pty.service": 18124} {
		on(unit, unit, port, func(t *testing.T, r *rig, port string) {
			res := r.killport(nil, port)
			r.freed(res, port)
			if !slices.Equal(res.port.Stopped, []string{"unit " + unit}) {
				t.Errorf("stopped %q", res.port.Stopped)
			}
		})
	}
	on("without a way to ask systemd", "nobody.service", 18107, func(t *testing.T, r *rig, port string) {
		before := r.property("nobody.service", "MainPID")
		res := r.killport([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, port)
		if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != "managed" || !strings.Contains(res.port.Hint, "sudo killport "+port) {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		if after := r.property("nobody.service", "MainPID"); after != before {
			t.Errorf("the service was touched: main PID %s, then %s", before, after)
		}
	})
	on("of the system", "systemd-rig.service", 18108, func(t *testing.T, r *rig, port string) {
		res := r.killport(nil, port)
		if res.exit != 1 || res.port.Reason != "managed" || !strings.Contains(res.port.Hint, "systemctl stop systemd-rig.service") {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		if got := r.property("systemd-rig.service", "ActiveState"); got != "active" {
			t.Errorf("the service is %s", got)
		}
	})
	on("keeper of many", "pm2-ann.service", 18121, func(t *testing.T, r *rig, port string) {
		before := r.property("pm2-ann.service", "MainPID")
		res := r.killport(nil, port)
		if res.exit != 1 || res.port.Reason != "shared" || !strings.HasSuffix(res.port.Hint, "pm2 stop NAME") {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		if after := r.property("pm2-ann.service", "MainPID"); after != before || !r.listens(18121) {
			t.Errorf("the daemon was touched: main PID %s, then %s", before, after)
		}
		dry := r.killport(nil, "--dry-run", "--override", port)
		if len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_terminate" {
			t.Errorf("it cannot be overridden: %s", dry.output)
		}
	})
	for unit, by := range map[string]string{"timed.service": "timed.timer", "upheld.service": "upholds.target"} {
		port := map[string]int{"timed.service": 18125, "upheld.service": 18126}[unit]
		on(unit, unit, port, func(t *testing.T, r *rig, port string) {
			startedBy := func() []string {
				dry := r.killport(nil, "--dry-run", port)
				if len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_stop" {
					t.Fatalf("dry run: %s", dry.output)
				}
				return dry.holders[0].Check.ManagedBy.StartedBy
			}
			if got := startedBy(); len(got) > 0 {
				t.Errorf("started by %q, which are not active", got)
			}
			r.run("systemctl", "start", by)
			if got := startedBy(); !slices.Equal(got, []string{by}) {
				t.Errorf("started by %q; want %s", got, by)
			}
			res := r.killport(nil, port)
			_, command, _ := strings.Cut(res.port.Hint, by+" may start it again: ")
			if want := "systemctl stop " + by + " " + unit; command != want || res.port.Status != "stuck" {
				t.Fatalf("%s, %q; want that it was started again, and %q", res.port.Status, res.port.Hint, want)
			}
			r.run("sh", "-c", command) // does what it says
			if r.listens(map[string]int{"timed.service": 18125, "upheld.service": 18126}[unit]) {
				t.Errorf("%q does not free the port", command)
			}
		})
	}
	on("a machine", "systemd-nspawn@web.service", 18127, func(t *testing.T, r *rig, port string) {
		res := r.killport(nil, port)
		if res.exit != 1 || res.port.Reason != "managed" || !strings.HasSuffix(res.port.Hint, ": machinectl poweroff web") {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		if got := r.property("systemd-nspawn@web.service", "NRestarts"); got != "0" || !r.listens(18127) {
			t.Errorf("it was touched: restarts %s", got)
		}
	})
	on("left by its service", "left.service", 18122, func(t *testing.T, r *rig, port string) {
		res := r.killport(nil, port)
		const unit, hint = "unit left.service", "end what it has left: "
		if res.exit != 1 || res.port.Reason != "outlived" || res.port.Detail != unit || !slices.Equal(res.port.Stopped, []string{unit}) || !strings.HasPrefix(res.port.Hint, hint) {
			t.Fatalf("exit %d: %s", res.exit, res.output)
		}
		r.run("sh", "-c", strings.TrimPrefix(res.port.Hint, hint)) // does what it says
		if r.listens(18122) {
			t.Errorf("%q does not free the port", res.port.Hint)
		}
	})
	on("master and workers", "prefork.service", 18111, func(t *testing.T, r *rig, port string) {
		r.freed(r.killport(nil, port), port)
	})
	on("master and workers that come back", "workers.service", 18112, func(t *testing.T, r *rig, port string) {
		r.eventually("all workers are there", func() bool {
			return strings.Count(r.run("/run/rig/listeners", port), "\n") == 3
		})
		res := r.killport(nil, port)
		r.freed(res, port)
		if len(res.port.Killed) != 4 {
			t.Errorf("not all that ended are named: %s", res.output)
		}
	})
	t.Run("job in a service", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.run("systemctl", "start", "job.service")
		in.eventually("the job is done", func() bool { return in.command("test", "-e", "/run/job.out").Run() == nil })
		if got := in.run("cat", "/run/job.out"); !strings.Contains(got, `"status":"cleaned"`) {
			t.Errorf("killport said %s", got)
		}
		if got := in.property("job.service", "NRestarts"); got != "0" || in.property("job.service", "ActiveState") != "active" {
			t.Errorf("the job's own service was stopped: restarts %s", got)
		}
		in.run("systemctl", "stop", "job.service")
	})
	on("taken again", "always.service", 18101, func(t *testing.T, r *rig, port string) {
		for _, stages := range []string{"pidcheck | pkill2", "pkill2"} {
			r.eventually("it listens again", func() bool { return r.listens(18101) })
			line := fmt.Sprintf("cd /run/rig; PATH=/run/rig:$PATH; listeners %s | %s --via process", port, stages)
			out, err := r.command("sh", "-c", line).Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), `"newborn":true`) {
				t.Errorf("%s: %v, %s; want it taken again, after systemd's delay", line, err, out)
			}
		}
	})
	on("respawn", "always.service", 18101, func(t *testing.T, r *rig, port string) {
		res := r.killport(nil, "--via=process", port)
		if res.exit != 1 || len(res.port.Respawned) != 1 {
			t.Fatalf("no respawn: exit %d, %s", res.exit, res.output)
		}
		by := res.port.Respawned[0].Supervisor
		if by.Kind != "unit" || by.Name != "always.service" || by.Restart != "always" {
			t.Errorf("the supervisor is %+v", by)
		}
		r.run(by.Stop...) // does what it says
		if r.listens(18101) {
			t.Errorf("%q does not free the port", by.Stop)
		}
	})
}

// In a container with the cgroup namespace of its host, systemd's units are below
// the container's cgroup.
func TestSystemdOfContainer(t *testing.T) {
	t.Setenv("RIG_CGROUPS", "")
	r := bootSystemd(t)
	if at := r.run("cat", "/proc/1/cgroup"); !strings.Contains(at, "/killport-rig-") {
		t.Fatalf("PID 1 is in %s", at)
	}
	r.start("always.service", 18101)
	res := r.killport(nil, "18101")
	r.freed(res, "18101")
	if !slices.Equal(res.port.Stopped, []string{"unit always.service"}) {
		t.Errorf("stopped %q", res.port.Stopped)
	}
	r.start("lazy.socket", 18103)
	r.freed(r.killport(nil, "18103"), "18103")
}

// Where there is D-Bus, everybody may ask systemd, and nearly nobody may have it
// stop anything.
func TestSystemdOfOrdinaryUser(t *testing.T) {
	need(t, "dbus-daemon")
	r := bootSystemd(t)
	r.run("systemctl", "start", "dbus.service")
	nobody := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}

	t.Run("socket", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("lazy.socket", 18103)
		const remedy = "sudo systemctl stop lazy.socket"
		dry := in.killport(nobody, "--dry-run", "18103")
		if len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_refuse" || !strings.Contains(dry.holders[0].Done.Hint, remedy) {
			t.Errorf("dry run: %s", dry.output)
		}
		res := in.killport(nobody, "18103")
		if res.exit != 1 || res.port.Reason != "hidden" || !strings.Contains(res.port.Hint, remedy) {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		f := in.portdiag(nobody, "18103").finding(t, "socket_unit")
		if f.Evidence["name"] != "lazy.socket" || f.Remedy == nil || strings.Join(f.Remedy.Command, " ") != remedy {
			t.Errorf("portdiag says %+v", f)
		}
		if got := in.property("lazy.socket", "ActiveState"); got != "active" {
			t.Errorf("the socket is %s", got)
		}
		// Root as a container has it may not see PID 1's sockets, and may stop its units.
		in.freed(in.killport([]string{"setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"}, "18103"), "18103")
	})
	t.Run("service", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("nobody.service", 18107)
		before := in.property("nobody.service", "MainPID")
		res := in.killport(nobody, "18107")
		if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != "managed" || !strings.Contains(res.port.Hint, "sudo killport 18107") {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		if after := in.property("nobody.service", "MainPID"); after != before {
			t.Errorf("the service was touched: main PID %s, then %s", before, after)
		}
	})
}

func TestSystemdOfUser(t *testing.T) {
	r := bootSystemd(t)
	r.run("systemctl", "start", "user@0.service")
	r.run("systemctl", "--user", "start", "own.service")
	r.eventually("own.service listens", func() bool { return r.listens(18109) })
	r.freed(r.killport(nil, "18109"), "18109")
	if got := r.property("own.service", "ActiveState", "--user"); got != "inactive" {
		t.Errorf("the service is %s", got)
	}
	r.run("systemctl", "--user", "start", "mine.socket")
	res := r.killport(nil, "18113")
	r.freed(res, "18113")
	if !slices.Equal(res.port.Stopped, []string{"user unit mine.socket"}) {
		t.Errorf("stopped %q", res.port.Stopped)
	}
	if got := r.property("user@0.service", "ActiveState"); got != "active" {
		t.Errorf("the user's systemd is %s", got)
	}
}

// From a desktop, below systemd --user, which is an ancestor then and listens for
// the user's socket units.
func TestSystemdOfDesktop(t *testing.T) {
	r := bootSystemd(t)
	r.run("systemctl", "start", "user@0.service")
	r.run("systemctl", "--user", "start", "mine.socket")
	r.run("systemctl", "--user", "start", "desk.service")
	out := r.run("cat", "/run/desk.out")
	lines := strings.Split(out, "\n")
	if len(lines) != 4 {
		t.Fatalf("want four records: %s", out)
	}
	for _, line := range lines {
		if gjson.Get(line, "pkill2.outcome").String() != "would_stop" || gjson.Get(line, "pkill2.stop.3").String() != "mine.socket" {
			t.Errorf("%s; want that mine.socket would be stopped", line)
		}
	}
	report := read(t, r.run("cat", "/run/desk.report"))
	if f := report.finding(t, "listener"); f.Remedy == nil || !slices.Equal(f.Remedy.Command, []string{"killport", "18113"}) {
		t.Errorf("portdiag says %+v", f.Remedy)
	}
	if got := r.run("cat", "/run/desk.status"); gjson.Get(got, "status").String() != "cleaned" || r.listens(18113) {
		t.Errorf("killport: %s", got)
	}
	if got := r.property("user@0.service", "ActiveState"); got != "active" {
		t.Errorf("the user's systemd is %s", got)
	}
}

// One systemd listens for all socket units: each is stopped for its own socket,
// and for no other, whatever a record says of its address.
func TestSystemdOfSockets(t *testing.T) {
	r := bootSystemd(t)
	active := func(name string) bool { return r.property(name, "ActiveState") == "active" }
	both := func() {
		r.run("systemctl", "start", "pair1.socket", "pair2.socket", "lazy.socket")
	}
	both()
	for _, args := range [][]string{{"18130", "18103"}, {"127.0.0.1:18130", "127.0.0.2:18130", "18103"}} {
		both()
		res := r.killport(nil, args...)
		if res.exit != 0 || strings.Count(res.output, `"status":"cleaned"`) != len(args) {
			t.Errorf("%q: exit %d, %s", args, res.exit, res.output)
		}
		if active("pair1.socket") || active("pair2.socket") || active("lazy.socket") {
			t.Errorf("%q: a socket unit is active", args)
		}
	}
	both()
	res := r.killport(nil, "127.0.0.1:18130")
	if res.exit != 0 || active("pair1.socket") || !active("pair2.socket") || !active("lazy.socket") {
		t.Errorf("one address: exit %d, %s", res.exit, res.output)
	}
	both()
	const edited = `/run/rig/listeners 127.0.0.1:18130 | sed 's/"local_addr":"127.0.0.1"/"local_addr":"127.0.0.2"/' | /run/rig/pkill2`
	if out := r.run("sh", "-c", edited); gjson.Get(out, "pkill2.stop.2").String() != "pair1.socket" || !active("pair2.socket") {
		t.Errorf("a record with another address: %s", out)
	}
}

// Root stops a unit of another user's systemd.
func TestSystemdOfAnotherUser(t *testing.T) {
	r := bootSystemd(t)
	r.run("systemctl", "start", "user@65534.service")
	as := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env", "env", "XDG_RUNTIME_DIR=/run/user/65534"}
	r.run(append(slices.Clone(as), "systemctl", "--user", "start", "theirs.service")...)
	r.eventually("theirs.service listens", func() bool { return r.listens(18114) })
	if dry := r.killport(nil, "--dry-run", "18114"); len(dry.holders) != 1 || !slices.Equal(dry.holders[0].Done.Stop, append(as, "systemctl", "--user", "stop", "theirs.service")) {
		t.Errorf("dry run: %s", dry.output)
	}
	r.freed(r.killport(nil, "18114"), "18114")
	if got := r.property("user@65534.service", "ActiveState"); got != "active" {
		t.Errorf("the user's systemd is %s", got)
	}
}

// freed checks that a port is, and that this is what was said.
func (r *rig) freed(res result, port string, statuses ...string) {
	r.t.Helper()
	if len(statuses) == 0 {
		statuses = []string{"cleaned"}
	}
	if res.exit != 0 || !slices.Contains(statuses, res.port.Status) {
		r.t.Errorf("exit %d, status %s: %s", res.exit, res.port.Status, res.output)
	}
	number, _ := strconv.Atoi(port)
	if r.listens(number) {
		r.t.Errorf("port %s is still listened on", port)
	}
}
