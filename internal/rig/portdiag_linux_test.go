package rig

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/portdiag"
)

// report is what portdiag says of a port.
type report struct {
	portdiag.Report
	output string
}

// portdiag runs it inside; as is put before it.
func (r *rig) portdiag(as []string, args string) report {
	r.t.Helper()
	argv := slices.Concat(as, []string{r.tool("portdiag"), "--json"}, strings.Fields(args))
	return read(r.t, r.run(argv...))
}

func read(t *testing.T, out string) report {
	t.Helper()
	schematest.Validate(t, "portdiag", []byte(out))
	res := report{output: out}
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return res
}

func (res report) finds(cause portdiag.Cause) bool {
	return slices.ContainsFunc(res.Findings, func(f portdiag.Finding) bool { return f.Cause == cause })
}

// finding is the one of that cause.
func (res report) finding(t *testing.T, cause portdiag.Cause) portdiag.Finding {
	t.Helper()
	at := slices.IndexFunc(res.Findings, func(f portdiag.Finding) bool { return f.Cause == cause })
	if at < 0 {
		t.Fatalf("no finding of cause %q: %s", cause, res.output)
	}
	return res.Findings[at]
}

// background starts a command that ends with the rig.
func (r *rig) background(argv ...string) {
	r.t.Helper()
	cmd := r.command(argv...)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// zoo plays a mode that ends with the rig.
func (r *rig) zoo(args ...string) {
	r.t.Helper()
	r.background(slices.Concat([]string{"/run/rig/zoo", args[0], "--life=5m"}, args[1:])...)
}

// A plight is a port of which portdiag finds a cause, and how it comes to that.
type plight struct {
	cause   portdiag.Cause
	port    string   // with flags
	as      []string // who asks. Root does what helps
	arrange func(r *rig)
	check   func(r *rig, res report, f portdiag.Finding) // what portdiag says
	helped  func(r *rig, p plight, said string)          // nil: cured
	host    bool                                         // the rig is to be taken for the host
}

// test has portdiag find the cause, runs exactly what it says that helps, as a
// person pastes it, and sees whether that does.
func (p plight) test(t *testing.T, r *rig) {
	in := &rig{t: t, init: r.init, log: r.log}
	if p.host {
		in = in.asHost()
	}
	p.arrange(in)
	var res report
	in.eventually("portdiag finds it", func() bool {
		res = in.portdiag(p.as, p.port)
		return res.finds(p.cause)
	})
	t.Logf("portdiag %s: %s", p.port, res.output)
	f := res.finding(t, p.cause)
	if f.Remedy == nil {
		t.Fatal("it knows nothing that helps")
	}
	if p.check != nil {
		p.check(in, res, f)
	}
	said := in.run("sh", "-c", shell.Join(f.Remedy.Command...))
	if p.helped == nil {
		p.helped = cured
	}
	p.helped(in, p, said)
}

// cured: the cause is gone, and the port can be had.
func cured(r *rig, p plight, _ string) {
	r.t.Helper()
	r.eventually("the port can be had", func() bool {
		res := r.portdiag(p.as, p.port)
		return res.Verdict == "free" && !res.finds(p.cause)
	})
}

var nobody = []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}

// houses are rigs, and the plights that are arranged in each, one after the
// other.
var houses = map[string]struct {
	boot    func(t *testing.T) *rig
	plights []plight
}{
	"plain":   {bootPlain, slices.Concat(holders, besides)},
	"waiting": {bootPlain, []plight{timeWait}},
	"ssh":     {bootSSH, forwards},
	"systemd": {bootSystemd, units},
	"docker":  {func(t *testing.T) *rig { return bootDocker(t) }, containers},
}

func TestRemedies(t *testing.T) {
	for name, house := range houses {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // one of them takes a minute
			r := house.boot(t)
			for _, p := range house.plights {
				t.Run(string(p.cause)+" "+p.port, func(t *testing.T) { p.test(t, r) })
			}
		})
	}
}

// Every cause that there is on Linux has a remedy, and a test of it, but for one.
func TestRemediesAreTested(t *testing.T) {
	tested := map[portdiag.Cause]bool{portdiag.CauseAbsent: true} // of internal/suite: it has none
	for _, house := range houses {
		for _, p := range house.plights {
			tested[p.cause] = true
		}
	}
	for _, about := range portdiag.Causes {
		if onLinux := !strings.HasPrefix(about.Looks, "Windows:"); tested[about.Cause] != onLinux {
			t.Errorf("%s: tested: %v; a cause on Linux: %v", about.Cause, tested[about.Cause], onLinux)
		}
	}
}

func bootPlain(t *testing.T) *rig {
	return boot(t, []string{"iptables", "iptables-save", "nft", "sysctl"}, "plain.sh")
}

// holders are plights by who has the port.
var holders = []plight{
	{
		cause: portdiag.CauseListener, port: "18401",
		arrange: func(r *rig) { r.zoo("serve", "127.0.0.1:18401") },
	},
	{
		cause: portdiag.CauseProtected, port: "18402",
		arrange: func(r *rig) {
			r.run("cp", "/run/rig/zoo", "/run/containerd") // serves many, by its name
			r.background("/run/containerd", "serve", "--life=5m", "127.0.0.1:18402")
		},
		check: func(r *rig, _ report, _ portdiag.Finding) {
			if res := r.killport(nil, "18402"); res.exit != 1 || res.port.Reason != "shared" {
				r.t.Errorf("it is not protected: %s", res.output)
			}
		},
	},
	{
		cause: portdiag.CauseHidden, port: "18403", as: nobody,
		arrange: func(r *rig) { r.zoo("serve", "127.0.0.1:18403") },
		helped: func(r *rig, p plight, said string) {
			if res := read(r.t, said); res.finds(p.cause) || res.finding(r.t, portdiag.CauseListener).Evidence["name"] != "zoo" {
				r.t.Errorf("root sees no more: %s", said)
			}
		},
	},
	{
		cause: portdiag.CauseGhost, port: "18404", host: true,
		arrange: func(r *rig) { r.zoo("scm", "127.0.0.1:18404") },
	},
	{
		cause: portdiag.CauseKernel, port: "--udp 4789",
		arrange: func(r *rig) {
			if out, err := r.command("ip", "link", "add", "x0", "type", "vxlan", "id", "5", "dstport", "4789").CombinedOutput(); err != nil {
				r.t.Skipf("no vxlan: %v: %s", err, out)
			}
			r.run("ip", "link", "set", "x0", "up")
		},
		check: func(r *rig, _ report, _ portdiag.Finding) {
			// From inside of a PID namespace somebody else may have it, too.
			if res := r.killport(nil, "--udp", "--close-ghosts", "--override", "4789"); res.exit != 1 || res.port.Reason != "hidden" {
				r.t.Errorf("killport: exit %d: %s", res.exit, res.output)
			}
			r = r.asHost()
			for _, args := range []string{"--udp 4789", "--udp --close-ghosts --override 4789"} {
				if res := r.killport(nil, strings.Fields(args)...); res.exit != 1 || res.port.Status != "ghost" || len(res.port.Killed) > 0 ||
					!strings.Contains(res.output, `"cause":"kernel"`) {
					r.t.Errorf("killport %s: exit %d: %s", args, res.exit, res.output)
				}
			}
		},
	},
	{
		cause: portdiag.CauseKernel, port: "18425",
		arrange: func(r *rig) {
			r.run("ip", "address", "add", "10.66.0.1/32", "dev", "lo")
			if out, err := r.command("ip", "mptcp", "endpoint", "add", "10.66.0.1", "port", "18425", "signal").CombinedOutput(); err != nil {
				r.t.Skipf("no MPTCP: %v: %s", err, out)
			}
		},
	},
	{
		cause: portdiag.CauseSupervisor, port: "18405",
		arrange: func(r *rig) {
			// A shell called nodemon, as far as anybody can tell, which ends its server as nodemon does.
			r.background("bash", "-c", `exec -a nodemon bash -c '/run/rig/zoo serve --life=5m 127.0.0.1:18405 & trap "kill $!" TERM; wait'`)
		},
		check: func(r *rig, res report, f portdiag.Finding) {
			var kinds []string
			for _, link := range res.Listeners[0].Why {
				kinds = append(kinds, string(link.Kind)+" "+link.Name)
			}
			if want := []string{"socket 127.0.0.1:18405", "process zoo", "process bash"}; len(kinds) < 3 || !slices.Equal(kinds[:3], want) {
				r.t.Errorf("the chain is %q; want %q first", kinds, want)
			}
			if f.Evidence["name"] != "nodemon" {
				r.t.Errorf("%+v", f)
			}
		},
	},
}

// besides are plights of ports on which nobody listens.
var besides = []plight{
	{
		cause: portdiag.CauseBound, port: "18406",
		arrange: func(r *rig) { r.zoo("bound", "127.0.0.1:18406") },
	},
	{
		cause: portdiag.CauseConnection, port: "18407",
		arrange: func(r *rig) { r.zoo("connected", "127.0.0.1:18407") },
		helped: func(r *rig, p plight, _ string) {
			r.eventually("the connection has ended", func() bool {
				res := r.portdiag(p.as, p.port)
				return !res.finds(p.cause) && res.finding(r.t, portdiag.CauseTimeWait).Severity == portdiag.Error
			})
		},
	},
	{
		cause: portdiag.CauseEphemeral, port: "20001",
		arrange: func(r *rig) {
			r.run("sysctl", "-q", "net.ipv4.ip_local_port_range=20000 60000", "net.ipv4.ip_local_reserved_ports=20003")
			r.zoo("bound", "127.0.0.1:20001")
		},
		helped: func(r *rig, _ plight, _ string) { r.reserved("20001,20003") },
	},
	{
		cause: portdiag.CauseReserved, port: "18409",
		arrange: func(r *rig) { r.run("sysctl", "-q", "net.ipv4.ip_local_reserved_ports=18408-18411") },
		helped: func(r *rig, p plight, said string) {
			cured(r, p, said)
			r.reserved("18408,18410-18411")
		},
	},
	{
		cause: portdiag.CausePrivileged, port: "81", as: nobody,
		arrange: func(*rig) {},
	},
	{
		cause: portdiag.CauseNamespace, port: "18412",
		arrange: func(r *rig) {
			r.background("unshare", "--net", "--kill-child", "--fork", "sh", "-c", "ip link set lo up; exec /run/rig/zoo serve --life=5m 127.0.0.1:18412")
		},
		check: func(r *rig, res report, f portdiag.Finding) {
			if res.Verdict != "free" || f.Severity != "info" || f.Evidence["name"] != "zoo" {
				r.t.Errorf("%s", res.output)
			}
		},
	},
	{
		cause: portdiag.CauseDNAT, port: "18413",
		arrange: func(r *rig) {
			r.run("iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "18413", "-m", "comment", "--comment", `it's "mine"; touch /run/PWNED`, "-j", "REDIRECT", "--to-ports", "18414")
		},
		check: redirects,
	},
	{
		cause: portdiag.CauseDNAT, port: "18415",
		arrange: func(r *rig) {
			r.run("nft", "add table ip mine; add set ip mine ports { type inet_service; elements = { 18415, 18417 }; }; add chain ip mine away; add rule ip mine away meta l4proto tcp redirect to :18414; add chain ip mine out { type nat hook output priority -100; }; add rule ip mine out tcp dport @ports jump away")
		},
		check: redirects,
	},
}

// redirects: one rule does, to 18414, and none does so for another port.
func redirects(r *rig, res report, f portdiag.Finding) {
	if res.Verdict != "free" || f.Severity != "warning" || !strings.Contains(f.Summary, ":18414") || len(f.Evidence["rules"].([]any)) != 1 {
		r.t.Errorf("%s", res.output)
	}
	if res := r.portdiag(nil, "18416"); len(res.Findings) != 0 {
		r.t.Errorf("another port has findings: %s", res.output)
	}
}

// reserved fails the test unless these ports are.
func (r *rig) reserved(want string) {
	r.t.Helper()
	if got := r.run("sysctl", "-n", "net.ipv4.ip_local_reserved_ports"); got != want {
		r.t.Errorf("the remedy leaves %q reserved; want %q", got, want)
	}
}

// timeWait is over when its remedy is, and not later.
var timeWait = plight{
	cause: portdiag.CauseTimeWait, port: "18417",
	arrange: func(r *rig) { r.run("/run/rig/zoo", "timewait", "127.0.0.1:18417") },
	helped: func(r *rig, p plight, _ string) {
		if res := r.portdiag(p.as, p.port); res.finds(p.cause) {
			r.t.Errorf("there are connections still: %s", res.output)
		}
	},
}

// bootSSH starts an sshd.
func bootSSH(t *testing.T) *rig {
	t.Helper()
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
	return r
}

// forwards: the port of ssh -L is held by ssh, and that of ssh -R by a session
// of sshd. Either takes the whole connection along.
var forwards = []plight{forwarding("18301", "-L", "ssh ("), forwarding("18302", "-R", "sshd")}

func forwarding(port, flag, holder string) plight {
	return plight{
		cause: portdiag.CauseSSHForward, port: port,
		arrange: func(r *rig) {
			r.background("ssh", "-N", "-F", "/dev/null", "-i", "/run/mine", "-p", "18300", "-o", "StrictHostKeyChecking=no",
				"-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", flag, port+":127.0.0.1:1", "root@127.0.0.1")
		},
		check: func(r *rig, _ report, f portdiag.Finding) {
			if !strings.Contains(f.Summary, holder) {
				r.t.Errorf("%+v", f)
			}
		},
		helped: func(r *rig, p plight, said string) {
			cured(r, p, said)
			if res := r.portdiag(nil, "18300"); res.Verdict != "held" || res.finds(p.cause) {
				r.t.Errorf("the main process of sshd is gone, or forwards: %s", res.output)
			}
		},
	}
}

var units = []plight{
	unit(portdiag.CauseUnit, "18101", "always.service"),
	unit(portdiag.CauseSocketUnit, "18103", "lazy.socket"),
	{
		cause: portdiag.CauseBound, port: "18121",
		arrange: func(r *rig) { r.run("systemctl", "start", "bound.service") },
		check:   stops("killport", "18121"),
	},
}

// stops: what manages the holder is stopped, which is not signalled.
func stops(want ...string) func(*rig, report, portdiag.Finding) {
	return func(r *rig, _ report, f portdiag.Finding) {
		r.t.Helper()
		if f.Remedy == nil || !slices.Equal(f.Remedy.Command, want) {
			r.t.Errorf("the remedy is %+v; want %q", f.Remedy, want)
		}
	}
}

func unit(cause portdiag.Cause, port, name string) plight {
	return plight{
		cause: cause, port: port,
		arrange: func(r *rig) { r.run("systemctl", "start", name) },
		check: func(r *rig, res report, f portdiag.Finding) {
			if f.Evidence["name"] != name || res.finds(portdiag.CauseProtected) {
				r.t.Errorf("%s", res.output)
			}
			why := res.Listeners[0].Why
			if last := why[len(why)-1]; last.Kind != portdiag.LinkUnit {
				r.t.Errorf("the chain ends in %+v", last)
			}
		},
		helped: func(r *rig, p plight, said string) {
			cured(r, p, said)
			if got := r.property(name, "ActiveState"); got != "inactive" {
				r.t.Errorf("%s is %s", name, got)
			}
		},
	}
}

// containers are plights by one container, seen from outside and by its port
// inside.
var containers = []plight{
	{
		cause: portdiag.CauseContainer, port: "18080",
		arrange: func(r *rig) { r.container(18080, []string{"--publish=127.0.0.1:18080:8000"}, "0.0.0.0:8000") },
		check: func(r *rig, res report, f portdiag.Finding) {
			if f.Evidence["name"] != "web" || !slices.Equal(f.Remedy.Command, []string{"docker", "stop", "web"}) {
				r.t.Errorf("%+v", f)
			}
			if got := res.finding(r.t, portdiag.CauseListener).Remedy.Command; !slices.Equal(got, []string{"killport", "18080"}) {
				r.t.Errorf("the remedy for the listener is %q", got)
			}
			if res.finds(portdiag.CauseProtected) {
				r.t.Errorf("protected, though there is a lever: %s", res.output)
			}
		},
	},
	{
		cause: portdiag.CauseNamespace, port: "8000",
		arrange: func(r *rig) { r.run("docker", "start", "web") },
		check: func(r *rig, _ report, f portdiag.Finding) {
			if f.Evidence["container"] != "web" {
				r.t.Errorf("%+v", f)
			}
		},
	},
	{
		cause: portdiag.CauseBound, port: "18082",
		arrange: func(r *rig) {
			r.run("docker", "run", "--detach", "--rm", "--name=bound", "--network=host", "zoo", "/zoo", "bound", "--life=5m", "127.0.0.1:18082")
		},
		check: stops("killport", "18082"),
	},
	{
		cause: portdiag.CauseConnection, port: "18083",
		arrange: func(r *rig) {
			r.run("docker", "run", "--detach", "--rm", "--name=client", "--network=host", "zoo", "/zoo", "client", "--life=5m", "--local-port=18083")
		},
		check: stops("docker", "stop", "client"),
		helped: func(r *rig, p plight, _ string) {
			r.eventually("the connection has ended", func() bool { return !r.portdiag(p.as, p.port).finds(p.cause) })
		},
	},
}
