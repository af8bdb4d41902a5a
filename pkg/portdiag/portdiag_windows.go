package portdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/killport/killport/pkg/listeners"
)

// errnoNames are those of errors that bind gives:
// https://learn.microsoft.com/windows/win32/api/winsock/nf-winsock-bind
var errnoNames = map[windows.Errno]string{
	windows.WSAEACCES:        "WSAEACCES",
	windows.WSAEADDRINUSE:    "WSAEADDRINUSE",
	windows.WSAEADDRNOTAVAIL: "WSAEADDRNOTAVAIL",
}

// bindable makes one bind on each family, without listen, and gives it up.
// With SO_EXCLUSIVEADDRUSE, without which a port can be had that belongs to
// somebody else.
func bindable(q listeners.Query) (bool, string) {
	for _, addr := range addresses(q) {
		err := bind(q.Proto, addr)
		var errno windows.Errno
		switch {
		case err == nil:
		case !errors.As(err, &errno):
			return false, err.Error()
		case errno == windows.WSAEAFNOSUPPORT || errno == windows.WSAEADDRNOTAVAIL && !q.Addr.IsValid():
			// there is no IPv6 here, or no IPv4
		case errnoNames[errno] != "":
			return false, errnoNames[errno]
		default:
			return false, fmt.Sprintf("error %d", uint32(errno))
		}
	}
	return true, ""
}

func addresses(q listeners.Query) []netip.AddrPort {
	if q.Addr.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(q.Addr, q.Port)}
	}
	return []netip.AddrPort{
		netip.AddrPortFrom(netip.IPv4Unspecified(), q.Port),
		netip.AddrPortFrom(netip.IPv6Unspecified(), q.Port),
	}
}

// exclusive is SO_EXCLUSIVEADDRUSE of winsock2.h: ~SO_REUSEADDR.
const exclusive = ^4

func bind(proto listeners.Proto, at netip.AddrPort) error {
	family, addr := sockaddr(at)
	kind := windows.SOCK_STREAM
	if proto == listeners.UDP {
		kind = windows.SOCK_DGRAM
	}
	s, err := windows.Socket(family, kind, 0)
	if err != nil {
		return err
	}
	defer windows.Closesocket(s)
	if err := windows.SetsockoptInt(s, windows.SOL_SOCKET, exclusive, 1); err != nil {
		return err
	}
	return windows.Bind(s, addr)
}

func sockaddr(at netip.AddrPort) (family int, addr windows.Sockaddr) {
	if at.Addr().Is4() {
		return windows.AF_INET, &windows.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return windows.AF_INET6, &windows.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: listeners.ZoneIndex(at.Addr().Zone())}
}

// host is what there is to know about it whatever the port, once it was asked for.
type host struct{ printed map[string][]byte } // by netsh, for those arguments

// ask is netsh, which takes a while, asked once.
func (h *host) ask(ctx context.Context, args ...string) ([]byte, error) {
	key := strings.Join(args, " ")
	if known, ok := h.printed[key]; ok {
		return known, nil
	}
	output, err := runNetsh(ctx, args...)
	if err == nil {
		if h.printed == nil {
			h.printed = map[string][]byte{}
		}
		h.printed[key] = output
	}
	return output, err
}

// explain adds the findings that are not about a holder.
func (r *Report) explain(ctx context.Context, s *Survey, q listeners.Query) error {
	byHTTP := false
	for _, l := range r.Listeners {
		switch {
		case l.Owner == listeners.OwnerNone:
			r.Findings = append(r.Findings, ghost(l))
		case l.PID == kernelPID:
			byHTTP = true
		default:
			r.add(services(l))
			r.add(relay(l))
			r.add(denied(l))
		}
	}
	if q.Proto == listeners.TCP { // which all of portproxy and http.sys is
		if err := r.forwards(q); err != nil {
			r.Unseen = append(r.Unseen, err.Error())
		}
		if byHTTP {
			r.http(ctx, q, s.ask)
		}
	}
	if r.Verdict == Blocked {
		r.excluded(ctx, q, s.ask)
		if q.Proto == listeners.TCP {
			r.sockets(ctx, q)
		}
	}
	return ctx.Err()
}

func (r *Report) add(f Finding, ok bool) {
	if ok {
		r.Findings = append(r.Findings, f)
	}
}

// ghost names those that inherited the socket.
func ghost(l Listener) Finding {
	pids, names := []int{}, []string{}
	for _, h := range l.Heirs {
		pids = append(pids, h.PID)
		names = append(names, fmt.Sprintf("%s (PID %d)", h.Name, h.PID))
	}
	f := Finding{
		Cause: CauseGhost, Severity: Error,
		Evidence: map[string]any{"addr": l.Addr(), "pid": l.PID, "heirs": pids},
		Summary:  "a socket listens whose process has ended; who inherited it cannot be seen",
		Remedy:   &Remedy{Command: l.ask.portdiag(), NeedsAdmin: true},
	}
	if len(pids) > 0 {
		slices.Sort(names)
		f.Summary = "a socket listens whose process has ended; it was inherited by " + strings.Join(names, ", ")
		f.Remedy = &Remedy{Command: l.ask.killport("--heirs")}
	}
	return f
}
