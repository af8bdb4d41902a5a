package portdiag

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
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
		at.Addr, at.ZoneId = q.Addr.As16(), listeners.ZoneIndex(q.Addr.Zone())
	}
	return unix.AF_INET6, at
}

// explain adds the findings that are not about a holder.
func (r *Report) explain(ctx context.Context, s *Survey, q listeners.Query) error {
	r.nobodys(ctx, s, q)
	if !slices.ContainsFunc(r.Listeners, listens) {
		if err := r.sockets(ctx, q); err != nil {
			r.Unseen = append(r.Unseen, err.Error())
		}
	}
	r.elsewhere(ctx, s, q)
	if f, ok := privileged(q, r.BindError); ok {
		r.Findings = append(r.Findings, f)
	}
	return ctx.Err()
}

// inTheWay is f, which is no more than a warning if bind says that the port can be
// had.
func (r *Report) inTheWay(f Finding) Finding {
	if r.Bindable {
		f.Severity = Warning
	}
	return f
}

// timerTimeWait is the timer of a connection that nobody has any more, and that the
// kernel forgets when it fires: one in TIME_WAIT, or in FIN_WAIT2 before that
// (inet_twsk_diag_fill, net/ipv4/inet_diag.c).
const timerTimeWait = 3

// sockets explains a port on which nobody listens by the connections that have
// it as their local port. A UDP socket that is connected is in state ESTABLISHED.
func (r *Report) sockets(ctx context.Context, q listeners.Query) error {
	protocol, states := uint8(unix.IPPROTO_TCP), uint32(1<<inetdiag.StateBoundInactive-1)&^(1<<inetdiag.StateListen)
	if q.Proto == listeners.UDP {
		protocol, states = unix.IPPROTO_UDP, 1<<inetdiag.StateEstablished
	}
	var waiting, open []inetdiag.Socket
	err := listeners.Dump(ctx, protocol, states, q.Port, func(s inetdiag.Socket) {
		switch {
		case !q.Matches(listeners.Socket{Proto: q.Proto, Local: s.Local}): // of another address
		case s.State == inetdiag.StateTimeWait, s.Timer == timerTimeWait:
			waiting = append(waiting, s)
		default:
			open = append(open, s)
		}
	})
	if len(open) > 0 {
		r.Findings = append(r.Findings, r.inTheWay(connected(ctx, q, open)))
	}
	if len(waiting) > 0 {
		r.Findings = append(r.Findings, r.waits(q, waiting))
	}
	if len(r.Listeners) == 0 && len(open) == 0 && q.Proto == listeners.TCP && r.BindError == "EADDRINUSE" && !listeners.ShowsBound(ctx) {
		r.Unseen = append(r.Unseen, "sockets that are bound and do not listen: to see them takes sock_diag, and Linux 6.8 or later")
	}
	return err
}

func connected(ctx context.Context, q listeners.Query, open []inetdiag.Socket) Finding {
	var remotes []string
	left := true // by those who had it
	for _, s := range open {
		if len(remotes) < 10 {
			remotes = append(remotes, s.Remote.String())
		}
		left = left && s.Inode == 0
	}
	pids := holdersOf(ctx, q.Proto, open)
	who := people(pids)
	if left {
		who = "nobody has it any more, and the kernel is ending it"
	}
	f := Finding{
		Cause: CauseConnection, Severity: Error,
		Evidence: map[string]any{"count": len(open), "remotes": remotes, "pids": pids},
		Summary:  fmt.Sprintf("%s as local port: %s", count(len(open), "connection has it", "connections have it"), who),
	}
	if !left {
		f.Remedy = endOrLook(ctx, q, pids)
	}
	return f
}

// tardy is how late the kernel may let go of a connection in TIME_WAIT: a
// timer is late by an eighth of its time at most (kernel/time/timer.c), and
// this one is for a minute (TCP_TIMEWAIT_LEN of include/net/tcp.h).
const tardy = time.Minute / 8

// waits: the kernel keeps the address of a connection that was closed for a
// minute. A bind without SO_REUSEADDR fails meanwhile, and so does every bind
// if the connection was of a socket without it.
func (r *Report) waits(q listeners.Query, waiting []inetdiag.Socket) Finding {
	var longest time.Duration
	for _, s := range waiting {
		longest = max(longest, s.Expires)
	}
	connections := count(len(waiting), "connection", "connections")
	f := Finding{
		Cause: CauseTimeWait, Severity: Info,
		Evidence: map[string]any{"count": len(waiting), "clears_in_ms": longest.Milliseconds()},
		Summary:  connections + " in TIME_WAIT, in the way of no server that sets SO_REUSEADDR",
		Remedy:   &Remedy{Command: []string{"sleep", fmt.Sprintf("%.0f", math.Ceil((longest + tardy).Seconds()))}},
	}
	switch {
	case r.BindError == "EADDRINUSE" && len(r.Listeners) == 0 && !r.has(CauseConnection):
		f.Severity = Error
		f.Summary = fmt.Sprintf("%s in TIME_WAIT for another %.0f s: until then no server can have the port", connections, longest.Seconds())
	case bind(q, false) != nil:
		f.Severity = Warning
		f.Summary = fmt.Sprintf("%s in TIME_WAIT for another %.0f s: until then a server must set SO_REUSEADDR, or it cannot have the port",
			connections, longest.Seconds())
	}
	return f
}

// holdersOf returns the PIDs that have some of the sockets open.
func holdersOf(ctx context.Context, proto listeners.Proto, sockets []inetdiag.Socket) []int {
	var of []listeners.Socket
	for _, s := range sockets {
		of = append(of, listeners.Socket{Proto: proto, Local: s.Local, UID: s.UID, ID: listeners.ID{Inode: uint64(s.Inode)}})
	}
	pids := []int{}
	lines, _ := listeners.Holders(ctx, of)
	for _, l := range lines {
		if l.PID != 0 {
			pids = append(pids, l.PID)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
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

func name(pid int) string { return cmp.Or(process.Glance(pid).Name, "a process") }

// endOrLook is the remedy for holders of sockets that do not listen, of whom
// some may be hidden.
func endOrLook(ctx context.Context, q listeners.Query, pids []int) *Remedy {
	if len(pids) == 0 && !process.MayTraceAll() {
		return lookAsRoot(question{Query: q})
	}
	return end(ctx, q, pids)
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
		Remedy:   asRoot("sysctl", fmt.Sprintf("%s=%d", setting, q.Port)),
	}, true
}

// ghost looks for processes that may have the socket without having it open.
// If that cannot be told, the kernel can be asked to close it: it does not do
// that to a UDP socket (udp_abort leaves it bound), nor to one that is merely bound.
//
// The kernel's own services may have it too, and would not be the same without.
func ghost(ctx context.Context, q question, l listeners.Listener, kernel []string) Finding {
	var by suspects
	pids, _ := process.All()
	slices.Sort(pids)
	for _, pid := range pids {
		by.look(pid)
	}
	f := Finding{
		Cause: CauseGhost, Severity: Error,
		Evidence: map[string]any{"scm_fds": nonNil(by.inflight), "io_uring": nonNil(by.rings), "exiting": nonNil(by.exiting), "kernel": kernel},
		Summary:  "a socket " + Listener{Listener: l}.has() + " " + l.Addr() + " that no process has open",
	}
	alive := slices.Compact(slices.Sorted(slices.Values(slices.Concat(by.inflight, by.rings))))
	if len(alive) > 0 {
		f.Summary += "; it may be with " + people(alive)
	}
	if len(by.exiting) > 0 {
		f.Summary += "; wait for " + people(by.exiting) + ", which closes what it had"
	}
	if len(alive) == 1 && len(by.exiting) == 0 {
		f.Remedy = end(ctx, q.Query, alive)
	}
	if len(kernel) > 0 {
		f.Summary += "; or with the kernel: " + strings.Join(kernel, ", ")
	}
	if f.Remedy == nil && len(kernel) == 0 && l.Proto == listeners.TCP && l.State != listeners.Bound && process.Outermost() {
		f.Remedy = asRoot(q.killport("--close-ghosts")...)
	}
	return f
}

// nonNil keeps an empty list from being null.
func nonNil(pids []int) []int { return append([]int{}, pids...) }

// suspects are processes that may have a socket without having it open: in
// flight in a Unix socket of theirs (unix(7), SCM_RIGHTS; the line scm_fds of
// its fdinfo, since Linux 5.6), with an io_uring of theirs, or on their way out,
// when they show no files any more (exit_files of kernel/exit.c): to close
// one can take long, that of a dead NFS server for example.
type suspects struct{ inflight, rings, exiting []int }

func (s *suspects) look(pid int) {
	dir := "/proc/" + strconv.Itoa(pid)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return
	}
	if len(fds) == 0 {
		if p, err := process.Open(pid); err == nil {
			if p.Exiting() && !p.Exited() {
				s.exiting = append(s.exiting, pid)
			}
			p.Close()
		}
		return
	}
	inflight, ring := false, false
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
	if inflight {
		s.inflight = append(s.inflight, pid)
	}
	if ring {
		s.rings = append(s.rings, pid)
	}
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
