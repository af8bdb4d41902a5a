package portdiag

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/inetdiag"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// bindable makes one bind, without listen, and gives it up: on both IPv4 and
// IPv6 at once where there is IPv6. With SO_REUSEADDR, as servers do it, so
// that connections in TIME_WAIT do not count; for UDP that would let us in
// beside others.
func bindable(q listeners.Query) (bool, string) {
	err := bind(q, q.Proto == listeners.TCP)
	if err == nil {
		return true, ""
	}
	return false, cmp.Or(unix.ErrnoName(err.(unix.Errno)), err.Error())
}

func bind(q listeners.Query, reuse bool) error {
	family, addr := sockaddr(q)
	kind := unix.SOCK_STREAM
	if q.Proto == listeners.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err == unix.EAFNOSUPPORT && family == unix.AF_INET6 && !q.Addr.IsValid() {
		q.Addr = netip.IPv4Unspecified()
		return bind(q, reuse)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 && !q.Addr.IsValid() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	if reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, addr)
}

func sockaddr(q listeners.Query) (family int, addr unix.Sockaddr) {
	if q.Addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(q.Port), Addr: q.Addr.As4()}
	}
	at := &unix.SockaddrInet6{Port: int(q.Port)}
	if q.Addr.IsValid() {
		at.Addr = q.Addr.As16()
	}
	return unix.AF_INET6, at
}

// explain adds the findings that are not about a holder.
func (r *Report) explain(ctx context.Context, q listeners.Query) error {
	if slices.ContainsFunc(r.Listeners, func(l Listener) bool { return l.Owner == listeners.OwnerNone }) {
		r.Findings = append(r.Findings, r.kernelOr(q, r.ghost()))
	}
	if len(r.Listeners) == 0 {
		if err := r.sockets(ctx, q); err != nil {
			r.Unseen = append(r.Unseen, err.Error())
		}
	}
	r.elsewhere(ctx, q)
	if f, ok := privileged(q, r.BindError); ok {
		r.Findings = append(r.Findings, f)
	}
	return ctx.Err()
}

// sockets explains a port on which nobody listens by the other sockets that
// have it as their local port.
func (r *Report) sockets(ctx context.Context, q listeners.Query) error {
	if q.Proto != listeners.TCP {
		return nil
	}
	const all = 1<<(inetdiag.StateBoundInactive+1) - 1
	var bound, waiting, open []inetdiag.Socket
	err := listeners.Dump(ctx, unix.IPPROTO_TCP, all&^(1<<inetdiag.StateListen), q.Port, func(s inetdiag.Socket) {
		switch s.State {
		case inetdiag.StateClose: // as the kernel calls those of BoundInactive
			bound = append(bound, s)
		case inetdiag.StateTimeWait:
			waiting = append(waiting, s)
		default:
			open = append(open, s)
		}
	})
	if err != nil {
		return err
	}
	severity := Error
	if r.Bindable {
		severity = Warning
	}
	for _, s := range bound {
		r.Findings = append(r.Findings, boundFinding(ctx, s, severity))
	}
	if len(open) > 0 {
		r.Findings = append(r.Findings, connectionFinding(ctx, open, severity))
	}
	if len(waiting) > 0 {
		r.Findings = append(r.Findings, timeWaitFinding(q, waiting))
	}
	return nil
}

func boundFinding(ctx context.Context, s inetdiag.Socket, severity Severity) Finding {
	pids := holdersOf(ctx, s)
	f := Finding{
		Cause: CauseBound, Severity: severity,
		Evidence: map[string]any{"addr": s.Local.String(), "uid": s.UID, "inode": s.Inode, "pids": pids},
		Summary:  fmt.Sprintf("%s is bound, and nobody listens on it: %s", s.Local, people(pids)),
	}
	f.Remedy = end(pids, s.UID)
	return f
}

func connectionFinding(ctx context.Context, open []inetdiag.Socket, severity Severity) Finding {
	var remotes []string
	pids := []int{}
	for _, s := range open[:min(len(open), 10)] {
		remotes = append(remotes, s.Remote.String())
		pids = append(pids, holdersOf(ctx, s)...)
	}
	slices.Sort(pids)
	pids = slices.Compact(pids)
	return Finding{
		Cause: CauseConnection, Severity: severity,
		Evidence: map[string]any{"count": len(open), "remotes": remotes, "pids": pids},
		Summary:  fmt.Sprintf("%s as local port: %s", count(len(open), "connection has it", "connections have it"), people(pids)),
		Remedy:   end(pids, open[0].UID),
	}
}

// timeWaitFinding: the kernel keeps the address of a connection that was
// closed for a minute. A bind without SO_REUSEADDR fails meanwhile.
func timeWaitFinding(q listeners.Query, waiting []inetdiag.Socket) Finding {
	var longest time.Duration
	for _, s := range waiting {
		longest = max(longest, s.Expires)
	}
	f := Finding{
		Cause: CauseTimeWait, Severity: Info,
		Evidence: map[string]any{"count": len(waiting), "clears_in_ms": longest.Milliseconds()},
		Summary:  count(len(waiting), "connection", "connections") + " in TIME_WAIT, in the way of no server that sets SO_REUSEADDR",
	}
	if bind(q, false) != nil {
		f.Severity = Warning
		f.Summary = fmt.Sprintf("%s in TIME_WAIT for another %.0f s: until then a server must set SO_REUSEADDR, or it cannot have the port",
			count(len(waiting), "connection", "connections"), longest.Seconds())
	}
	return f
}

// holdersOf returns the PIDs that have the socket open.
func holdersOf(ctx context.Context, s inetdiag.Socket) []int {
	pids := []int{}
	lines, _ := listeners.Holders(ctx, []listeners.Socket{{
		Proto: listeners.TCP, Local: s.Local, UID: s.UID, ID: listeners.ID{Inode: uint64(s.Inode)},
	}})
	for _, l := range lines {
		if l.PID != 0 {
			pids = append(pids, l.PID)
		}
	}
	return pids
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func people(pids []int) string {
	var names []string
	for _, pid := range pids {
		names = append(names, fmt.Sprintf("%s (PID %d)", name(pid), pid))
	}
	if len(names) == 0 {
		return "nobody that we can see has it"
	}
	return strings.Join(names, ", ")
}

func name(pid int) string {
	p, err := process.Open(pid)
	if err != nil {
		return "a process"
	}
	defer p.Close()
	info, err := p.Inspect()
	if err != nil {
		return "a process"
	}
	return info.Name
}

// end is the remedy for what one process, of a user, holds and killport does
// not end.
func end(pids []int, uid uint32) *Remedy {
	if len(pids) != 1 {
		return nil
	}
	command := []string{"kill", strconv.Itoa(pids[0])}
	needsAdmin := foreign(uid)
	if needsAdmin {
		command = append([]string{"sudo"}, command...)
	}
	return &Remedy{Command: command, NeedsAdmin: needsAdmin}
}

// privileged: ports below net.ipv4.ip_unprivileged_port_start, for IPv6 too,
// take CAP_NET_BIND_SERVICE (ip(7)); bind says EACCES.
func privileged(q listeners.Query, bindError string) (Finding, bool) {
	const setting = "net.ipv4.ip_unprivileged_port_start"
	start := 1024
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		start, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if bindError != "EACCES" || int(q.Port) >= start {
		return Finding{}, false
	}
	return Finding{
		Cause: CausePrivileged, Severity: Error,
		Evidence: map[string]any{"unprivileged_port_start": start},
		Summary:  fmt.Sprintf("ports below %d take a privilege that we do not have", start),
		Remedy:   &Remedy{Command: []string{"sudo", "sysctl", fmt.Sprintf("%s=%d", setting, q.Port)}, NeedsAdmin: true},
	}, true
}

// ghost looks for processes that may have the socket without having it open:
// it may be in flight in a Unix socket of theirs (unix(7), SCM_RIGHTS), or with
// an io_uring of theirs.
func (r *Report) ghost() Finding {
	var inflight, rings []int
	pids, _ := process.All()
	for _, pid := range pids {
		queued, ring := candidate(pid)
		if queued {
			inflight = append(inflight, pid)
		}
		if ring {
			rings = append(rings, pid)
		}
	}
	slices.Sort(inflight)
	slices.Sort(rings)
	f := Finding{
		Cause: CauseGhost, Severity: Error,
		Evidence: map[string]any{"scm_fds": nonNil(inflight), "io_uring": nonNil(rings)},
		Summary:  "a socket listens that no process has open",
	}
	both := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(inflight), rings...))))
	if len(both) > 0 {
		f.Summary += "; it may be with " + people(both)
		f.Remedy = end(both, 0)
	}
	return f
}

// nonNil keeps an empty list from being null.
func nonNil(pids []int) []int { return append([]int{}, pids...) }

// candidate reports whether a process has a Unix socket with descriptors in
// flight (the line scm_fds of its fdinfo, since Linux 5.6), or an io_uring.
func candidate(pid int) (inflight, ring bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false, false
	}
	for _, fd := range fds {
		link, _ := os.Readlink(dir + "/fd/" + fd.Name())
		switch {
		case link == "anon_inode:[io_uring]":
			ring = true
		case strings.HasPrefix(link, "socket:"):
			b, _ := os.ReadFile(dir + "/fdinfo/" + fd.Name())
			inflight = inflight || inFlight(b) > 0
		}
	}
	return inflight, ring
}

// inFlight reads the line "scm_fds: 1" of a fdinfo.
func inFlight(fdinfo []byte) int {
	lines := bufio.NewScanner(bytes.NewReader(fdinfo))
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "scm_fds:"); ok {
			count, _ := strconv.Atoi(strings.TrimSpace(n))
			return count
		}
	}
	return 0
}
