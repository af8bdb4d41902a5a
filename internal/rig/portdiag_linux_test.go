package rig

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/internal/schematest"
)

// report is what portdiag says of a port.
type report struct {
	Verdict   string `json:"verdict"`
	Bindable  bool   `json:"bindable"`
	Listeners []struct {
		Why []struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
			PID  int    `json:"pid"`
		} `json:"why"`
	} `json:"listeners"`
	Findings []finding `json:"findings"`
	output   string
}

type finding struct {
	Cause    string         `json:"cause"`
	Severity string         `json:"severity"`
	Summary  string         `json:"summary"`
	Evidence map[string]any `json:"evidence"`
	Remedy   *struct {
		Command []string `json:"command"`
	} `json:"remedy"`
}

func (r *rig) portdiag(as []string, port string) report {
	r.t.Helper()
	out := r.run(append(slices.Clone(as), "/run/rig/portdiag", "--json", port)...)
	schematest.Validate(r.t, "portdiag", []byte(out))
	res := report{output: out}
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	r.t.Logf("portdiag %s: %s", port, out)
	return res
}

// finding is the one of that cause.
func (res report) finding(t *testing.T, cause string) finding {
	t.Helper()
	at := slices.IndexFunc(res.Findings, func(f finding) bool { return f.Cause == cause })
	if at < 0 {
		t.Fatalf("no finding of cause %q: %s", cause, res.output)
	}
	return res.Findings[at]
}

// background starts a command that ends with the rig.
func (r *rig) background(argv ...string) *exec.Cmd {
	r.t.Helper()
	cmd := r.command(argv...)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

func TestCausesBesidesSockets(t *testing.T) {
	r := boot(t, []string{"iptables", "iptables-save", "sysctl"}, "plain.sh")

	t.Run("dnat", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.run("iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "18201", "-j", "REDIRECT", "--to-ports", "18202")
		in.background("/run/rig/zoo", "serve", "--life=1m", "127.0.0.1:18202")
		in.eventually("zoo listens", func() bool { return in.listens(18202) })
		res := in.portdiag(nil, "18201")
		if f := res.finding(t, "dnat"); res.Verdict != "free" || f.Severity != "warning" || !strings.Contains(f.Summary, "18202") {
			t.Errorf("%s", res.output)
		}
		if res := in.portdiag(nil, "18203"); len(res.Findings) != 0 {
			t.Errorf("another port has findings: %s", res.output)
		}
	})
	t.Run("dnat of nftables", func(t *testing.T) {
		if _, err := exec.LookPath("nft"); err != nil {
			t.Skip(err)
		}
		in := &rig{t: t, init: r.init, log: r.log}
		in.run("nft", "add table ip mine; add chain ip mine out { type nat hook output priority -100; }; add rule ip mine out tcp dport 18204 redirect to :18202")
		if f := in.portdiag(nil, "18204").finding(t, "dnat"); !strings.Contains(f.Summary, ":18202") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("other_namespace", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.background("unshare", "--net", "--kill-child", "--fork", "sh", "-c", "ip link set lo up; exec /run/rig/zoo serve --life=1m 127.0.0.1:18205")
		in.eventually("zoo is seen", func() bool {
			return strings.Contains(in.run("/run/rig/portdiag", "18205"), "other_namespace")
		})
		res := in.portdiag(nil, "18205")
		if f := res.finding(t, "other_namespace"); res.Verdict != "free" || f.Severity != "info" || f.Evidence["name"] != "zoo" {
			t.Errorf("%s", res.output)
		}
	})
	t.Run("reserved_port", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.run("sysctl", "-q", "net.ipv4.ip_local_reserved_ports=18206-18207")
		if f := in.portdiag(nil, "18207").finding(t, "reserved_port"); f.Severity != "info" {
			t.Errorf("%+v", f)
		}
		in.run("sysctl", "-q", "net.ipv4.ip_local_reserved_ports=")
	})
	t.Run("ephemeral_port", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		in.run("sysctl", "-q", "net.ipv4.ip_local_port_range=20000 60000")
		in.background("/run/rig/zoo", "bound", "--life=1m", "127.0.0.1:20001")
		in.eventually("zoo is seen", func() bool { return strings.Contains(in.run("/run/rig/portdiag", "20001"), `"bound"`) })
		f := in.portdiag(nil, "20001").finding(t, "ephemeral_port")
		in.run(f.Remedy.Command[1:]...) // does what it says: sudo is for others
		if got := in.run("sysctl", "-n", "net.ipv4.ip_local_reserved_ports"); got != "20001" {
			t.Errorf("the remedy left %q reserved", got)
		}
	})
	t.Run("supervisor", func(t *testing.T) {
		in := &rig{t: t, init: r.init, log: r.log}
		// A shell called nodemon, as far as anybody can tell.
		in.background("bash", "-c", "exec -a nodemon bash -c '/run/rig/zoo serve --life=1m 127.0.0.1:18208; sleep 60'")
		in.eventually("zoo listens", func() bool { return in.listens(18208) })
		res := in.portdiag(nil, "18208")
		f := res.finding(t, "supervisor")
		if f.Evidence["name"] != "nodemon" || f.Remedy == nil || f.Remedy.Command[0] != "kill" {
			t.Errorf("%+v", f)
		}
		var kinds []string
		for _, link := range res.Listeners[0].Why {
			kinds = append(kinds, link.Kind+" "+link.Name)
		}
		if want := []string{"socket 127.0.0.1:18208", "process zoo", "process bash"}; len(kinds) < 3 || !slices.Equal(kinds[:3], want) {
			t.Errorf("the chain is %q; want %q first", kinds, want)
		}
	})
}

// The port of ssh -L is held by ssh, and that of ssh -R by a session of sshd.
func TestSSHForward(t *testing.T) {
	sshd, err := exec.LookPath("sshd") // wants to be called by its path
	if err != nil {
		t.Skip(err)
	}
	r := boot(t, []string{"ssh", "ssh-keygen"}, "plain.sh")
	r.run("mkdir", "-m", "755", "/run/sshd")
	for _, key := range []string{"/run/host", "/run/mine"} {
		r.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	r.background(sshd, "-D", "-f", "/dev/null", "-h", "/run/host", "-p", "18300", "-o", "ListenAddress=127.0.0.1",
		"-o", "AuthorizedKeysFile=/run/mine.pub", "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none")
	r.eventually("sshd listens", func() bool { return r.listens(18300) })
	r.background("ssh", "-N", "-F", "/dev/null", "-i", "/run/mine", "-p", "18300", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-L", "18301:127.0.0.1:1", "-R", "18302:127.0.0.1:1", "root@127.0.0.1")
	r.eventually("ssh forwards", func() bool { return r.listens(18301) && r.listens(18302) })
	for port, word := range map[string]string{"18301": "ssh (", "18302": "sshd"} {
		if f := r.portdiag(nil, port).finding(t, "ssh_forward"); !strings.Contains(f.Summary, word) {
			t.Errorf("port %s: %+v", port, f)
		}
	}
	if res := r.portdiag(nil, "18300"); strings.Contains(res.output, "ssh_forward") {
		t.Errorf("the main process of sshd forwards nothing: %s", res.output)
	}
	r.freed(r.killport(nil, "18302"), "18302") // the remedy: it takes the session along
	r.eventually("the session has ended", func() bool { return !r.listens(18301) })
	if !r.listens(18300) {
		t.Error("sshd is gone")
	}
}

func TestPortdiagOfDocker(t *testing.T) {
	r := bootDocker(t)
	r.container(18080, []string{"--publish=127.0.0.1:18080:8000"}, "0.0.0.0:8000")
	res := r.portdiag(nil, "18080")
	f := res.finding(t, "container")
	if f.Evidence["name"] != "web" || !slices.Equal(f.Remedy.Command, []string{"docker", "stop", "web"}) {
		t.Errorf("%+v", f)
	}
	if got := res.finding(t, "listener").Remedy.Command; !slices.Equal(got, []string{"killport", "18080"}) {
		t.Errorf("the remedy for the listener is %q", got)
	}
	if strings.Contains(res.output, `"cause":"protected"`) {
		t.Errorf("protected, though there is a lever: %s", res.output)
	}
	inside := r.portdiag(nil, "8000").finding(t, "other_namespace")
	if inside.Evidence["container"] != "web" {
		t.Errorf("%+v", inside)
	}
	r.run(f.Remedy.Command...)
	if r.listens(18080) {
		t.Error("the remedy does not free the port")
	}
}

func TestPortdiagOfSystemd(t *testing.T) {
	r := bootSystemd(t)
	r.start("always.service", 18101)
	r.start("lazy.socket", 18103)
	for _, test := range []struct{ port, cause, name string }{
		{"18101", "unit", "always.service"},
		{"18103", "socket_unit", "lazy.socket"},
	} {
		res := r.portdiag(nil, test.port)
		f := res.finding(t, test.cause)
		if f.Evidence["name"] != test.name || f.Remedy == nil || strings.Contains(res.output, `"cause":"protected"`) {
			t.Errorf("%s", res.output)
			continue
		}
		why := res.Listeners[0].Why
		if last := why[len(why)-1]; last.Kind != "unit" {
			t.Errorf("the chain ends in %+v", last)
		}
		r.run(f.Remedy.Command...)
		if got := r.property(test.name, "ActiveState"); got != "inactive" {
			t.Errorf("%q leaves %s %s", f.Remedy.Command, test.name, got)
		}
	}
}
