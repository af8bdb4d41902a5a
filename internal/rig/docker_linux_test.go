package rig

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/portdiag"
)

// bootDocker starts an engine that has one image, zoo.
func bootDocker(t *testing.T, flags ...string) *rig {
	t.Helper()
	writeZoo(t)
	r := boot(t, []string{"dockerd", "docker", "containerd", "iptables"}, "docker.sh", flags...)
	r.eventually("the engine answers", func() bool { return r.command("docker", "version").Run() == nil })
	r.run("docker", "import", "/run/rig/zoo.tar", "zoo")
	return r
}

// writeZoo writes the image zoo to where those in the rig can import it.
func writeZoo(t *testing.T) {
	t.Helper()
	if err := writeImage(filepath.Join(programs, "zoo.tar"), filepath.Join(programs, "zoo")); err != nil {
		t.Fatal(err)
	}
}

// writeImage writes an image of one program: no registry is needed.
func writeImage(path, program string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "zoo", Mode: 0o755, Size: int64(len(b))}); err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Close()
}

// container runs zoo in one, and waits for its port.
func (r *rig) container(port int, flags []string, addr string) (id string) {
	r.t.Helper()
	return r.containerOf([]string{"docker"}, port, flags, addr)
}

// containerOf is the same by an engine with that command.
func (r *rig) containerOf(engine []string, port int, flags []string, addr string) (id string) {
	r.t.Helper()
	argv := append(slices.Concat(engine, []string{"run", "--detach", "--name=web"}), flags...)
	id = r.run(append(argv, "zoo", "/zoo", "serve", "--life=10m", addr)...)
	r.eventually("the container's port is there", func() bool { return r.listens(port) })
	return id
}

func TestDocker(t *testing.T) {
	r := bootDocker(t)
	engine := r.pidOf("dockerd")

	for _, test := range []struct {
		name  string
		flags []string
		addr  string
		args  []string
	}{
		{"published", []string{"--publish=127.0.0.1:18080:8000"}, "0.0.0.0:8000", nil},
		{"published everywhere, restart always", []string{"--publish=18080:8000", "--restart=always"}, "0.0.0.0:8000", nil},
		{"several ports", []string{"--publish=18080:8000", "--publish=18081:8000"}, "0.0.0.0:8000", []string{"18081"}},
		{"compose project", []string{"--publish=18080:8000", "--label=com.docker.compose.project=shop"}, "0.0.0.0:8000", nil},
		{"host network, restart always", []string{"--network=host", "--restart=always"}, "127.0.0.1:18080", nil},
		{"cgroup of its own", []string{"--network=host", "--cgroup-parent=/mine"}, "127.0.0.1:18080", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			id := in.container(18080, test.flags, test.addr)
			defer in.run("docker", "rm", "--force", "web")
			// Beside it another one, which must not be touched. Its name is what the
			// engine would take for it before it took it for the beginning of an ID.
			other := in.run("docker", "run", "--detach", "--name="+id[:12], "--publish=127.0.0.2:18090:8000", "zoo", "/zoo", "serve", "--life=10m", "0.0.0.0:8000")
			defer in.run("docker", "rm", "--force", other)

			args := append([]string{"18080"}, test.args...)
			dry := in.killport(nil, append([]string{"--dry-run"}, args...)...)
			for _, h := range dry.holders {
				if by := h.Check.ManagedBy; by.Kind != "container" || by.Name != "web" || !slices.Equal(by.Stop, []string{"docker", "stop", "web"}) {
					t.Errorf("managed by %+v", by)
				}
				if want := publishedBy(test.flags); !slices.Equal(h.Check.ManagedBy.Listens, want) {
					t.Errorf("it is said to listen at %q; want %q", h.Check.ManagedBy.Listens, want)
				}
				if want := []string{"docker", "stop", "-t", "3", id}; h.Done.Outcome != "would_stop" || !slices.Equal(h.Done.Stop, want) {
					t.Errorf("dry run: %+v", h.Done)
				}
			}
			if !in.running("web") || len(dry.holders) == 0 {
				t.Fatalf("the dry run says too little or does too much: %s", dry.output)
			}
			if blind := in.killport([]string{"unshare", "--pid", "--fork"}, args[0]); blind.exit != 1 || !in.running("web") {
				t.Fatalf("with a /proc of others: exit %d, %s", blind.exit, blind.output)
			}
			first := in.killport(nil, args[0])
			in.freed(first, args[0], "cleaned")
			if !slices.Equal(first.port.Stopped, []string{"container web (docker)"}) {
				t.Errorf("stopped %q", first.port.Stopped)
			}
			for _, arg := range args[1:] {
				in.freed(in.killport(nil, arg), arg, "free") // two ports of one container go together
			}
			if in.running("web") {
				t.Error("the container runs")
			}
			if !in.running(other) || !in.listens(18090) {
				t.Error("another container was stopped")
			}
			if now := in.pidOf("dockerd"); now != engine {
				t.Errorf("the engine was PID %d, and is %d", engine, now)
			}
		})
	}
}

// publishedBy are the addresses that flags of "docker run" publish, of a port.
func publishedBy(flags []string) (addrs []string) {
	for _, flag := range flags {
		at, ok := strings.CutPrefix(flag, "--publish=")
		at, _ = strings.CutSuffix(at, ":8000")
		switch {
		case !ok:
		case strings.Contains(at, ":"):
			addrs = append(addrs, "TCP "+at)
		default:
			addrs = append(addrs, "TCP 0.0.0.0:"+at, "TCP [::]:"+at)
		}
	}
	slices.Sort(addrs)
	return addrs
}

// One container that is asked for by several ports is stopped once.
func TestDockerStopsOnce(t *testing.T) {
	r := bootDocker(t)
	r.container(18080, []string{"--publish=18080:8000", "--publish=18081:8000"}, "0.0.0.0:8000")
	res := r.killport(nil, "18080", "18081")
	if res.exit != 0 || strings.Count(res.output, `"status":"cleaned"`) != 2 {
		t.Fatalf("exit %d: %s", res.exit, res.output)
	}
	if got := r.kills(); got != 1 {
		t.Errorf("%d signals", got)
	}
}

// Without the engine neither its proxy nor what it runs is touched; the proxy is
// ended on request, and what is in a container is not.
func TestDockerUnreachable(t *testing.T) {
	r := bootDocker(t)
	unreachable := []string{"env", "DOCKER_HOST=unix:///nowhere.sock"}
	const proxied, direct = "--publish=127.0.0.1:18080:8000", "--network=host"
	for flag, addr := range map[string]string{proxied: "0.0.0.0:8000", direct: "127.0.0.1:18080"} {
		r.container(18080, []string{flag}, addr)
		refused := func(args ...string) {
			res := r.killport(unreachable, args...)
			if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != "managed" || !strings.Contains(res.port.Detail, "nowhere.sock") || res.port.Hint == "" {
				t.Errorf("%s: no true refusal: exit %d, %s", flag, res.exit, res.output)
			}
			if !r.running("web") || !r.listens(18080) {
				t.Errorf("%s: it was touched", flag)
			}
		}
		refused("18080")
		if f := r.portdiag(unreachable, "18080").finding(t, portdiag.CauseListener); (f.Remedy != nil) != (flag == proxied) {
			t.Errorf("%s: portdiag says that %+v helps", flag, f.Remedy)
		}
		if flag == proxied {
			r.freed(r.killport(unreachable, "--override", "18080"), "18080", "cleaned")
		} else {
			refused("--override", "18080")
		}
		if !r.running("web") {
			t.Errorf("%s: the container does not run", flag)
		}
		r.run("docker", "rm", "--force", "web")
	}
}

// A container that something starts again is not called gone in the moment
// between the two.
func TestDockerComesBack(t *testing.T) {
	r := bootDocker(t)
	r.background("sh", "-c", "while :; do docker run --rm --publish=127.0.0.1:18084:8000 zoo /zoo serve --life=5m 0.0.0.0:8000; done")
	r.eventually("the port is there", func() bool { return r.listens(18084) && r.run("docker", "ps", "--quiet") != "" })
	res := r.killport(nil, "18084")
	if res.exit != 1 || res.port.Status != "stuck" || len(res.port.Stopped) != 1 || !strings.Contains(res.port.Hint, "portdiag 18084") {
		t.Errorf("exit %d: %s", res.exit, res.output)
	}
}

// Who may use the engine, and may not see its proxy, may stop what it runs.
func TestDockerOfOrdinaryUser(t *testing.T) {
	r := bootDocker(t)
	r.container(18080, []string{"--publish=127.0.0.1:18080:8000"}, "0.0.0.0:8000")
	nobody := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}
	res := r.killport(nobody, "18080")
	if res.exit != 1 || res.port.Reason != "hidden" || !r.listens(18080) {
		t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
	}
	r.run("chmod", "666", "/run/docker.sock")
	r.freed(r.killport(nobody, "18080"), "18080")
	if r.running("web") {
		t.Error("the container runs")
	}
}

// An engine may be that of another machine: its containers have ports and
// addresses like ours, and are not touched for what listens here.
func TestDockerOfAnotherMachine(t *testing.T) {
	r := bootDocker(t)
	id := r.container(18080, []string{"--publish=18080:8000"}, "0.0.0.0:8000")
	r.run("chmod", "666", "/run/docker.sock")
	proxy := strings.Fields(r.run("sh", "-c", `tr '\0' ' ' <"$(grep -lx docker-proxy /proc/[0-9]*/comm | head -1 | sed s,comm,cmdline,)"`))
	// The other machine has processes and ports of its own, and its engine's
	// command asks the first one's.
	const there = `ip link set lo up; %s >/dev/null & until [ -n "$(/run/rig/listeners 18080)" ]; do sleep 0.01; done; "$@"`
	at := func(server string, as ...string) []string {
		in := []string{"unshare", "--kill-child", "--fork", "--pid", "--net", "--mount-proc", "sh", "-c", fmt.Sprintf(there, server), "sh"}
		return append(in, as...)
	}
	const plain = "/run/rig/zoo serve --life=1m 0.0.0.0:18080"
	proxied := `cp /run/rig/zoo /run/docker-proxy; ZOO_ARGS='["serve","--life=1m","0.0.0.0:18080"]' /run/docker-proxy ` + strings.Join(proxy[1:], " ")
	for _, test := range []struct {
		name   string
		as     []string
		reason string
	}{
		{"hidden", at(plain, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"), "hidden"},
		{"a proxy", at(proxied), "managed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			res := in.killport(test.as, "18080")
			if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != test.reason {
				t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
			}
			if strings.Contains(res.port.Hint, "docker") {
				t.Errorf("the hint is about another machine: %s", res.port.Hint)
			}
			if !in.running(id) {
				t.Error("the container of another machine was stopped")
			}
		})
	}
}

// What is hidden in a network of its own is not what a container publishes in that of
// the machine, at the same address.
func TestDockerOfAnotherNetwork(t *testing.T) {
	r := bootDocker(t)
	id := r.container(18080, []string{"--publish=18080:8000"}, "0.0.0.0:8000")
	r.run("chmod", "666", "/run/docker.sock")
	const there = `ip link set lo up; /run/rig/zoo serve --life=1m 0.0.0.0:18080 >/dev/null &
		until [ -n "$(/run/rig/listeners 18080)" ]; do sleep 0.01; done; "$@"; exit=$?; kill $!; exit $exit`
	as := []string{"unshare", "--net", "sh", "-c", there, "sh", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}
	res := r.killport(as, "18080")
	if res.exit != 1 || res.port.Reason != "hidden" || strings.Contains(res.port.Hint, "docker") {
		t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
	}
	if !r.running(id) {
		t.Error("the container of the machine was stopped")
	}
}

// A swarm starts another container in the place of one that is stopped.
func TestDockerOfSwarm(t *testing.T) {
	r := bootDocker(t)
	r.run("docker", "swarm", "init", "--advertise-addr=127.0.0.1")
	r.run("docker", "service", "create", "--detach", "--name=shop", "--no-resolve-image", "--publish=mode=host,published=18080,target=8000",
		"zoo", "/zoo", "serve", "--life=10m", "0.0.0.0:8000")
	var id string
	r.eventually("the container runs, and its port is there", func() bool { // docker-proxy listens first
		id = r.run("docker", "ps", "--quiet", "--no-trunc")
		return id != "" && r.listens(18080)
	})
	res := r.killport(nil, "18080")
	if res.exit != 1 || res.port.Status != "partial" || res.port.Reason != "managed" || !strings.HasSuffix(res.port.Hint, ": docker service scale shop=0") {
		t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
	}
	if !r.running(id) {
		t.Error("the container was stopped")
	}
	_, stop, _ := strings.Cut(res.port.Hint, ": ")
	r.run(strings.Fields(stop)...)
	r.eventually("the hint has freed the port", func() bool { return !r.listens(18080) })
}

// Ctrl-C is for all in the foreground of a terminal. We say what was asked for,
// and the engine goes on with it.
func TestDockerInterrupted(t *testing.T) {
	r := bootDocker(t)
	r.run("docker", "run", "--detach", "--name=web", "--publish=127.0.0.1:18080:8000", "zoo", "/zoo", "ignore-term", "--life=10m", "0.0.0.0:8000")
	r.eventually("the port is there", func() bool { return r.listens(18080) })
	ctrlC := func() {
		r.eventually("the engine stops the container", func() bool { return r.kills() == 1 })
		r.run("kill", "-INT", "--", "-"+strconv.Itoa(r.pidOf("killport")))
	}
	res := r.killportWhile(ctrlC, []string{"setsid", "--wait"}, "--grace=3s", "18080")
	if res.exit != 130 || res.port.Status != "partial" || res.port.Reason != "interrupted" || !strings.Contains(res.port.Hint, "container web (docker) was asked to stop") {
		t.Errorf("exit %d: %s", res.exit, res.output)
	}
	if !r.running("web") {
		t.Error("the container does not run: it was not the engine that waited")
	}
	r.eventually("the engine has stopped the container", func() bool { return !r.listens(18080) })
	if got := r.kills(); got != 2 { // SIGTERM, SIGKILL
		t.Errorf("%d signals", got)
	}
}

// kills is how many signals the engine has sent to containers.
func (r *rig) kills() int {
	r.t.Helper()
	now := time.Now()
	until := fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())
	return strings.Count(r.run("docker", "events", "--since=10m", "--until="+until, "--filter=event=kill", "--format={{.Action}}"), "kill")
}

func TestDockerWithoutProxy(t *testing.T) {
	r := bootDocker(t, "--userland-proxy=false")
	r.run("docker", "run", "--detach", "--name=web", "--publish=18080:8000", "zoo", "/zoo", "serve", "--life=10m", "0.0.0.0:8000")
	if !r.listens(18080) {
		t.Skip("nobody listens: the engine leaves the port to the packet filter")
	}
	engine := r.pidOf("dockerd")
	r.freed(r.killport(nil, "18080"), "18080", "cleaned")
	if r.running("web") || r.pidOf("dockerd") != engine {
		t.Error("the container runs, or the engine does not")
	}
}

// With no proxy one dockerd listens for all containers.
func TestDockerWithoutProxyForTwo(t *testing.T) {
	r := bootDocker(t, "--userland-proxy=false")
	start := func() {
		for name, port := range map[string]string{"web1": "127.0.0.1:18081:8000", "web2": "127.0.0.2:18081:8000", "web3": "127.0.0.1:18082:8000"} {
			r.run("docker", "run", "--detach", "--rm", "--name="+name, "--publish="+port, "zoo", "/zoo", "serve", "--life=10m", "0.0.0.0:8000")
		}
		r.eventually("the engine listens", func() bool { return r.listens(18081) && r.listens(18082) })
	}
	there := func() string { return r.run("sh", "-c", "docker ps --format '{{.Names}}' | sort | xargs") }
	start()
	engine := r.pidOf("dockerd")
	res := r.killport(nil, "18081", "18082")
	if res.exit != 0 || strings.Count(res.output, `"status":"cleaned"`) != 2 || there() != "" {
		t.Errorf("exit %d, %s; still there: %s", res.exit, res.output, there())
	}
	start()
	const edited = `/run/rig/listeners 127.0.0.1:18081 | sed 's/"local_addr":"127.0.0.1"/"local_addr":"127.0.0.2"/' | /run/rig/pkill2`
	if out := r.run("sh", "-c", edited); there() != "web2 web3" {
		t.Errorf("a record with another address: %s; still there: %s", out, there())
	}
	if r.pidOf("dockerd") != engine {
		t.Error("the engine does not run any more")
	}
}

func (r *rig) running(container string) bool {
	r.t.Helper()
	return r.runningOf([]string{"docker"}, container)
}

func (r *rig) runningOf(engine []string, container string) bool {
	r.t.Helper()
	return r.run(append(slices.Clone(engine), "inspect", "--format={{.State.Running}}", container)...) == "true"
}

// pidOf is the PID of the only process of that name.
func (r *rig) pidOf(name string) int {
	r.t.Helper()
	pid, err := strconv.Atoi(r.run("sh", "-c", `grep -lx `+name+` /proc/[0-9]*/comm | cut -d/ -f3`))
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// A service that runs a container starts it again when it is stopped: systemd is
// told too, and first.
func TestDockerOfSystemd(t *testing.T) {
	need(t, "dockerd", "docker", "docker-compose", "containerd", "iptables")
	writeZoo(t)
	r := bootSystemd(t)
	r.run("systemctl", "start", "engine.service")
	r.eventually("the engine answers", func() bool { return r.command("docker", "version").Run() == nil })
	r.run("docker", "import", "/run/rig/zoo.tar", "zoo")

	for unit, port := range map[string]int{"client.service": 18118, "stubborn.service": 18119, "compose.service": 18120} {
		t.Run(unit, func(t *testing.T) {
			in := &rig{t: t, init: r.init, log: r.log}
			in.start(unit, port) // docker-proxy listens a moment before the container runs
			in.eventually("the container runs", func() bool { return in.run("docker", "ps", "--quiet") != "" })
			res := in.killport(nil, "--grace=1s", strconv.Itoa(port))
			in.freed(res, strconv.Itoa(port))
			if !slices.Equal(res.port.Stopped, []string{"unit " + unit}) {
				t.Errorf("stopped %q", res.port.Stopped)
			}
			state, restarts := in.property(unit, "ActiveState"), in.property(unit, "NRestarts")
			if state != "inactive" && state != "failed" || restarts != "0" {
				t.Errorf("the service is %s, and was started again %s times", state, restarts)
			}
			if got := in.run("docker", "ps", "--quiet"); got != "" {
				t.Errorf("containers run: %s", got)
			}
		})
	}
	// A job of a service is a container: the service has others.
	t.Run("agent.service", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("agent.service", 18139)
		in.eventually("the container runs", func() bool { return in.run("docker", "ps", "--quiet") != "" })
		main, job := in.property("agent.service", "MainPID"), in.jobOf("sleep")
		res := in.killport(nil, "18139")
		in.freed(res, "18139")
		if !slices.Equal(res.port.Stopped, []string{"container agents (docker)"}) {
			t.Errorf("stopped %q", res.port.Stopped)
		}
		if got := in.property("agent.service", "MainPID"); got != main || in.command("kill", "-0", strconv.Itoa(job)).Run() != nil {
			t.Errorf("the agent was PID %s, and is %s; or its other job has ended", main, got)
		}
		in.run("systemctl", "stop", "agent.service")
	})
	t.Run("a service that others need", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.start("client.service", 18118)
		in.eventually("the container runs", func() bool { return in.run("docker", "ps", "--quiet") != "" })
		in.run("systemctl", "start", "needs-client.service")
		res := in.killport(nil, "18118")
		if res.exit != 1 || !strings.Contains(res.port.Detail, "needs-client.service would be stopped too") || !in.listens(18118) {
			t.Errorf("no true refusal: exit %d, %s", res.exit, res.output)
		}
		in.freed(in.killport(nil, "--override", "--grace=1s", "18118"), "18118")
		if got := in.states("needs-client.service"); got[0] != "inactive" || in.run("docker", "ps", "--quiet") != "" {
			t.Errorf("needs-client.service is %s, or the container runs", got)
		}
	})
	t.Run("no service", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.container(18080, []string{"--publish=127.0.0.1:18080:8000", "--restart=always"}, "0.0.0.0:8000")
		res := in.killport(nil, "18080")
		in.freed(res, "18080")
		if !slices.Equal(res.port.Stopped, []string{"container web (docker)"}) {
			t.Errorf("stopped %q", res.port.Stopped)
		}
	})
}

// TestInsideAContainer: killport in a container sees neither the ports nor the
// processes of the host, and says so.
func TestInsideAContainer(t *testing.T) {
	r := bootDocker(t)
	r.insideAContainer("docker")
}

// insideAContainer runs killport in a container of an engine.
func (r *rig) insideAContainer(engine ...string) {
	r.t.Helper()
	r.zoo("serve", "127.0.0.1:18099")
	r.eventually("it listens", func() bool { return r.listens(18099) })
	inside := func(flags ...string) (string, error) {
		argv := slices.Concat(engine, []string{"run", "--rm", "--volume=/run/rig:/rig:ro"}, flags)
		out, err := r.command(argv...).Output()
		schematest.Validate(r.t, "classify", out)
		return string(out), err
	}
	out, err := inside("zoo", "/rig/killport", "--json", "18099")
	if err != nil || !strings.Contains(out, `"status":"free"`) || !strings.Contains(out, `"isolated":["pid","net"]`) {
		r.t.Errorf("killport in a container: %v, %s; want it free in there, and isolated", err, out)
	}
	// With the network of the host, what it has there is hidden.
	out, err = inside("--network=host", "zoo", "/rig/killport", "--json", "--override", "--close-ghosts", "18099")
	if err == nil || !strings.Contains(out, `"reason":"hidden"`) || strings.Contains(out, `"hint":"--`) || !strings.Contains(out, "outside of this PID namespace") {
		r.t.Errorf("killport in a container with the host's network: %v, %s; want it hidden, and a hint at the outside", err, out)
	}
	if !r.listens(18099) {
		r.t.Error("the server outside has lost its socket")
	}
}
