package portdiag

import (
	"context"
	"errors"
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
func (r *Report) elsewhere(ctx context.Context, s *Survey, q listeners.Query) {
	r.behindTheScenes(ctx, s, q)
	if slices.ContainsFunc(r.Listeners, listens) {
		return
	}
	r.redirected(ctx, s, q)
	r.Findings = append(r.Findings, s.elsewhere(ctx, q)...)
	r.ranges(q)
}

func (r *Report) has(c Cause) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Cause == c })
}

// behindTheScenes asks the engine, and systemd, about a port whose holder is
// hidden, and the engine about one that nobody listens on. Neither tells who is
// outside of our PID namespace.
func (r *Report) behindTheScenes(ctx context.Context, s *Survey, q listeners.Query) {
	l := listeners.Listener{Proto: q.Proto, LocalPort: q.Port, LocalAddr: "0.0.0.0"}
	if len(r.Listeners) > 0 {
		at := slices.IndexFunc(r.Listeners, func(l Listener) bool {
			return l.Owner == listeners.OwnerHidden && l.HiddenBy != listeners.ByNamespace
		})
		if at < 0 {
			return
		}
		l = r.Listeners[at].Listener
		if m := manager.SocketUnitOf(ctx, l); m != nil {
			r.Findings = append(r.Findings, managedFinding(m, 0))
			return
		}
	} else if !s.published(ctx, q) {
		return
	}
	if m := manager.Publisher(ctx, l); m != nil {
		f := managedFinding(m, 0)
		if len(r.Listeners) == 0 {
			f.Severity = Warning
		}
		r.Findings = append(r.Findings, f)
	}
}

// host is what there is to know about it whatever the port, once it was asked for.
type host struct {
	filter     []listing
	filterRead bool
	networks   []network
	networked  bool
}

// listing is what a tool says of the packet filter.
type listing struct {
	tool string
	out  []byte
	err  error
}

// rules asks the tools that are here, each once.
func (s *Survey) rules(ctx context.Context) []listing {
	if s.filterRead {
		return s.filter
	}
	s.filterRead = true
	for _, tool := range [][]string{
		{"iptables-save", "-t", "nat"},
		{"ip6tables-save", "-t", "nat"},
		{"nft", "--json", "list", "ruleset"},
	} {
		if !command.Here(tool[0]) {
			continue
		}
		if os.Geteuid() > 0 {
			s.filter = []listing{{err: errors.New("the packet filter: it takes root")}}
			break
		}
		out, err := command.Ask(ctx, tool...)
		s.filter = append(s.filter, listing{tool[0], out, err})
	}
	return s.filter
}

// redirected looks into the packet filter, which only root may.
func (r *Report) redirected(ctx context.Context, s *Survey, q listeners.Query) {
	proto := strings.ToLower(string(q.Proto))
	var found []netfilter.Redirect
	for _, said := range s.rules(ctx) {
		var rules []netfilter.Redirect
		err := said.err
		switch {
		case err != nil:
		case said.tool == "nft":
			rules, err = netfilter.ParseNFT(said.out, proto, q.Port)
		default:
			rules = netfilter.ParseSave(said.out, strings.TrimSuffix(said.tool, "-save"), proto, q.Port)
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

// published reports whether the engine may have published the port. Of many
// ports it is first asked about all at once; manager remembers the answer.
func (s *Survey) published(ctx context.Context, q listeners.Query) bool {
	return s.low == s.high || manager.Publishes(ctx, q.Proto, s.low, s.high)
}

// network is a network namespace that is not ours.
type network struct {
	name    string // net:[…]
	members []int
	sockets map[listeners.Proto]map[uint16][]procfs.NetSocket // that listen, by port, as far as they were read
}

// others are the other network namespaces of this host, each once.
func (s *Survey) others() []network {
	if s.networked {
		return s.networks
	}
	s.networked = true
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
	for _, name := range slices.Sorted(maps.Keys(members)) {
		s.networks = append(s.networks, network{name, members[name], map[listeners.Proto]map[uint16][]procfs.NetSocket{}})
	}
	return s.networks
}

// elsewhere looks for those who listen on the port in other network namespaces
// than ours.
func (s *Survey) elsewhere(ctx context.Context, q listeners.Query) []Finding {
	var found []Finding
	for _, n := range s.others() {
		if ctx.Err() != nil {
			break
		}
		for _, socket := range n.listening(q.Proto)[q.Port] {
			found = append(found, s.namespaceFinding(ctx, n, socket, q))
		}
	}
	return found
}

// listening are the sockets that listen in the namespace, by port.
func (n network) listening(proto listeners.Proto) map[uint16][]procfs.NetSocket {
	if known := n.sockets[proto]; known != nil {
		return known
	}
	const listen, unconnected = 10, 7 // TCP_LISTEN, TCP_CLOSE: include/net/tcp_states.h
	state := uint8(listen)
	if proto == listeners.UDP {
		state = unconnected
	}
	found := map[uint16][]procfs.NetSocket{}
	for _, suffix := range []string{"", "6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s%s", n.members[0], strings.ToLower(string(proto)), suffix))
		if err != nil {
			continue
		}
		_ = procfs.ParseNet(f, func(s procfs.NetSocket) {
			if port := s.Local.Port(); s.State == state && !slices.Contains(found[port], s) {
				found[port] = append(found[port], s)
			}
		})
		f.Close()
	}
	n.sockets[proto] = found
	return found
}

// namespaceFinding names who has the socket among the members of a namespace.
func (s *Survey) namespaceFinding(ctx context.Context, n network, at procfs.NetSocket, q listeners.Query) Finding {
	f := Finding{
		Cause: CauseNamespace, Severity: Info,
		Evidence: map[string]any{"addr": at.Local.String(), "namespace": n.name, "inode": at.Inode, "uid": at.UID},
		Summary:  fmt.Sprintf("in another network namespace somebody listens on %s", at.Local),
	}
	l := listeners.Listener{Proto: q.Proto, LocalAddr: at.Local.Addr().String(), LocalPort: q.Port, Socket: listeners.ID{Inode: at.Inode}}
	for _, pid := range n.members {
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
		f.Summary = fmt.Sprintf("in another network namespace %s (PID %d) listens on %s", info.Name, pid, at.Local)
		f.Remedy = asRoot(append([]string{"nsenter", "--target", strconv.Itoa(pid), "--net"}, question{q, s.flags}.killport()...)...)
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
