package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// engineName is an engine by the name of its command.
type engineName string

const (
	docker  engineName = "docker"
	podman  engineName = "podman"
	nerdctl engineName = "nerdctl"
)

// engines are those that killport can have stop something.
var engines = []engineName{docker, nerdctl, podman}

// engine is a container engine. Its command knows where the engine is:
// contexts, DOCKER_HOST, configuration files, all of which are a user's.
type engine struct {
	name engineName
	uid  uint32   // whose it is
	as   []string // the beginning of a command that runs as that user
}

func (e engine) argv(args ...string) []string {
	return append(append(slices.Clone(e.as), string(e.name)), args...)
}

// fronts are the programs that listen on behalf of containers.
var fronts = map[string]engineName{
	"docker-proxy":       docker,
	"dockerd":            docker, // with the userland proxy off
	"com.docker.backend": docker, // Docker Desktop
	"com.docker.vpnkit":  docker,
	"vpnkit":             docker,
	"orbstack":           docker,
	"orbstack helper":    docker,
	"rootlessport":       podman,
	"rootlessport-child": podman,
	"pasta":              podman,
	"pasta.avx2":         podman,
	"slirp4netns":        podman,
}

// front is the engine on whose behalf the process listens, or "".
func front(info process.Info) engineName {
	name := info.Program()
	if name == "rootlesskit" { // runs dockerd-rootless.sh, or containerd-rootless.sh
		if slices.ContainsFunc(info.Argv, func(arg string) bool { return strings.Contains(arg, "containerd") }) {
			return nerdctl
		}
		return docker
	}
	return fronts[name]
}

// inVM reports whether a front is on the side of the host of an engine that
// runs in a virtual machine, with processes of its own.
func inVM(info process.Info) bool {
	return slices.Contains([]string{"com.docker.backend", "com.docker.vpnkit", "vpnkit", "orbstack", "orbstack helper"}, info.Program())
}

// inspection is what "ENGINE container inspect" says, in as far as the engines
// agree on it (https://docs.docker.com/reference/api/engine/, ContainerInspect).
type inspection struct {
	ID    string `json:"Id"`
	Name  string `json:"Name"` // Docker: with a slash before it
	State struct {
		Running   bool `json:"Running"`
		PID       int  `json:"Pid"`       // as the engine's host sees it
		ConmonPID int  `json:"ConmonPid"` // of podman (InspectContainerState, libpod/define/container_inspect.go)
	} `json:"State"`
	Config struct {
		Image         string            `json:"Image"`
		Labels        map[string]string `json:"Labels"`
		CreateCommand []string          `json:"CreateCommand"` // of podman (InspectContainerConfig, in the same file)
	} `json:"Config"`
	HostConfig struct {
		RestartPolicy struct {
			Name string `json:"Name"`
		} `json:"RestartPolicy"`
	} `json:"HostConfig"`
	NetworkSettings struct {
		Ports     map[string][]binding `json:"Ports"` // by "8000/tcp"
		IPAddress string               `json:"IPAddress"`
		Networks  map[string]struct {
			IPAddress         string `json:"IPAddress"`
			GlobalIPv6Address string `json:"GlobalIPv6Address"`
		} `json:"Networks"`
	} `json:"NetworkSettings"`
}

// binding is where a port of a container is published.
type binding struct {
	HostIP   string `json:"HostIp"` // "" or unspecified: everywhere
	HostPort string `json:"HostPort"`
}

// errUnknown says that the engine has never heard of the container.
var errUnknown = errors.New("knows no such container")

// inspect asks about containers.
func (e engine) inspect(ctx context.Context, ids ...string) ([]inspection, error) {
	out, err := ask(ctx, e.argv(), append([]string{"container", "inspect"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var all []inspection
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("%s container inspect: %w", e.name, err)
	}
	return all, nil
}

// running lists the IDs of the containers that may publish the port.
func (e engine) running(ctx context.Context, l listeners.Listener) ([]string, error) {
	return e.publishing(ctx, strconv.Itoa(int(l.LocalPort)), l.Proto)
}

// publishing lists the IDs of the containers that may publish some of the ports:
// "8000", "8000-8010".
func (e engine) publishing(ctx context.Context, ports string, proto listeners.Proto) ([]string, error) {
	args := []string{"ps", "--quiet", "--no-trunc"}
	if e.name == docker {
		args = append(args, "--filter", "publish="+ports+"/"+strings.ToLower(string(proto)))
	}
	out, err := ask(ctx, e.argv(), args...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(id string) bool { return !isContainerID(id) }), nil
}

// anyByID asks all engines that are here for the container with that ID.
func anyByID(ctx context.Context, id string) (*Manager, *inspection) {
	nameless := Manager{Kind: Container, Name: id[:12], ID: id}
	var errs []error
	for _, name := range engines {
		if !command.Here(string(name)) {
			continue
		}
		m, c := engine{name: name}.byID(ctx, id)
		if c != nil {
			return m, c
		}
		errs = append(errs, errors.New(m.Reason))
	}
	if errs == nil {
		errs = append(errs, errors.New("no container engine is here that could stop it"))
	}
	return nameless.without(errors.Join(errs...)), nil
}

// byID is the container with that ID, as far as its engine tells.
func (e engine) byID(ctx context.Context, id string) (*Manager, *inspection) {
	m := Manager{Kind: Container, Name: id[:12], Engine: string(e.name), ID: id}
	if !slices.Contains(engines, e.name) {
		return m.without(fmt.Errorf("killport knows no command that stops it")), nil
	}
	m.Stop = e.argv("stop", m.ID)
	all, err := e.inspect(ctx, id)
	if err == nil && (len(all) != 1 || all[0].ID != id) {
		err = fmt.Errorf("%s %w", e.name, errUnknown)
	}
	if err != nil {
		return m.without(err), nil
	}
	return e.manager(all[0]), &all[0]
}

// manager is the container of an inspection.
func (e engine) manager(c inspection) *Manager {
	name := strings.TrimPrefix(c.Name, "/")
	m := Manager{
		Kind: Container, Name: name, Engine: string(e.name), ID: c.ID, Image: c.Config.Image,
		Project: c.Config.Labels["com.docker.compose.project"],
		folder:  c.Config.Labels["com.docker.compose.project.working_dir"],
		Restart: c.HostConfig.RestartPolicy.Name,
		Listens: c.listens(),
		Stop:    e.argv("stop", name),
		lever:   containerLever{e, c.ID},
	}
	if !isName(name) { // it is the engine of a user, who may call it anything
		m.Stop = e.argv("stop", c.ID)
	}
	if service := c.Config.Labels["com.docker.swarm.service.name"]; service != "" {
		m.Stop = nil
		if c.replica(service) && isName(service) {
			m.Stop = e.argv("service", "scale", service+"=0")
		}
		return m.never(fmt.Errorf("its swarm would start another one for the service %s", service))
	}
	if weAreIn(c.ID) {
		m.Stop = nil // nor is it for anybody to paste
		return m.never(errors.New("killport does not stop it: it is in there itself"))
	}
	return &m
}

// replica reports whether the task of a swarm's service is SERVICE.NUMBER.ID:
// that of a service that runs once on each node, and cannot be scaled, has the
// node's ID in the middle (naming.Task of github.com/moby/swarmkit).
func (c inspection) replica(service string) bool {
	task, _ := strings.CutPrefix(c.Config.Labels["com.docker.swarm.task.name"], service+".")
	slot, _, _ := strings.Cut(task, ".")
	_, err := strconv.Atoi(slot)
	return err == nil
}

// machine is a container with a system of its own in it. Only root makes cgroups
// at the top: one further down may have been given the name of another's.
func machine(c container) *Manager {
	m := Manager{Kind: Container, Name: c.name, Engine: c.engine}
	switch {
	case c.nested:
	case c.engine == lxc:
		m.Stop = []string{"lxc-stop", "-n", c.name}
	default:
		m.Stop = []string{"machinectl", "poweroff", c.name}
	}
	return m.never(fmt.Errorf("killport does not stop containers of %s", c.engine))
}

// publication is what is known of a published port: its listener, and, if
// docker-proxy holds it, where it leads.
type publication struct {
	listener  listeners.Listener
	container netip.AddrPort
	inVM      bool // an engine that has processes of its own listens
}

// publicationBy is that of a front.
func publicationBy(info process.Info, l listeners.Listener) publication {
	return publication{listener: l, container: parseProxy(info.Argv), inVM: inVM(info)}
}

// errElsewhere says that an engine's container has no process here.
var errElsewhere = errors.New("its engine says that it is elsewhere: is it that of another machine?")

// unknown is the name of what must be there, and has none.
const unknown = "unknown"

// published finds the container that publishes a port. Addresses and ports are
// the same on every machine, so it must also be seen to run on this one.
func published(ctx context.Context, e engine, p publication) *Manager {
	nameless := Manager{Kind: Container, Name: unknown, Engine: string(e.name)}
	ids, err := e.running(ctx, p.listener)
	var all []inspection
	if err == nil && len(ids) > 0 {
		all, err = e.inspect(ctx, ids...)
	}
	if err != nil {
		return nameless.without(err)
	}
	all = slices.DeleteFunc(all, func(c inspection) bool { return !isContainerID(c.ID) || !p.isOf(c) })
	switch len(all) {
	case 0:
		return nameless.without(fmt.Errorf("%s knows no container that publishes port %d", e.name, p.listener.LocalPort))
	case 1:
		if !p.inVM && !runsHere(all[0], e.uid) {
			return nameless.without(errElsewhere)
		}
		return e.manager(all[0])
	}
	return nameless.without(fmt.Errorf("%d containers of %s publish port %d", len(all), e.name, p.listener.LocalPort))
}

// isOf reports whether c publishes p.
func (p publication) isOf(c inspection) bool {
	if p.container.IsValid() && !c.has(p.container.Addr()) {
		return false
	}
	proto := strings.ToLower(string(p.listener.Proto))
	for inside, bindings := range c.NetworkSettings.Ports {
		port, of, _ := strings.Cut(inside, "/")
		if of != proto || p.container.IsValid() && port != strconv.Itoa(int(p.container.Port())) {
			continue
		}
		if slices.ContainsFunc(bindings, func(b binding) bool { return b.isAt(p.listener) }) {
			return true
		}
	}
	return false
}

// has reports whether addr is one of c's.
func (c inspection) has(addr netip.Addr) bool {
	known := []string{c.NetworkSettings.IPAddress}
	for _, n := range c.NetworkSettings.Networks {
		known = append(known, n.IPAddress, n.GlobalIPv6Address)
	}
	return slices.ContainsFunc(known, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a == addr
	})
}

// isAt reports whether who listens at l may do it for that: an engine in a
// virtual machine has an address of its own choice where none was asked for, but
// not one of IPv6 for all of IPv4. What cannot be read is nowhere.
func (b binding) isAt(l listeners.Listener) bool {
	want, ok := b.addr()
	at, err := netip.ParseAddr(strings.Trim(l.LocalAddr, "[]"))
	if !ok || err != nil || want.Port() != l.LocalPort {
		return false
	}
	everywhere := b.HostIP == "" || want.Addr().IsUnspecified() && want.Addr().Is4() == at.Unmap().Is4()
	return everywhere || at.IsUnspecified() || want.Addr().Unmap() == at.Unmap()
}

// addr is where it is.
func (b binding) addr() (netip.AddrPort, bool) {
	port, err := strconv.ParseUint(b.HostPort, 10, 16)
	ip, ierr := netip.ParseAddr(cmp.Or(b.HostIP, "0.0.0.0"))
	return netip.AddrPortFrom(ip, uint16(port)), err == nil && ierr == nil && port > 0
}

// maxListens bounds what a record says of a container that publishes thousands
// of ports.
const maxListens = 64

// listens are all addresses of the host that c publishes: "TCP 0.0.0.0:8001".
func (c inspection) listens() (all []string) {
	for inside, bindings := range c.NetworkSettings.Ports {
		_, of, _ := strings.Cut(inside, "/")
		proto := listeners.Proto(strings.ToUpper(of))
		for _, b := range bindings {
			if at, ok := b.addr(); ok && (proto == listeners.TCP || proto == listeners.UDP) {
				all = append(all, fmt.Sprintf("%s %s", proto, at))
			}
		}
	}
	return bounded(all)
}

// bounded are those, each once and in order, and no more than a record can take.
func bounded(listens []string) []string {
	slices.Sort(listens)
	listens = slices.Compact(listens)
	return listens[:min(len(listens), maxListens)]
}

// parseProxy reads the arguments of a docker-proxy:
//
//	docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80
//
// (cmd/docker-proxy/main_linux.go of github.com/moby/moby.)
func parseProxy(argv []string) (container netip.AddrPort) {
	var addr netip.Addr
	var port uint16
	for i := 0; i+1 < len(argv); i++ {
		switch argv[i] {
		case "-container-ip":
			addr, _ = netip.ParseAddr(argv[i+1])
		case "-container-port":
			if n, err := strconv.ParseUint(argv[i+1], 10, 16); err == nil {
				port = uint16(n)
			}
		}
	}
	if !addr.IsValid() || port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

// parseConmon reads the ID of its container from the arguments of a conmon:
//
//	conmon --api-version 1 -c 4f5e… -u 4f5e… -r /usr/bin/crun …
//
// (sharedConmonArgs, libpod/oci_conmon_common.go of github.com/containers/podman.)
func parseConmon(info process.Info) (id string, ok bool) {
	at := slices.Index(info.Argv, "-c") + 1
	if info.Program() != "conmon" || at == 0 || at == len(info.Argv) {
		return "", false
	}
	return info.Argv[at], isContainerID(info.Argv[at])
}

// parseShim reads the ID of its container from the arguments of a shim, which is
// the parent of what runs in there:
//
//	containerd-shim-runc-v2 -namespace moby -id 4f5e… -address /run/containerd/containerd.sock
//
// (parseFlags, runtime/v2/shim/shim.go of github.com/containerd/containerd.)
func parseShim(info process.Info) (id string, ok bool) {
	at := slices.Index(info.Argv, "-id") + 1
	if !strings.HasPrefix(info.Program(), "containerd-shim") || at == 0 || at == len(info.Argv) {
		return "", false
	}
	return info.Argv[at], isContainerID(info.Argv[at])
}

// containerLever stops a container. Its restart policy does not start one
// again that was stopped so.
type containerLever struct {
	engine engine
	id     string
}

// command names the container by the whole of its ID: a name could be another's
// by now, and the beginning of an ID could be another's name.
func (c containerLever) command(grace time.Duration) []string {
	seconds := int(math.Ceil(grace.Seconds()))
	return c.engine.argv("stop", "-t", strconv.Itoa(seconds), c.id)
}

// teardown is how long an engine may take beyond the grace period: networks
// and mounts go after the process.
const teardown = 10 * time.Second

func (c containerLever) halt(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, grace+teardown, ErrSlow)
	defer cancel()
	_, err := command.Run(ctx, c.command(grace)...)
	return err
}
