package portdiag

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/internal/iproute"
	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// kernelServices are services of the kernel by their port, and the kernel
// thread by which one knows that they run.
var kernelServices = map[uint16]struct{ thread, what, unit string }{
	2049: {"nfsd", "the NFS server", "nfs-server.service"},
	445:  {"ksmbd", "the SMB server", "ksmbd.service"},
}

// nobodys explains a socket that no process has, as far as we see: by the kernel,
// or, if that is certain, as a ghost.
func (r *Report) nobodys(ctx context.Context, s *Survey, q listeners.Query) {
	at := slices.IndexFunc(r.Listeners, func(l Listener) bool {
		return l.Owner == listeners.OwnerNone || l.HiddenBy == listeners.ByNamespace
	})
	if at < 0 {
		return
	}
	threads := kernelThreads()
	f, ok := r.kernel(ctx, q, threads)
	if !ok && r.Listeners[at].Owner == listeners.OwnerNone {
		f, ok = ghost(ctx, question{q, s.flags}, r.Listeners[at].Listener, elusive(threads)), true
	}
	if ok {
		r.Findings = append(r.Findings, r.inTheWay(f))
	}
}

// kernel finds what the kernel has the port for.
func (r *Report) kernel(ctx context.Context, q listeners.Query, threads []string) (Finding, bool) {
	if f, ok := serviceFinding(q.Port, threads); ok {
		return f, true
	}
	switch q.Proto {
	case listeners.UDP:
		found, err := tunnels(ctx, q.Port)
		if err != nil {
			r.Unseen = append(r.Unseen, "the tunnels of the kernel: "+err.Error())
		}
		if len(found) > 0 {
			return tunnelFinding(found), true
		}
	case listeners.TCP:
		found, err := endpoints(ctx, q.Port)
		if err != nil {
			r.Unseen = append(r.Unseen, "the MPTCP endpoints: "+err.Error())
		}
		if len(found) > 0 {
			return endpointFinding(found[0]), true
		}
	}
	return Finding{}, false
}

// kernelThreads are the names of those that run.
func kernelThreads() []string {
	pids, _ := process.All()
	var threads []string
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		if stat, err := procfs.ParseStat(b); err == nil && stat.KernelThread() {
			threads = append(threads, stat.Comm)
		}
	}
	return threads
}

func serviceFinding(port uint16, threads []string) (Finding, bool) {
	service, known := kernelServices[port]
	at := slices.IndexFunc(threads, func(t string) bool { return known && strings.HasPrefix(t, service.thread) })
	if at < 0 {
		return Finding{}, false
	}
	return Finding{
		Cause: CauseKernel, Severity: Error, Evidence: map[string]any{"thread": threads[at], "unit": service.unit},
		Summary: service.what + " of the kernel listens",
		Remedy:  asRoot("systemctl", "stop", service.unit),
	}, true
}

// elusive are the services of the kernel that run and listen at whatever port
// they got: the locks of NFS (version 3), its callbacks (version 4.0), and
// iSCSI targets.
func elusive(threads []string) []string {
	found := []string{}
	for _, service := range []string{"lockd", "NFSv4 callback", "iscsi_np"} {
		if slices.Contains(threads, service) {
			found = append(found, service)
		}
	}
	return found
}

// tunnels asks for those at a UDP port.
func tunnels(ctx context.Context, port uint16) ([]iproute.Tunnel, error) {
	out, err := command.Ask(ctx, "ip", "-json", "-details", "link", "show")
	if err != nil {
		return nil, err
	}
	found, mute, err := iproute.ParseTunnels(out, port)
	if err != nil || len(mute) == 0 {
		return found, err
	}
	if out, err = command.Ask(ctx, "wg", "show", "all", "listen-port"); err != nil {
		return found, err
	}
	return append(found, iproute.ParseListenPorts(out, mute, port)...), nil
}

// tunnelFinding: tunnels of one kind share a socket. The remedy is about the
// first.
func tunnelFinding(found []iproute.Tunnel) Finding {
	var links []string
	for _, t := range found {
		links = append(links, t.Link)
	}
	return Finding{
		Cause: CauseKernel, Severity: Error, Evidence: map[string]any{"kind": found[0].Kind, "links": links},
		Summary: fmt.Sprintf("the kernel has it, for %s (%s)", strings.Join(links, ", "), found[0].Kind),
		Remedy:  asRoot("ip", "link", "delete", "dev", links[0]),
	}
}

// endpoints asks for those of MPTCP at a port (ip-mptcp(8)): the kernel listens
// at one that it signals with a port.
func endpoints(ctx context.Context, port uint16) ([]iproute.Endpoint, error) {
	if _, err := os.Stat("/proc/sys/net/mptcp"); err != nil {
		return nil, nil // nor does ip know of it then
	}
	out, err := command.Ask(ctx, "ip", "-json", "mptcp", "endpoint", "show")
	if err != nil {
		return nil, err
	}
	return iproute.ParseEndpoints(out, port)
}

func endpointFinding(e iproute.Endpoint) Finding {
	return Finding{
		Cause: CauseKernel, Severity: Error, Evidence: map[string]any{"endpoint": e.Address, "id": e.ID},
		Summary: fmt.Sprintf("the kernel listens, for the MPTCP endpoint %s", e.Address),
		Remedy:  asRoot("ip", "mptcp", "endpoint", "delete", "id", strconv.Itoa(e.ID)),
	}
}
