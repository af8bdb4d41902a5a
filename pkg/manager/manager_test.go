package manager

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

var id = strings.Repeat("0123456789abcdef", 4)

func TestContainerOfCgroup(t *testing.T) {
	for _, test := range []struct{ name, cgroup, engine string }{
		{"docker, v2, systemd", "0::/system.slice/docker-" + id + ".scope\n", "docker"},
		{"docker, v2, own cgroups", "0::/docker/" + id + "\n", "docker"},
		{"docker, v1", "5:memory:/docker/" + id + "\n4:cpu:/docker/" + id + "\n", "docker"},
		{"docker, hybrid, something below", "1:name=systemd:/docker/" + id + "/init.scope\n0::/\n", "docker"},
		{"docker, from another cgroup namespace", "0::/../../docker/" + id + "\n", "docker"},
		{"docker, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id + ".scope\n", "docker"},
		{"docker under a parent of the user's", "0::/mine/" + id + "\n", ""},
		{"podman", "0::/machine.slice/libpod-" + id + ".scope/container\n", "podman"},
		{"podman's conmon, which has the published ports", "0::/machine.slice/libpod-conmon-" + id + ".scope\n", "podman"},
		{"podman, in a service", "0::/system.slice/web.service/libpod-payload-" + id + "\n", "podman"},
		{"podman, own cgroups", "0::/libpod_parent/libpod-" + id + "\n", "podman"},
		{"nerdctl", "0::/system.slice/nerdctl-" + id + ".scope\n", "nerdctl"},
		{"nerdctl, own cgroups", "0::/default/" + id + "\n", ""},
		{"a kubelet's", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + id + ".scope\n", "kubernetes"},
		{"a kubelet's, own cgroups", "0::/kubepods/burstable/pod1-2-3/" + id + "\n", "kubernetes"},
	} {
		got, ok := parseCgroups([]byte(test.cgroup)).container(cgroups{})
		if !ok || got.id != id || got.engine != test.engine {
			t.Errorf("%s: container(%q) = %v, %v; want %s of %q", test.name, test.cgroup, got, ok, id, test.engine)
		}
		ours := parseCgroups([]byte(test.cgroup))
		if got, ok := parseCgroups([]byte(test.cgroup)).container(ours); ok {
			t.Errorf("%s: container(%q) = %v, and it is ours too", test.name, test.cgroup, got)
		}
	}
	for _, cgroup := range []string{
		"", "0::/\n", "0::/user.slice/user-1000.slice/session-2.scope\n", "0::/system.slice/docker.service\n",
		"0::/docker/buildkit\n", "0::/system.slice/docker-" + id[1:] + ".scope\n", "0::/docker/" + strings.ToUpper(id) + "\n",
		"nonsense", "0:/docker/" + id, "0::docker/" + id,
	} {
		if got, ok := parseCgroups([]byte(cgroup)).container(cgroups{}); ok {
			t.Errorf("container(%q) = %v; want none", cgroup, got)
		}
	}
}

func TestMachineOfCgroup(t *testing.T) {
	for _, test := range []struct{ cgroup, engine, name string }{
		{`0::/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service`, "systemd-nspawn", "web"},
		{`1:name=systemd:/machine.slice/systemd-nspawn@my\x2dweb.service`, "systemd-nspawn", "my-web"},
		{`0::/machine.slice/machine-web.scope/payload`, "systemd-nspawn", "web"},
		{`0::/machine.slice/machine-my\x2dweb.scope`, "systemd-nspawn", "my-web"},
		{`0::/machine.slice/machine-lxc\x2d1234\x2dweb.scope/libvirt`, "libvirt-lxc", "lxc-1234-web"},
		{`0::/lxc.payload.web/system.slice/nginx.service`, "lxc", "web"},
		{`4:memory:/lxc.payload.web` + "\n0::/", "lxc", "web"},
	} {
		got, ok := parseCgroups([]byte(test.cgroup)).container(cgroups{})
		if !ok || got.engine != test.engine || got.name != test.name || got.id != "" {
			t.Errorf("container(%q) = %+v, %v; want %s of %q", test.cgroup, got, ok, test.name, test.engine)
		}
		m := machine(got)
		if m.Halts() || !m.Spared() || m.Reason == "" || m.Stop[len(m.Stop)-1] != test.name || (m.Stop[0] == "lxc-stop") != (test.engine == "lxc") {
			t.Errorf("machine(%+v) = %+v", got, m)
		}
		ours := parseCgroups([]byte(test.cgroup))
		if got, ok := ours.container(ours); ok {
			t.Errorf("container(%q) = %v, and it is ours too", test.cgroup, got)
		}
	}
	for _, cgroup := range []string{
		`0::/machine.slice/machine-qemu\x2d1\x2dweb.scope/emulator`, `0::/system.slice/machine-web.scope`, `0::/machine.slice/web.service`,
		`0::/machine.slice/machine-.scope`, `0::/machine.slice/machine-web.service`, `0::/lxc.monitor.web`, `0::/lxc.payload.`, `0::/lxc.payload`,
		`0::/lxc.payload.$(reboot)`, `0::/lxc.payload.-x`, `0::/machine.slice/machine-\x2dx.scope`, `0::/machine.slice/systemd-nspawn@a\x3bb.service`,
	} {
		if got, ok := parseCgroups([]byte(cgroup)).container(cgroups{}); ok {
			t.Errorf("container(%q) = %+v; want none", cgroup, got)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{"": "", "web": "web", `a\x2db\x2d`: "a-b-", `\x`: `\x`, `\x2`: `\x2`, `\xzz2d`: `\xzz2d`, `\x5cx2d`: `\x2d`} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q; want %q", in, got, want)
		}
	}
}

// A container in ours: the inner one is what is to be stopped.
func TestContainerInContainer(t *testing.T) {
	inner := strings.Repeat("f", 64)
	ours := parseCgroups([]byte("0::/docker/" + id + "\n"))
	got, ok := parseCgroups([]byte("0::/docker/" + id + "/docker/" + inner + "\n")).container(ours)
	if !ok || got.id != inner {
		t.Errorf("container() = %v, %v; want %s", got, ok, inner)
	}
	outer, ok := parseCgroups([]byte("0::/docker/" + id + "/docker/" + inner + "\n")).container(cgroups{})
	if !ok || outer.id != id {
		t.Errorf("container() = %v, %v; want %s", outer, ok, id)
	}
}

func TestUnitOfCgroup(t *testing.T) {
	for _, test := range []struct {
		cgroup string
		want   unit
		ok     bool
	}{
		{"0::/system.slice/web.service\n", unit{name: "web.service", group: "/system.slice/web.service"}, true},
		{"0::/system.slice/system-web.slice/web@1.service/below/it\n", unit{name: "web@1.service", group: "/system.slice/system-web.slice/web@1.service"}, true},
		{"1:name=systemd:/system.slice/web.service\n0::/\n", unit{name: "web.service", group: "/system.slice/web.service"}, true},
		{"0::/system.slice/v2.service\n1:name=systemd:/system.slice/v1.service\n", unit{name: "v1.service", group: "/system.slice/v1.service"}, true},
		{"0::/user.slice/user-1000.slice/session-2.scope\n", unit{name: "session-2.scope", group: "/user.slice/user-1000.slice/session-2.scope"}, true},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/dev.service\n", unit{name: "dev.service", user: true, uid: 1000, group: "/user.slice/user-1000.slice/user@1000.service/app.slice/dev.service"}, true},
		{"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", unit{name: "init.scope", user: true, uid: 1000, group: "/user.slice/user-1000.slice/user@1000.service/init.scope"}, true},
		{"0::/user.slice/user-1000.slice/user@1000.service\n", unit{name: "user@1000.service", group: "/user.slice/user-1000.slice/user@1000.service"}, true},
		{"0::/init.scope\n", unit{name: "init.scope", group: "/init.scope"}, true},
		{"0::/system.slice/_tasks.service\n", unit{name: "tasks.service", group: "/system.slice/_tasks.service"}, true},
		{"0::/\n", unit{}, false},
		{"0::/system.slice\n", unit{}, false},
		{"0::/mine/web.service\n", unit{}, false},
		{"4:memory:/system.slice/web.service\n", unit{}, false},
	} {
		got, ok := parseCgroups([]byte(test.cgroup)).unit()
		if ok != test.ok || ok && got != test.want {
			t.Errorf("unit(%q) = %+v, %v; want %+v, %v", test.cgroup, got, ok, test.want, test.ok)
		}
	}
}

func TestUnitBelowPID1(t *testing.T) {
	for _, test := range []struct{ first, cgroup, unit string }{
		{"0::/init.scope", "0::/system.slice/web.service", "web.service"},
		{"0::/docker/" + id + "/init.scope", "0::/docker/" + id + "/system.slice/web.service", "web.service"},
		{"0::/docker/" + id + "/init.scope", "0::/docker/" + id + "/init.scope", "init.scope"},
		{"1:name=systemd:/lxc/a/init.scope\n0::/", "1:name=systemd:/lxc/a/system.slice/web.service\n0::/", "web.service"},
		{"0::/lxc/a/init.scope", "0::/lxc/ab/system.slice/web.service", ""},
		{"0::/docker/" + id, "0::/docker/" + id, ""},
		{"0::/", "0::/system.slice/web.service", "web.service"},
		{"", "0::/system.slice/web.service", "web.service"},
	} {
		c := parseCgroups([]byte(test.cgroup)).below(parseCgroups([]byte(test.first)))
		if u, _ := c.unit(); u.name != test.unit {
			t.Errorf("%q below %q is of the unit %q; want %q", test.cgroup, test.first, u.name, test.unit)
		}
	}
}

func FuzzCgroups(f *testing.F) {
	f.Add([]byte("0::/system.slice/docker-" + id + ".scope\n1:name=systemd:/user.slice/user@1.service/x.service"))
	f.Add([]byte("0::/" + id + "//\n:::\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := parseCgroups(b)
		if found, ok := c.container(cgroups{}); ok && (len(found.id) != 64 && (found.id != "" || found.name == "") || !strings.HasPrefix(found.group.path, "/")) {
			t.Errorf("container(%q) = %+v", b, found)
		}
		if u, ok := c.unit(); ok && u.name == "" {
			t.Errorf("unit(%q) = %+v", b, u)
		}
	})
}

func TestProxy(t *testing.T) {
	argv := strings.Fields("/usr/sbin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80 -use-listen-fd")
	if got, want := parseProxy(argv), netip.MustParseAddrPort("172.17.0.2:80"); got != want {
		t.Errorf("parseProxy() = %v; want %v", got, want)
	}
	for _, argv := range []string{"", "docker-proxy", "docker-proxy -container-ip", "docker-proxy -container-ip x -container-port 80", "docker-proxy -container-ip ::1 -container-port 65536"} {
		if got := parseProxy(strings.Fields(argv)); got.IsValid() {
			t.Errorf("parseProxy(%q) = %v; want none", argv, got)
		}
	}
}

func TestConmon(t *testing.T) {
	for _, test := range []struct {
		exe, args string
		ok        bool
	}{
		{"/usr/bin/conmon", "conmon --api-version 1 -c " + id + " -u " + id + " -r /usr/bin/crun", true},
		{"/usr/bin/sleep", "conmon -c " + id, false},
		{"/usr/bin/conmon", "conmon --version", false},
		{"/usr/bin/conmon", "conmon -c", false},
		{"/usr/bin/conmon", "conmon -c --all", false},
	} {
		got, ok := parseConmon(process.Info{Exe: test.exe, Argv: strings.Fields(test.args)})
		if ok != test.ok || ok && got != id {
			t.Errorf("parseConmon(%s, %q) = %q, %v; want %v", test.exe, test.args, got, ok, test.ok)
		}
	}
}

func TestPublication(t *testing.T) {
	var c inspection
	c.NetworkSettings.Ports = map[string][]binding{
		"80/tcp": {{HostIP: "127.0.0.1", HostPort: "8080"}, {HostIP: "::", HostPort: "8081"}},
		"80/udp": {{HostIP: "", HostPort: "8082"}},
		"82/tcp": {{HostIP: "0.0.0.0", HostPort: "8083"}, {HostIP: "everywhere", HostPort: "8084"}, {HostIP: "0.0.0.0", HostPort: "08085x"}},
		"81/tcp": nil,
	}
	c.NetworkSettings.IPAddress = "172.17.0.2"
	for _, test := range []struct {
		proto     listeners.Proto
		addr      string
		port      uint16
		container string
		want      bool
	}{
		{listeners.TCP, "127.0.0.1", 8080, "172.17.0.2:80", true},
		{listeners.TCP, "127.0.0.1", 8080, "172.17.0.3:80", false},
		{listeners.TCP, "127.0.0.1", 8080, "172.17.0.2:81", false},
		{listeners.TCP, "127.0.0.1", 8080, "", true},
		{listeners.TCP, "127.0.0.2", 8080, "", false},
		{listeners.TCP, "0.0.0.0", 8080, "", true},
		{listeners.TCP, "[::]", 8081, "", true},
		{listeners.TCP, "127.0.0.1", 8082, "", false},
		{listeners.UDP, "127.0.0.1", 8082, "", true},
		{listeners.TCP, "127.0.0.1", 80, "", false},
		{listeners.TCP, "127.0.0.3", 8083, "", true},
		{listeners.TCP, "[::]", 8083, "", true},
		{listeners.TCP, "[::1]", 8083, "", false}, // another may have it
		{listeners.TCP, "127.0.0.1", 8081, "", false},
		{listeners.UDP, "[::1]", 8082, "", true},
		{listeners.TCP, "localhost", 8083, "", false}, // what cannot be read is nowhere
		{listeners.TCP, "", 8083, "", false},
		{listeners.TCP, "127.0.0.1", 8084, "", false},
		{listeners.TCP, "127.0.0.1", 8085, "", false},
	} {
		p := publication{listener: listeners.Listener{Proto: test.proto, LocalAddr: test.addr, LocalPort: test.port}}
		if test.container != "" {
			p.container = netip.MustParseAddrPort(test.container)
		}
		if got := p.isOf(c); got != test.want {
			t.Errorf("isOf(%+v) = %v; want %v", test, got, test.want)
		}
	}
}

// What a swarm runs it would run again.
func TestManagerOfSwarm(t *testing.T) {
	for _, test := range []struct{ service, task, stop string }{
		{"", "", "docker stop web"},
		{"shop", "shop.1.w4v9", "docker service scale shop=0"},
		{"shop.1", "shop.1.2.w4v9", "docker service scale shop.1=0"},
		{"shop", "shop.glfbr4kng6ymoefta4pbp3luw.w4v9", ""},
		{"shop", "", ""},
		{"$(reboot)", "$(reboot).1.w4v9", ""},
	} {
		c := inspection{ID: id, Name: "/web"}
		c.Config.Labels = map[string]string{"com.docker.swarm.service.name": test.service, "com.docker.swarm.task.name": test.task}
		m := engine{name: docker}.manager(c)
		swarm := test.service != ""
		if got := strings.Join(m.Stop, " "); got != test.stop || m.Halts() == swarm || m.Spared() != swarm || m.Reason == "" == swarm {
			t.Errorf("manager(%+v) = %+v; want %q", test, m, test.stop)
		}
	}
}

// A cgroup that is not at the top may have been given any name: of what bears it
// nothing is said to be stopped.
func TestNestedMachine(t *testing.T) {
	for _, cgroup := range []string{
		"0::/system.slice/bob.service/machine.slice/machine-web.scope", "0::/system.slice/bob.service/lxc.payload.web",
		"0::/user.slice/machine.slice/systemd-nspawn@web.service", "0::/user.slice/user-1000.slice/session-2.scope/lxc.payload.web/init.scope",
	} {
		c, ok := parseCgroups([]byte(cgroup)).container(cgroups{})
		if m := machine(c); !ok || m.Stop != nil || m.Halts() || !m.Spared() || m.Control() != Unstoppable {
			t.Errorf("machine(%+v) = %+v, of %s", c, m, cgroup)
		}
	}
	below := parseCgroups([]byte("0::/lxc/a/machine.slice/machine-web.scope")).below(parseCgroups([]byte("0::/lxc/a/init.scope")))
	if c, ok := below.container(cgroups{}); !ok || c.nested {
		t.Errorf("container() = %+v, %v, in the machine.slice of PID 1", c, ok)
	}
}

func TestListens(t *testing.T) {
	var c inspection
	c.NetworkSettings.Ports = map[string][]binding{
		"80/tcp":  {{HostIP: "0.0.0.0", HostPort: "8001"}, {HostIP: "::", HostPort: "8001"}, {HostIP: "", HostPort: "8001"}},
		"53/udp":  {{HostIP: "::1", HostPort: "53"}},
		"54/sctp": {{HostIP: "::1", HostPort: "54"}},
		"81/tcp":  nil,
		"82/tcp":  {{HostIP: "everywhere", HostPort: "8002"}, {HostIP: "0.0.0.0", HostPort: "0"}, {HostIP: "0.0.0.0", HostPort: "x\n"}},
	}
	want := []string{"TCP 0.0.0.0:8001", "TCP [::]:8001", "UDP [::1]:53"}
	if got := (engine{name: docker}).manager(c).Listens; !slices.Equal(got, want) {
		t.Errorf("the container listens at %q; want %q", got, want)
	}
	for port := range 1000 {
		c.NetworkSettings.Ports["80/tcp"] = append(c.NetworkSettings.Ports["80/tcp"], binding{HostPort: strconv.Itoa(port)})
	}
	if got := c.listens(); len(got) != maxListens {
		t.Errorf("%d addresses are said; want %d", len(got), maxListens)
	}
	p := properties{"Listen": {"[fe80::1]:8003%d0 (Stream)", "[::]:8002 (Stream)", "127.0.0.1:8000 (Stream)", "127.0.0.1:53 (Datagram)", "/run/a b=c (Stream)", "1 (Netlink)", "1.2.3.4:9 (SequentialPacket)"}}
	if got, want := p.listens(), []string{"TCP 127.0.0.1:8000", "TCP [::]:8002", "TCP [fe80::1%d0]:8003", "UDP 127.0.0.1:53"}; !slices.Equal(got, want) {
		t.Errorf("the socket unit listens at %q; want %q", got, want)
	}
}

func TestProperties(t *testing.T) {
	all := parseProperties([]byte("Id=a.socket\nListen=127.0.0.1:8000 (Stream)\nListen=[::]:8001 (Datagram)\nListen=/run/a b=c (Stream)\nTriggers=a.service\n\nId=b.socket\nListen=[::]:8002 (Stream)\nListen=[fe80::1]:8003%d0 (Stream)\nMainPID=12\n"))
	if len(all) != 2 || all[0].text("Id") != "a.socket" || all[1].number("MainPID") != 12 || all[1].text("Triggers") != "" {
		t.Fatalf("parseProperties() = %v", all)
	}
	at := func(proto listeners.Proto, addr string, port uint16) listeners.Listener {
		return listeners.Listener{Proto: proto, LocalAddr: addr, LocalPort: port}
	}
	for _, test := range []struct {
		l    listeners.Listener
		want []bool
	}{
		{at(listeners.TCP, "127.0.0.1", 8000), []bool{true, false}},
		{at(listeners.TCP, "0.0.0.0", 8000), []bool{false, false}},
		{at(listeners.UDP, "127.0.0.1", 8000), []bool{false, false}},
		{at(listeners.UDP, "[::]", 8001), []bool{true, false}},
		{at(listeners.TCP, "[::]", 8002), []bool{false, true}},
		{at(listeners.TCP, "[fe80::1%d0]", 8003), []bool{false, true}},
		{at(listeners.TCP, "[fe80::1%d1]", 8003), []bool{false, false}},
		{at(listeners.TCP, "[fe80::1]", 8003), []bool{false, false}},
	} {
		got := []bool{all[0].listensAt(test.l), all[1].listensAt(test.l)}
		if !slices.Equal(got, test.want) {
			t.Errorf("listensAt(%+v) = %v; want %v", test.l, got, test.want)
		}
	}
}

// What would start the holder again is stopped; a unit in which a holder only
// happens to be is not.
func TestService(t *testing.T) {
	for _, test := range []struct {
		unit, restart string
		stands        standing
		want          string
	}{
		{"web.service", "always", leader, "stop"},
		{"web.service", "no", leader, "stop"},
		{"web.service", "always", worker, "stop"},
		{"web.service", "no", worker, "plain"},
		{"web.service", "always", stray, "plain"},
		{"ssh.service", "on-failure", leader, "leave"},
		{"ssh.service", "on-failure", worker, "plain"},
		{"sshd@1.service", "always", worker, "plain"},
		{"dbus-broker.service", "no", leader, "leave"},
		{"systemd-resolved.service", "always", leader, "leave"},
		{"user@1000.service", "no", leader, "leave"},
		{"getty@tty1.service", "always", worker, "plain"},
		{"docker.service", "always", leader, "leave"},
		{"containerd.service", "always", worker, "plain"},
		{"app-code@1234.service", "no", leader, "leave"},
		{"actions.runner.me-it.host.service", "always", worker, "plain"},
		{"jenkins.service", "on-failure", leader, "stop"},
		{"jenkins.service", "on-failure", worker, "plain"},
		{"code-server@ann.service", "always", worker, "plain"},
		{"cron.service", "on-failure", worker, "plain"},
		{"pm2-ann.service", "on-failure", worker, "plain"},
		{"docker-compose-shop.service", "always", leader, "stop"},
	} {
		m := bus{}.service(t.Context(), properties{"Id": {test.unit}, "Restart": {test.restart}, "KillMode": {"control-group"}}, test.stands)
		got := "plain"
		switch {
		case m != nil && m.Halts():
			got = "stop"
		case m != nil:
			got = "leave"
		}
		if got != test.want {
			t.Errorf("service(%s, Restart=%s, %v) = %s; want %s", test.unit, test.restart, test.stands, got, test.want)
		}
	}
}

// Without these the system, its network or its logins are gone, or more than a port.
func TestNeverStop(t *testing.T) {
	for _, unit := range []string{
		"xrdp.service", "xrdp-sesman.service", "tailscaled.service", "wg-quick@wg0.service", "openvpn.service", "openvpn-server@a.service",
		"sssd.service", "sssd-nss.service", "nslcd.service", "slapd.service", "krb5-kdc.service", "dnsmasq.service", "dnsmasq@lan.service",
		"named.service", "unbound.service", "rpcbind.service", "iscsid.service", "multipathd.service", "firewalld.service",
		"qemu-guest-agent.service", "walinuxagent.service", "google-guest-agent.service", "amazon-ssm-agent.service",
		"snap.amazon-ssm-agent.amazon-ssm-agent.service", "teleport.service", "lxd.service", "snap.lxd.daemon.service", "incus.service",
		"nomad.service", "slurmd.service", "slurmctld.service", "rke2-server.service", "snap.microk8s.daemon-kubelite.service",
		"home.mount", "dev-sda2.swap", "user-1000.slice", "session-3.scope", "systemd-logind.service", "ssh.service", "sshd@1.service",
		"rpcbind.socket", "docker.socket", "dbus.socket",
	} {
		if !(properties{"Id": {unit}}).isNeeded() {
			t.Errorf("%s can be stopped", unit)
		}
	}
	for _, unit := range []string{
		"web.service", "nginx.service", "postgresql@15-main.service", "docker-shop.service", "redis.socket", "app.target", "rpc-server.service",
		"xray.service", "lxcfoo", "slow.service", "openapi.service", "virtual.service",
	} {
		if (properties{"Id": {unit}}).isNeeded() != (unit == "lxcfoo") {
			t.Errorf("%s cannot be stopped, or what it is for", unit)
		}
	}
	if p := (properties{"Id": {"mine.socket"}, "Triggers": {"ssh.service"}}); !p.isNeeded() {
		t.Error("the socket of a login can be stopped")
	}
}

func TestIsUnitName(t *testing.T) {
	for name, want := range map[string]bool{
		"web.service": true, `my\x2dapp@8101.service`: true, "a:b_c.socket": true, "-.mount": false, "-Hevil.service": false, "": false, "web": false,
		"web.service --all": false, "web;reboot.service": false, "web.service\n": false, "\x1b[2J.service": false, "*.service": false, "unknown": false,
	} {
		if got := isUnitName(name); got != want {
			t.Errorf("isUnitName(%q) = %v; want %v", name, got, want)
		}
	}
	if m := (bus{}).service(t.Context(), properties{"Id": {"--help"}, "Restart": {"always"}}, leader); m != nil {
		t.Errorf("service() = %+v of a flag", m)
	}
}

// Whom systemd itself spares when it stops a unit, killport spares too.
func TestWhom(t *testing.T) {
	for _, test := range []struct {
		mode, kill, want string
		keeps            bool
	}{
		{"control-group", "yes", "all", false},
		{"mixed", "yes", "all", false},
		{"process", "yes", "main control", true},
		{"of the future", "yes", "main control", true},
		{"none", "yes", "", true},
		{"control-group", "no", "", false},
		{"mixed", "no", "", true},
		{"process", "no", "", true},
		{"", "", "", true},
	} {
		p := properties{"Id": {"web.service"}, "Restart": {"always"}, "KillMode": {test.mode}, "SendSIGKILL": {test.kill}}
		if got := strings.Join(p.whom(), " "); got != test.want {
			t.Errorf("of KillMode=%s SendSIGKILL=%s %q are killed; want %q", test.mode, test.kill, got, test.want)
		}
		// What is kept is not stopped by its service, and is a plain process.
		if m := (bus{}).service(t.Context(), p, worker); (m == nil) != test.keeps {
			t.Errorf("service(KillMode=%s SendSIGKILL=%s) = %+v of a worker", test.mode, test.kill, m)
		}
	}
}

// By some settings much more ends with a unit than the unit.
func TestEnd(t *testing.T) {
	for _, test := range []struct{ setting, value, want string }{
		{"SuccessAction", "none", ""},
		{"SuccessAction", "exit", "SuccessAction=exit"},
		{"FailureAction", "reboot-force", "FailureAction=reboot-force"},
		{"OnFailure", "mail@web.service", ""},
		{"OnFailure", "mail@web.service emergency.target", "OnFailure=emergency.target"},
		{"OnSuccess", "poweroff.target", "OnSuccess=poweroff.target"},
		{"OnFailureJobMode", "isolate", ""},
	} {
		p := properties{"Id": {"web.service"}, "Restart": {"always"}, test.setting: {test.value}}
		m := bus{}.service(t.Context(), p, leader)
		if got := p.end(); got != test.want || m.Halts() != (test.want == "") || m.Spared() != (test.want != "") || (m.Stop == nil) != (test.want != "") {
			t.Errorf("%s=%s: end() = %q; want %q; service() = %+v", test.setting, test.value, got, test.want, m)
		}
	}
	p := properties{"Id": {"web.service"}, "OnFailure": {"rig.target"}, "OnFailureJobMode": {"isolate"}}
	if p.end() == "" {
		t.Error("what isolates stops nothing else")
	}
}

func TestForGood(t *testing.T) {
	stop := []string{"systemctl", "stop", "web.service"}
	for _, test := range []struct {
		m    Manager
		want string
	}{
		{Manager{Stop: stop}, "systemctl stop web.service"},
		{Manager{Name: "web.service", Stop: stop, StartedBy: []string{"web.timer", "all.target"}}, "systemctl stop web.timer all.target web.service"},
		{Manager{Name: "web.service", Stop: append(stop, "app.service"), StartedBy: []string{"web.timer"}}, "systemctl stop web.timer web.service app.service"},
		{Manager{StartedBy: []string{"web.timer"}}, ""},
	} {
		if got := strings.Join(test.m.ForGood(), " "); got != test.want {
			t.Errorf("ForGood(%+v) = %q; want %q", test.m, got, test.want)
		}
	}
}

func TestSupervises(t *testing.T) {
	env := map[string]string{"name": "api", "SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_GROUP_NAME": "shop"}
	for _, test := range []struct {
		argv []string
		want *Manager
	}{
		{[]string{"node", "/usr/bin/nodemon", "x.js"}, &Manager{Kind: Supervisor, Name: "nodemon", PID: 7, Restart: onChange, Stop: []string{"kill", "7"}}},
		{[]string{"/usr/bin/python3", "/usr/local/bin/uvicorn", "app:app", "--reload"}, &Manager{Kind: Supervisor, Name: "uvicorn", PID: 7, Restart: onChange, Stop: []string{"kill", "7"}}},
		{[]string{"python3", "-m", "uvicorn", "app:app", "--reload"}, &Manager{Kind: Supervisor, Name: "uvicorn", PID: 7, Restart: onChange, Stop: []string{"kill", "7"}}},
		{[]string{"/usr/bin/python3", "/usr/local/bin/uvicorn", "app:app"}, nil},
		{[]string{"python", "manage.py", "runserver"}, &Manager{Kind: Supervisor, Name: "manage.py", PID: 7, Restart: onChange, Stop: []string{"kill", "7"}}},
		{[]string{"npm run dev"}, &Manager{Kind: Supervisor, Name: "npm", PID: 7, Restart: "no", Stop: []string{"kill", "7"}}},
		{[]string{"node", "--watch", "x.js"}, &Manager{Kind: Supervisor, Name: "node", PID: 7, Restart: onChange, Stop: []string{"kill", "7"}}},
		{[]string{"node", "x.js"}, nil},
		{[]string{"PM2 v6.0.8: God Daemon (/home/ann/.pm2)"}, &Manager{Kind: Supervisor, Name: "pm2", PID: 7, Restart: "always", Stop: []string{"pm2", "stop", "api"}}},
		{[]string{"/usr/bin/python3", "/usr/bin/supervisord", "-n"}, &Manager{Kind: Supervisor, Name: "supervisord", PID: 7, Restart: "always", Stop: []string{"supervisorctl", "stop", "shop:web"}}},
		{[]string{"runsv", "web"}, &Manager{Kind: Supervisor, Name: "runsv", PID: 7, Restart: "always", Stop: []string{"kill", "7"}}},
		{[]string{"bash"}, nil},
		{[]string{"vim", "a", "nodemon.md"}, nil},
		{nil, nil},
	} {
		got := supervises(process.Info{PID: 7, Argv: test.argv}, func(key string) string { return env[key] })
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(Manager{})); diff != "" {
			t.Errorf("supervises(%q) (-want +got):\n%s", test.argv, diff)
		}
	}
}

// What a supervisor is called counts where a program, or its script, is named,
// and nowhere else.
func TestKinship(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"node /usr/bin/nodemon x.js", "nodemon"},
		{"node --require tsx/cjs /usr/bin/nodemon.js x.js", "nodemon"},
		{"node --watch-path=./src x.js", "node"},
		{"node --watch-path src x.js", "node"},
		{"node --inspect --watch x.js", "node"},
		{"node x.js --watch", ""},
		{"node -e nodemon", ""},
		{"node /srv/.yarn/releases/yarn-4.1.0.cjs dev", "yarn"},
		{"node /usr/lib/node_modules/corepack/dist/yarn.js dev", "yarn"},
		{"node /usr/bin/pnpm.cjs dev", "pnpm"},
		{"node /usr/lib/node_modules/npm/bin/npm-cli.js run dev", "npm-cli.js"},
		{"node /usr/bin/pm2-runtime app.js", "pm2-runtime"},
		{"deno run -A --watch=static main.ts", "deno"},
		{"bun --watch run x.ts", "bun"},
		{"bun x.ts", ""},
		{"/usr/bin/python3 -X dev manage.py runserver", "manage.py"},
		{"/usr/bin/python3.11 -Wd -u /srv/manage.py runserver", "manage.py"},
		{"python -m debugpy --listen 5678 --wait-for-client -m uvicorn app:app --reload", "uvicorn"},
		{"python3 -m uvicorn app:app --reload-dir=src --reload", "uvicorn"},
		{"python3 -c nodemon air", ""},
		{"python3 /usr/bin/fastapi dev main.py", "fastapi"},
		{"python3 /usr/bin/fastapi run main.py", ""},
		{"python3 /usr/bin/flask run --reload", "flask"},
		{"python3 -m flask --app x run --debug", "flask"},
		{"python3 /usr/bin/flask run", ""},
		{"python3 /usr/bin/watchmedo auto-restart -- serve", "watchmedo"},
		{"python3 /usr/bin/watchmedo log", ""},
		{"entr -rs serve", "entr"},
		{"entr -c -r serve", "entr"},
		{"entr -s serve -r", ""},
		{"dotnet watch run", "dotnet"},
		{"dotnet exec --depsfile x.json /usr/lib/dotnet/dotnet-watch.dll run", "dotnet-watch.dll"},
		{"dotnet app.dll", ""},
		{"ruby /usr/bin/foreman start", "foreman"},
		{"bundle exec foreman start", "foreman"},
		{"sh /usr/bin/npm run dev", "npm"},
		{"bash -o pipefail ./air", "air"},
		{"sh -c air air", ""},
		{"tini -- npm start", "npm"},
		{"dumb-init pm2-runtime app.js", "pm2-runtime"},
		{"env -u X A=b npm start", "npm"},
		{"air -c .air.toml", "air"},
		{"npm exec nodemon x.js", "npm"},
		{"screen -S npm", ""},
		{"SCREEN -dmS dev air", ""},
		{"tmux new -s nodemon", ""},
		{"vim air", ""},
		{"less /usr/bin/supervisord", ""},
		{"make npm", ""},
		{"grep -r npm", ""},
		{"node", ""},
		{"python3 -m", ""},
	} {
		k, ok := kinshipOf(process.Info{Argv: strings.Fields(test.args)})
		if k.name != test.want || ok != (test.want != "") {
			t.Errorf("kinshipOf(%q) = %q, %v; want %q", test.args, k.name, ok, test.want)
		}
	}
}

func FuzzKinship(f *testing.F) {
	f.Add("python3 -X dev -m debugpy -m uvicorn --reload")
	f.Add("env A=b tini -- npm")
	f.Fuzz(func(t *testing.T, line string) {
		if k, ok := kinshipOf(process.Info{Argv: strings.Split(line, " ")}); ok && k.name == "" {
			t.Errorf("kinshipOf(%q) = %+v", line, k)
		}
	})
}

func TestAsUser(t *testing.T) {
	gid := func() string { return "100" }
	for _, test := range []struct {
		uid, euid int
		dir       string
		want      string
	}{
		{1000, 1000, "/run/user/1000", ""},
		{1000, 1000, "", "env XDG_RUNTIME_DIR=/run/user/1000"},
		{0, 0, "/run/user/1000", "env XDG_RUNTIME_DIR=/run/user/0"}, // as "su" leaves it
		{1000, 0, "/run/user/0", "setpriv --reuid=1000 --regid=100 --clear-groups --reset-env env XDG_RUNTIME_DIR=/run/user/1000"},
		{0, 0, "/run/user/0", ""},
	} {
		if got := strings.Join(asUser(test.uid, test.euid, test.dir, gid), " "); got != test.want {
			t.Errorf("asUser(%d, %d, %q) = %q; want %q", test.uid, test.euid, test.dir, got, test.want)
		}
	}
}
