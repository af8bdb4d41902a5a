package rig

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// states are those of units, in that order.
func (r *rig) states(units ...string) (states []string) {
	r.t.Helper()
	for _, unit := range units {
		states = append(states, r.property(unit, "ActiveState"))
	}
	return states
}

// stopAll stops units, and waits until nothing of them is left.
func (r *rig) stopAll(units ...string) {
	r.t.Helper()
	r.run(append([]string{"systemctl", "stop", "--no-block"}, units...)...)
	for _, unit := range units {
		_ = r.command("systemctl", "kill", "--signal=SIGKILL", unit).Run() // some are not there
	}
	r.run(append([]string{"systemctl", "stop"}, units...)...)
}

// jobOf is the PID of the only process of that name, which is about to start.
func (r *rig) jobOf(name string) int {
	r.t.Helper()
	r.eventually(name+" has started", func() bool { return r.command("sh", "-c", "grep -qx "+name+" /proc/[0-9]*/comm").Run() == nil })
	return r.pidOf(name)
}

// What needs a unit would be stopped along with it: it is left alone, with all of
// them and the one command that stops them in the hint; --override does it.
func TestSystemdAlsoStops(t *testing.T) {
	r := bootSystemd(t)
	others := []string{"cart.service", "far.service", "mail.service", "shop.service"}
	all := append([]string{"db.service"}, others...)
	stop := append([]string{"systemctl", "stop"}, all...)
	start := func(r *rig, also ...string) {
		r.t.Helper()
		r.start("db.service", 18130)
		r.run(append([]string{"systemctl", "start", "once-needed.service", "behind.service"}, append(others, also...)...)...)
		r.eventually("far.service listens", func() bool { return r.listens(18131) })
	}
	untouched := func(r *rig, res result, want string, units ...string) {
		r.t.Helper()
		if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != "managed" || !strings.Contains(res.port.Detail, want) || len(res.port.Stopped) != 0 {
			r.t.Errorf("no true refusal: exit %d, %s; want %q", res.exit, res.output, want)
		}
		units = append(units, all...)
		if got := r.states(units...); slices.ContainsFunc(got, func(s string) bool { return s != "active" }) || r.property("db.service", "NRestarts") != "0" {
			r.t.Errorf("of %q: %q", units, got)
		}
	}
	on := func(name string, test func(t *testing.T, r *rig)) {
		t.Run(name, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			test(t, in)
			in.stopAll(append(all, "behind.service", "sssd.service", "inside.service")...)
		})
	}

	on("left alone, and named", func(t *testing.T, r *rig) {
		start(r)
		dry := r.killport(nil, "--dry-run", "18130")
		if len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_refuse" {
			t.Fatalf("dry run: %s", dry.output)
		}
		if by := dry.holders[0].Check.ManagedBy; !slices.Equal(by.AlsoStops, others) || !slices.Equal(by.Stop, stop) {
			t.Errorf("managed by %+v", by)
		}
		f := r.portdiag(nil, "18130").finding(t, "unit")
		if !strings.Contains(f.Summary, "leaves it alone: "+strings.Join(others, ", ")) || f.Remedy == nil || !slices.Equal(f.Remedy.Command, stop) {
			t.Errorf("portdiag says %+v", f)
		}
		res := r.killport(nil, "18130")
		untouched(r, res, strings.Join(others, ", ")+" would be stopped too", "behind.service")
		_, command, _ := strings.Cut(res.port.Hint, ": ")
		if command != strings.Join(stop, " ") {
			t.Fatalf("the hint is %q", res.port.Hint)
		}
		r.run("systemctl", "kill", "--signal=SIGKILL", "far.service") // which waits for its 90 s
		r.eventually("it has ended", func() bool { return r.property("far.service", "MainPID") == "0" })
		r.run("sh", "-c", command) // does what it says
		if got := r.states(all...); r.listens(18130) || slices.Contains(got, "active") {
			t.Errorf("after the hint: %q", got)
		}
	})
	on("with --override", func(t *testing.T, r *rig) {
		start(r)
		dry := r.killport(nil, "--dry-run", "--override", "18130")
		if len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_stop" || !slices.Equal(dry.holders[0].Done.Stop, stop) {
			t.Errorf("dry run: %s", dry.output)
		}
		res := r.killport(nil, "--override", "--grace=1s", "18130") // systemd stops far.service first, which is deaf
		r.freed(res, "18130")
		if want := []string{"unit db.service with " + strings.Join(others, ", ")}; !slices.Equal(res.port.Stopped, want) {
			t.Errorf("stopped %q; want %q", res.port.Stopped, want)
		}
		if got := r.states(all...); slices.Contains(got, "active") || slices.Contains(got, "deactivating") {
			t.Errorf("of %q: %q", all, got)
		}
		if got := r.states("behind.service"); got[0] != "active" {
			t.Errorf("behind.service, which nobody has named, is %s", got)
		}
	})
	on("one that is never stopped", func(t *testing.T, r *rig) {
		start(r, "sssd.service")
		untouched(r, r.killport(nil, "--override", "18130"), "does not stop sssd.service, which would be stopped too", "sssd.service")
	})
	on("our own", func(t *testing.T, r *rig) {
		start(r, "inside.service")
		r.eventually("killport is done", func() bool { return r.command("test", "-e", "/run/inside.out").Run() == nil })
		said := r.run("cat", "/run/inside.out")
		if !strings.Contains(said, `"status":"partial"`) || !strings.Contains(said, "does not stop inside.service, which would be stopped too: it is in there itself") {
			t.Errorf("killport said %s", said)
		}
		// It is of nobody else's: killport outside of it may stop it.
		untouched(r, r.killport(nil, "18130"), "inside.service", "inside.service")
	})
	t.Run("what nobody needs then", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("front.service", 18141)
		res := in.killport(nil, "18141")
		if res.exit != 1 || !strings.Contains(res.port.Detail, "unneeded.service would be stopped too") || !in.listens(18141) {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		in.run("systemctl", "start", "also-front.service")
		in.freed(in.killport(nil, "18141"), "18141")
		if got := in.states("front.service", "also-front.service", "unneeded.service"); !slices.Equal(got, []string{"inactive", "active", "active"}) {
			t.Errorf("while another needs it: %q", got)
		}
		in.run("systemctl", "stop", "also-front.service")
		in.eventually("systemd has stopped what nobody needs", func() bool { return in.states("unneeded.service")[0] == "inactive" })
	})
	t.Run("the system would end", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("last.service", 18132)
		res := in.killport(nil, "--override", "18132")
		if res.exit != 1 || res.port.Reason != "managed" || !strings.Contains(res.port.Detail, "SuccessAction=poweroff") || strings.Contains(res.port.Hint, "systemctl") {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		if got := in.property("last.service", "ActiveState"); got != "active" {
			t.Errorf("the service is %s", got)
		}
	})
}

// A socket unit has several ports, and a service that needs it: that is no bystander,
// but who needs the service is.
func TestSystemdSocketAlsoStops(t *testing.T) {
	r := bootSystemd(t)
	r.start("pair.socket", 18133)
	r.run("systemctl", "start", "pair.service")
	dry := r.killport(nil, "--dry-run", "127.0.0.1:18133")
	want := []string{"TCP 127.0.0.1:18133", "TCP 127.0.0.1:18134", "UDP [::1]:18133"}
	if len(dry.holders) == 0 {
		t.Fatalf("dry run: %s", dry.output)
	}
	for _, h := range dry.holders {
		if by := h.Check.ManagedBy; h.PID == 1 && (!slices.Equal(by.Listens, want) || by.AlsoStops != nil) {
			t.Errorf("managed by %+v; want that it frees %q", by, want)
		}
	}
	r.run("systemctl", "start", "client-of-pair.service")
	res := r.killport(nil, "18133")
	if res.exit != 1 || !strings.Contains(res.port.Detail, "client-of-pair.service would be stopped too") {
		t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
	}
	if got := r.states("pair.socket", "pair.service", "client-of-pair.service"); slices.Contains(got, "inactive") {
		t.Errorf("states %q", got)
	}
	r.run("systemctl", "stop", "client-of-pair.service")
	r.freed(r.killport(nil, "18133"), "18133")
	if got := r.states("pair.socket", "pair.service"); slices.Contains(got, "active") {
		t.Errorf("states %q", got)
	}
}

func TestSystemdOfUserAlsoStops(t *testing.T) {
	r := bootSystemd(t)
	r.run("systemctl", "start", "user@65534.service")
	as := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env", "env", "XDG_RUNTIME_DIR=/run/user/65534", "systemctl", "--user"}
	r.run(append(slices.Clone(as), "start", "theirdb.service", "theirapp.service")...)
	r.eventually("theirdb.service listens", func() bool { return r.listens(18140) })
	res := r.killport(nil, "18140")
	command := strings.Join(append(slices.Clone(as), "stop", "theirdb.service", "theirapp.service"), " ")
	if res.exit != 1 || !strings.Contains(res.port.Detail, "theirapp.service would be stopped too") || !strings.HasSuffix(res.port.Hint, ": "+command) || !r.listens(18140) {
		t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
	}
	r.freed(r.killport(nil, "--override", "18140"), "18140")
	if got := r.run(append(slices.Clone(as), "show", "--value", "--property=ActiveState", "theirapp.service")...); got != "inactive" {
		t.Errorf("theirapp.service is %s", got)
	}
}

// Who is above us is above us, also behind somebody whom we may not see: its unit is
// not stopped, and what is in there is a plain process.
func TestSystemdBehindHidden(t *testing.T) {
	r := bootSystemd(t)
	r.run("install", "-m", "4755", "/usr/bin/setpriv", "/run/setpriv")
	r.run("systemctl", "start", "user@65534.service")
	r.run(append(slices.Clone(asNobody), "systemctl", "--user", "start", "hiding.service")...)
	r.eventually("killport is done", func() bool { return r.command("test", "-e", "/run/hiding.out").Run() == nil })
	said := r.run("cat", "/run/hiding.out")
	if !strings.Contains(said, `"status":"cleaned"`) || strings.Contains(said, "hiding.service") {
		t.Errorf("killport said %s", said)
	}
	shown := r.run(append(slices.Clone(asNobody), "systemctl", "--user", "show", "--property=NRestarts,ActiveState", "hiding.service")...)
	if shown != "NRestarts=0\nActiveState=active" {
		t.Errorf("the unit of its ancestor is %s", shown)
	}
}

// When the grace period is over killport kills what systemd itself would kill, and
// nothing else.
func TestSystemdKillMode(t *testing.T) {
	r := bootSystemd(t)
	t.Run("process", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("jobs.service", 18135)
		job := in.jobOf("sleep")
		in.freed(in.killport(nil, "--grace=1s", "18135"), "18135")
		if got := in.pidOf("sleep"); got != job {
			t.Errorf("the job was PID %d, and is %d", job, got)
		}
		if got := in.property("jobs.service", "ActiveState"); got != "failed" && got != "inactive" {
			t.Errorf("the service is %s", got)
		}
		in.run("kill", strconv.Itoa(job))
	})
	t.Run("a job that is kept", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("job-of-jobs.service", 18136)
		main := in.property("job-of-jobs.service", "MainPID")
		res := in.killport(nil, "18136")
		in.freed(res, "18136")
		if got := in.property("job-of-jobs.service", "MainPID"); got != main || res.port.Stopped != nil {
			t.Errorf("the service was touched: main PID %s, then %s", main, got)
		}
		in.run("systemctl", "stop", "job-of-jobs.service")
	})
	t.Run("SendSIGKILL=no", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("unkilled.service", 18137)
		main := in.property("unkilled.service", "MainPID")
		res := in.killport(nil, "--grace=300ms", "18137")
		if res.exit != 1 || res.port.Reason != "managed" || !strings.Contains(res.port.Detail, "it did not stop in time") {
			t.Errorf("exit %d: %s", res.exit, res.output)
		}
		if got := in.property("unkilled.service", "MainPID"); got != main || !in.listens(18137) {
			t.Errorf("it was killed: main PID %s, then %s", main, got)
		}
	})
}

// place puts a shell into a cgroup of that path, in the hierarchies that systemd keeps.
const place = `while read -r _ at type options _; do case $type,$options in cgroup2,* | cgroup,*name=systemd*)
	mkdir -p "$at/$group"; echo $$ >"$at/$group/cgroup.procs" ;; esac; done </proc/mounts; `

// A cgroup has the name that its maker gave it: who has another's container in its
// name is not in there. The engine is the real one.
func TestDockerOfTheSameName(t *testing.T) {
	r := bootDocker(t)
	id := r.run("docker", "run", "--detach", "--name=victim", "--network=none", "zoo", "/zoo", "serve", "--life=10m", "127.0.0.1:8000")
	r.background("sh", "-c", "group=elsewhere/docker-"+id+".scope; "+place+"exec /run/rig/zoo serve --life=10m 127.0.0.1:18138")
	r.eventually("it listens", func() bool { return r.listens(18138) })
	for _, args := range [][]string{{"18138"}, {"--override", "18138"}} {
		r.isElsewhere(r.killport(nil, args...))
		if !r.running("victim") || !r.listens(18138) {
			t.Fatal("the container was stopped, or the holder ended")
		}
	}
}

// The same of an ordinary user, to whom systemd has given a tree of cgroups.
func TestSystemdDelegatedName(t *testing.T) {
	r := bootSystemd(t)
	const id = "e06ab27284768ff1518e2fd19c1ad324806f071a2f829e5381df8b23e399b0fb"
	r.background("sh", "-c", "group=system.slice/docker-"+id+".scope; "+place+"echo $$ >/run/victim.pid; exec sleep 600")
	r.eventually("the victim is there", func() bool { return r.command("test", "-s", "/run/victim.pid").Run() == nil })
	r.run("sh", "-c", "echo "+id+" >/run/victim")
	// It says and does what docker would with the container of another.
	const engine = `#!/bin/sh
case $1 in
container) echo '[{"Id":"ID","Name":"/victim","State":{"Running":true,"Pid":'$(cat /run/victim.pid)'}}]' ;;
stop) kill -9 $(cat /run/victim.pid) ;;
esac
`
	standIn := filepath.Join(programs, "stand-in")
	if err := os.MkdirAll(standIn, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(standIn, "docker"), []byte(strings.ReplaceAll(engine, "ID", id)), 0o755); err != nil {
		t.Fatal(err)
	}
	r.start("delegated.service", 18138)
	if got := r.run("cat", "/proc/"+r.property("delegated.service", "MainPID")+"/cgroup"); !strings.Contains(got, "delegated.service/docker-"+id) {
		t.Fatalf("the holder is in %s", got)
	}
	as := []string{"env", "PATH=/run/rig/stand-in:/usr/bin:/bin"}
	for _, args := range [][]string{{"18138"}, {"--override", "18138"}} {
		r.isElsewhere(r.killport(as, args...))
		if r.command("sh", "-c", "kill -0 $(cat /run/victim.pid)").Run() != nil || !r.listens(18138) {
			t.Fatal("the victim is dead, or the holder")
		}
	}
	// The same engine, asked about what is in there, has it stopped.
	r.background("sh", "-c", "group=system.slice/docker-"+id+".scope/below; "+place+"exec /run/rig/zoo serve --life=10m 127.0.0.1:18141")
	r.eventually("it listens", func() bool { return r.listens(18141) })
	if dry := r.killport(as, "--dry-run", "18141"); len(dry.holders) != 1 || dry.holders[0].Done.Outcome != "would_stop" {
		t.Errorf("dry run: %s", dry.output)
	}
}

func (r *rig) isElsewhere(res result) {
	r.t.Helper()
	if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != "managed" || !strings.Contains(res.port.Detail, "is elsewhere") || res.port.Stopped != nil {
		r.t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
	}
}
