package rig

import (
	"path/filepath"
	"slices"
	"testing"
)

// asNobody is the beginning of a command that runs as nobody does it from a login.
var asNobody = []string{
	"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "--chdir=/", "HOME=/run/nobody", "XDG_RUNTIME_DIR=/run/user/65534",
}

// bootPodman gives a podman that has one image, zoo, to root and to nobody.
func bootPodman(t *testing.T) *rig {
	t.Helper()
	image := filepath.Join(programs, "zoo.tar")
	if err := writeImage(image, filepath.Join(programs, "zoo")); err != nil {
		t.Fatal(err)
	}
	r := boot(t, []string{"podman", "conmon", "iptables", "slirp4netns"}, "podman.sh")
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
				if want := append(slices.Clone(stop), "stop", "-t", "3", id[:12]); h.Done.Outcome != "would_stop" || !slices.Equal(h.Done.Stop, want) {
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
