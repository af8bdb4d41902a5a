package portdiag

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/internal/netfilter"
	"github.com/killport/killport/internal/portlist"
	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// elsewhere looks for causes that are not on the socket: containers and units
// that we may know of without seeing their processes; and, of a port on which
// nobody listens, the packet filter, other network namespaces, the ranges that
// the kernel gives ports from.
func (r *Report) elsewhere(ctx context.Context, q listeners.Query) {
	r.behindTheScenes(ctx, q)
	if len(r.Listeners) > 0 {
		return
	}
	r.redirected(ctx, q)
	r.Findings = append(r.Findings, inNamespaces(ctx, q)...)
	r.ranges(q)
}

func (r *Report) has(c Cause) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Cause == c })
}

// behindTheScenes asks the engine, and systemd, about a port whose holder is
// hidden, and the engine about one that nobody listens on.
func (r *Report) behindTheScenes(ctx context.Context, q listeners.Query) {
	l := listeners.Listener{Proto: q.Proto, LocalPort: q.Port, LocalAddr: "0.0.0.0"}
	if len(r.Listeners) > 0 {
		at := slices.IndexFunc(r.Listeners, func(l Listener) bool { return l.Owner == listeners.OwnerHidden })
		if at < 0 {
			return
		}
		l = r.Listeners[at].Listener
		if m := manager.SocketUnitOf(ctx, l); m != nil {
			r.Findings = append(r.Findings, managedFinding(m, 0))
			return
		}
	}
	if m := manager.Publisher(ctx, l); m != nil {
		f := managedFinding(m, 0)
		if len(r.Listeners) == 0 {
			f.Severity = Warning
		}
		r.Findings = append(r.Findings, f)
	}
}

// redirected looks into the packet filter, which only root may.
func (r *Report) redirected(ctx context.Context, q listeners.Query) {
	proto := strings.ToLower(string(q.Proto))
	var found []netfilter.Redirect
	for _, tool := range [][]string{
		{"iptables-save", "-t", "nat"},
		{"ip6tables-save", "-t", "nat"},
		{"nft", "--json", "list", "ruleset"},
	} {
		if !command.Here(tool[0]) {
			continue
		}
		if os.Geteuid() > 0 {
			r.Unseen = append(r.Unseen, "the packet filter: it takes root")
			break
		}
		out, err := command.Ask(ctx, tool...)
		var rules []netfilter.Redirect
		switch {
		case err != nil:
		case tool[0] == "nft":
			rules, err = netfilter.ParseNFT(out, proto, q.Port)
		default:
			rules = netfilter.ParseSave(out, strings.TrimSuffix(tool[0], "-save"), proto, q.Port)
		}
		if err != nil {
			r.Unseen = append(r.Unseen, err.Error())
		}
		found = netfilter.Merge(found, rules)
	}
	if len(found) > 0 {
		r.Findings = append(r.Findings, redirectFinding(found, r.Bindable))
	}
}

// inNamespaces looks for those who listen on the port in other network
// namespaces than ours.
func inNamespaces(ctx context.Context, q listeners.Query) []Finding {
	const most = 256 // namespaces
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil || process.Visible() != nil {
		return nil
	}
	members := map[string][]int{}
	pids, _ := process.All()
	for _, pid := range pids {
		ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err == nil && ns != ours && (members[ns] != nil || len(members) < most) {
			members[ns] = append(members[ns], pid)
		}
	}
	var found []Finding
	for _, ns := range slices.Sorted(maps.Keys(members)) {
		if ctx.Err() != nil {
			break
		}
		for _, s := range listening(members[ns][0], q) {
			found = append(found, namespaceFinding(ctx, ns, s, members[ns], q))
		}
	}
	return found
}

// listening are the sockets that listen on the port in the namespace of pid.
func listening(pid int, q listeners.Query) []procfs.NetSocket {
	const listen, unconnected = 10, 7 // TCP_LISTEN, TCP_CLOSE: include/net/tcp_states.h
	state := uint8(listen)
	if q.Proto == listeners.UDP {
		state = unconnected
	}
	var found []procfs.NetSocket
	for _, suffix := range []string{"", "6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s%s", pid, strings.ToLower(string(q.Proto)), suffix))
		if err != nil {
			continue
		}
		_ = procfs.ParseNet(f, func(s procfs.NetSocket) {
			if s.State == state && s.Local.Port() == q.Port && !slices.Contains(found, s) {
				found = append(found, s)
			}
		})
		f.Close()
	}
	return found
}

// namespaceFinding names who has the socket among the members of a namespace.
func namespaceFinding(ctx context.Context, ns string, s procfs.NetSocket, members []int, q listeners.Query) Finding {
	f := Finding{
		Cause: CauseNamespace, Severity: Info,
		Evidence: map[string]any{"addr": s.Local.String(), "namespace": ns, "inode": s.Inode, "uid": s.UID},
		Summary:  fmt.Sprintf("free here; in another network namespace somebody listens on %s", s.Local),
	}
	l := listeners.Listener{Proto: q.Proto, LocalAddr: s.Local.Addr().String(), LocalPort: q.Port, Socket: listeners.ID{Inode: s.Inode}}
	for _, pid := range members {
		p, err := process.Open(pid)
		if err != nil {
			continue
		}
		holds, err := listeners.Holds(p, l)
		info, ierr := p.Inspect()
		if err != nil || ierr != nil || !holds {
			p.Close()
			continue
		}
		f.Evidence["pid"], f.Evidence["name"] = pid, info.Name
		f.Summary = fmt.Sprintf("free here; in another network namespace %s (PID %d) listens on %s", info.Name, pid, s.Local)
		f.Remedy = asRoot(append([]string{"nsenter", "--target", strconv.Itoa(pid), "--net", "killport"}, q.Args()...)...)
		if m := manager.Of(ctx, p, info, l); m != nil && m.Kind == manager.Container {
			f.Evidence["container"] = m.Name
			f.Summary += ", in " + m.String()
			f.Remedy = managedFinding(m, pid).Remedy
		}
		p.Close()
		break
	}
	return f
}

// ranges says which of the kernel's ranges the port is in, where that matters.
func (r *Report) ranges(q listeners.Query) {
	reserved, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	list := strings.TrimSpace(string(reserved))
	if portlist.Has(list, q.Port) {
		r.Findings = append(r.Findings, Finding{
			Cause: CauseReserved, Severity: Info, Evidence: map[string]any{"reserved": list},
			Summary: "it is kept for servers: the kernel gives it to no client",
			Remedy:  reserve(portlist.Without(list, q.Port)),
		})
		return
	}
	if !r.has(CauseConnection) && !r.has(CauseBound) {
		return
	}
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	ends := strings.Fields(string(b))
	if len(ends) != 2 || !portlist.Has(ends[0]+"-"+ends[1], q.Port) {
		return
	}
	set := strconv.Itoa(int(q.Port))
	if list != "" {
		set = list + "," + set
	}
	r.Findings = append(r.Findings, Finding{
		Cause: CauseEphemeral, Severity: Info, Evidence: map[string]any{"range": ends[0] + "-" + ends[1]},
		Summary: fmt.Sprintf("it is one of those that any outgoing connection may get (%s to %s)", ends[0], ends[1]),
		Remedy:  reserve(set),
	})
}

// reserve replaces the list of reserved ports; the empty one reserves none.
func reserve(list string) *Remedy {
	return asRoot("sysctl", "net.ipv4.ip_local_reserved_ports="+list)
}
