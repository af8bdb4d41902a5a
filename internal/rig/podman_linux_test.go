package rig

import (
	"slices"
	"strconv"
	"testing"
)

// asNobody is the beginning of a command that runs as nobody does it from a login.
var asNobody = []string{
	"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env", "env", "--chdir=/", "XDG_RUNTIME_DIR=/run/user/65534",
}

// bootPodman gives a podman that has one image, zoo, to root and to nobody.
func bootPodman(t *testing.T) *rig {
	t.Helper()
	writeZoo(t)
	r := boot(t, []string{"podman", "crun", "iptables", "slirp4netns"}, "podman.sh")
	r.eventually("it has booted", func() bool { return r.command("test", "-e", "/run/booted").Run() == nil })
	r.run("podman", "import", "/run/rig/zoo.tar", "zoo")
	r.run(append(slices.Clone(asNobody), "podman", "import", "/run/rig/zoo.tar", "zoo")...)
	return r
}

// conmon has the published ports of root's containers, rootlessport those of an
// ordinary user's, which need not have a cgroup of their own.
func TestPodman(t *testing.T) {
	r := bootPodman(t)
	roots, nobodys := []string{"podman"}, append(slices.Clone(asNobody), "podman")

	for _, test := range []struct {
		name   string
		engine []string
		flags  []string
		addr   string
		as     []string // who frees the port
	}{
		{"published", roots, []string{"--publish=127.0.0.1:18080:8000"}, "0.0.0.0:8000", nil},
		{"published everywhere, restart always", roots, []string{"--publish=18080:8000", "--restart=always"}, "0.0.0.0:8000", nil},
		{"host network, restart always", roots, []string{"--network=host", "--restart=always"}, "127.0.0.1:18080", nil},
		{"cgroup of its own", roots, []string{"--network=host", "--cgroup-parent=/mine"}, "127.0.0.1:18080", nil},
		{"nobody's, published, restart always", nobodys, []string{"--publish=18080:8000", "--restart=always"}, "0.0.0.0:8000", asNobody},
		{"nobody's, host network, restart always", nobodys, []string{"--network=host", "--restart=always"}, "127.0.0.1:18080", asNobody},
		{"nobody's, published, by root", nobodys, []string{"--publish=18080:8000", "--restart=always"}, "0.0.0.0:8000", nil},
		{"nobody's, host network, by root", nobodys, []string{"--network=host", "--restart=always"}, "127.0.0.1:18080", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			id := in.containerOf(test.engine, 18080, test.flags, test.addr)
			defer in.run(append(slices.Clone(test.engine), "rm", "--force", "--time=1", "web")...)
			// Beside it another one, which must not be touched.
			other := in.run("podman", "run", "--detach", "--publish=127.0.0.2:18090:8000", "zoo", "/zoo", "serve", "--life=10m", "0.0.0.0:8000")
			defer in.run("podman", "rm", "--force", "--time=1", other)

			stop := []string{"podman"}
			if len(test.engine) > 1 && test.as == nil {
				stop = test.engine
			}
			dry := in.killport(test.as, "--dry-run", "18080")
			for _, h := range dry.holders {
				if by := h.Check.ManagedBy; by.Kind != "container" || by.Name != "web" || !slices.Equal(by.Stop, append(slices.Clone(stop), "stop", "web")) {
					t.Errorf("managed by %+v", by)
				}
				if want := append(slices.Clone(stop), "stop", "-t", "3", id); h.Done.Outcome != "would_stop" || !slices.Equal(h.Done.Stop, want) {
					t.Errorf("dry run: %+v", h.Done)
				}
			}
			if !in.runningOf(test.engine, "web") || len(dry.holders) == 0 {
				t.Fatalf("the dry run says too little or does too much: %s", dry.output)
			}
			res := in.killport(test.as, "18080")
			in.freed(res, "18080")
			if !slices.Equal(res.port.Stopped, []string{"container web (podman)"}) {
				t.Errorf("stopped %q", res.port.Stopped)
			}
			if in.runningOf(test.engine, "web") {
				t.Error("the container runs")
			}
			if !in.runningOf(roots, other) || !in.listens(18090) {
				t.Error("another container was stopped")
			}
		})
	}
}

// A service that runs a container starts it again: the service is stopped.
func TestPodmanOfSystemd(t *testing.T) {
	need(t, "podman", "crun", "iptables", "dbus-daemon")
	writeZoo(t)
	r := bootSystemd(t)
	r.run("systemctl", "start", "dbus.service") // without it podman makes no cgroups
	r.run("podman", "import", "/run/rig/zoo.tar", "zoo")

	for unit, port := range map[string]int{"generated.service": 18115, "quadlet.service": 18116, "attached.service": 18117, "anonymous.service": 18142} {
		t.Run(unit, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			in.start(unit, port)
			in.eventually("the container runs", func() bool { return in.run("podman", "ps", "--quiet") != "" })
			res := in.killport(nil, strconv.Itoa(port))
			in.freed(res, strconv.Itoa(port))
			if !slices.Equal(res.port.Stopped, []string{"unit " + unit}) {
				t.Errorf("stopped %q", res.port.Stopped)
			}
			if got := in.property(unit, "ActiveState"); got != "inactive" && got != "failed" {
				t.Errorf("the service is %s", got)
			}
			if got := in.run("podman", "ps", "--quiet"); got != "" {
				t.Errorf("containers run: %s", got)
			}
		})
	}
	t.Run("no service", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.containerOf([]string{"podman"}, 18080, []string{"--publish=18080:8000"}, "0.0.0.0:8000")
		res := in.killport(nil, "18080")
		in.freed(res, "18080")
		if !slices.Equal(res.port.Stopped, []string{"container web (podman)"}) {
			t.Errorf("stopped %q", res.port.Stopped)
		}
	})
}

// Inside of one nobody claims to see the host.
func TestInsideAPodman(t *testing.T) {
	r := bootPodman(t)
	r.insideAContainer("podman")
}
