// Package listeners finds the listeners of this host and their holders: the
// first stage of the pipe, and the eyes of all the others.
package listeners

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/process"
)

// Proto is a transport protocol.
type Proto string

// The protocols. A UDP socket does not listen: what counts as one is a bound
// socket that is not connected.
const (
	TCP Proto = "TCP"
	UDP Proto = "UDP"
)

// Query asks for the listeners of a port, on every address or on one.
type Query struct {
	Proto Proto
	Addr  netip.Addr // not valid: every address
	Port  uint16     // 0: every port
}

// Args are q as a command is asked for it: 8000, or --udp 127.0.0.1:8000.
func (q Query) Args() []string {
	word := strconv.Itoa(int(q.Port))
	if q.Addr.IsValid() {
		word = netip.AddrPortFrom(q.Addr, q.Port).String()
	}
	if q.Proto == UDP {
		return []string{"--udp", word}
	}
	return []string{word}
}

// Where is the address that q asks about, with IPv6 in brackets; "" is every one.
func (q Query) Where() string {
	switch {
	case !q.Addr.IsValid():
		return ""
	case q.Addr.Is6():
		return "[" + q.Addr.String() + "]"
	}
	return q.Addr.String()
}

// Matches reports whether s is among what q asks for. A socket on a wildcard
// address is in the way of every address, and so is asked for with each.
func (q Query) Matches(s Socket) bool {
	return q.isFor(s.Proto, s.Local.Port(), s.State) && q.reaches(s)
}

// Asks is Matches for a listener; one whose address nobody can read is asked
// for with each.
func (q Query) Asks(l Listener) bool {
	if !q.isFor(l.Proto, l.LocalPort, l.State) {
		return false
	}
	at, err := netip.ParseAddr(strings.Trim(l.LocalAddr, "[]"))
	return err != nil || q.reaches(Socket{Local: netip.AddrPortFrom(at, l.LocalPort)})
}

// isFor: only who asks for their port is told of sockets that do not listen.
func (q Query) isFor(proto Proto, port uint16, state State) bool {
	return q.Proto == proto && (q.Port == port || q.Port == 0 && state != Bound)
}

func (q Query) reaches(s Socket) bool {
	want, at := q.Addr.Unmap(), s.Local.Addr().Unmap()
	switch {
	case !want.IsValid() || want == netip.IPv6Unspecified():
		return true
	case at.IsUnspecified():
		return at.Is4() == want.Is4() || at.Is6() && !s.V6Only
	case want.IsUnspecified():
		return at.Is4()
	}
	return at.WithZone("") == want.WithZone("") && isIn(at.Zone(), want.Zone())
}

// State says of a TCP socket that it does not listen; "" if it does.
type State string

// Bound is a socket that is bound and does not listen, or not yet: nobody else
// can have its address meanwhile. The kernel shows it from Linux 6.8 on; see
// [ShowsBound].
const Bound State = "bound"

// Socket is one row of the kernel's table of listeners.
type Socket struct {
	Proto  Proto
	Local  netip.AddrPort // with a zone where the address is link-local
	V6Only bool
	Device string // the interface that it is bound to (SO_BINDTODEVICE), if its address has no zone
	State  State
	UID    uint32 // of who made the socket; not on Windows
	PID    uint32 // whom the table of Windows names; that process may be gone
	ID     ID
}

// ID tells a socket from all others of this host.
type ID struct {
	// Inode is the socket's number in /proc/PID/fd. The kernel gives it again
	// after 2^32 sockets.
	Inode uint64 `json:"inode"`
	// Cookie is given once per boot (sock_gen_cookie, net/core/sock_diag.c), in
	// hexadecimal; "" if the table was not read over sock_diag.
	Cookie string `json:"cookie,omitempty"`
	// Source is "proc_net" if the table was read from /proc/net, since
	// sock_diag was refused.
	Source string `json:"source,omitempty"`
	// Row is what Windows has instead of a number, which is 0 there: protocol, address and time of
	// the bind (FILETIME), or the PID in the table where the time is unknown. It
	// is opaque: "TCP 127.0.0.1:8000 @134398422001234567".
	Row string `json:"row,omitempty"`
}

// Same reports whether a and b are one socket.
func (a ID) Same(b ID) bool {
	if a.Cookie != "" && b.Cookie != "" {
		return a.Cookie == b.Cookie
	}
	return a.Key() == b.Key()
}

// Key is the part of a that every reading of the table gives, whatever it was
// read from. Two sockets that are there at the same time differ in it.
func (a ID) Key() ID { return ID{Inode: a.Inode, Row: a.Row} }

// IsZero reports whether a names no socket.
func (a ID) IsZero() bool { return a.Key() == ID{} }

// Owner says why no holder is named.
type Owner string

const (
	// OwnerHidden: we cannot look everywhere; HiddenBy says why.
	OwnerHidden Owner = "hidden"
	// OwnerNone: we could look everywhere, and nobody has it. A ghost. On
	// Windows its PID is the one in the table, whose process has ended, or was
	// created after the bind: the PID is another's now.
	OwnerNone Owner = "none"
)

// HiddenBy says what hides the holders of a socket.
type HiddenBy string

const (
	// ByPermission: there are processes into which we may not look.
	ByPermission HiddenBy = "permission"
	// ByNamespace: a process outside of our PID namespace may have it.
	ByNamespace HiddenBy = "namespace"
	// ByBirths: processes were born faster than we could look at them.
	ByBirths HiddenBy = "births"
)

// Listener is one socket with one of its holders: the record of this stage.
type Listener struct {
	Proto     Proto         `json:"proto"`
	LocalAddr string        `json:"local_addr"` // IPv6 in brackets
	LocalPort uint16        `json:"local_port"`
	Device    string        `json:"device,omitempty"` // the interface that the socket is bound to (SO_BINDTODEVICE)
	State     State         `json:"state,omitempty"`
	PID       int           `json:"pid"` // of no process if there is an Owner
	Owner     Owner         `json:"owner,omitempty"`
	HiddenBy  HiddenBy      `json:"hidden_by,omitempty"` // if Owner is hidden
	Birth     process.Birth `json:"birth,omitempty"`
	Identity  string        `json:"identity,omitempty"` // "weak" if Birth is
	FD        *int          `json:"fd,omitempty"`       // of the holder; absent if it has the socket in another way
	UID       *uint32       `json:"uid,omitempty"`      // of the socket
	User      string        `json:"user,omitempty"`     // the name of that user; on Windows, of the holder
	Socket    ID            `json:"socket"`
	Heirs     []Heir        `json:"heirs,omitempty"` // of a ghost, on Windows

	// Protected is [process.ProtectedPipeline] if the holder stands before or
	// behind this stage in a pipeline. Stages that come after it may not see
	// that: whoever is between them has ended by then.
	Protected process.Protection `json:"protected,omitempty"`
}

// Heir is a process that was seen to have the socket of a ghost: it inherited
// it from the process that bound it.
type Heir struct {
	PID   int           `json:"pid"`
	Name  string        `json:"name,omitempty"`
	Birth process.Birth `json:"birth,omitempty"`
}

// Listener is the record of an heir as a holder of the ghost's socket.
func (h Heir) Listener(ghost Listener) Listener {
	ghost.PID, ghost.Birth, ghost.Owner, ghost.Heirs = h.PID, h.Birth, "", nil
	return ghost
}

// At is l with what the kernel says of its socket in place of what l says.
func (l Listener) At(s Socket) Listener {
	at := s.Listener()
	l.Proto, l.LocalAddr, l.LocalPort, l.Device, l.State, l.Socket = at.Proto, at.LocalAddr, at.LocalPort, at.Device, at.State, at.Socket
	return l
}

// Query asks for the port of l again, on every address.
func (l Listener) Query() Query { return Query{Proto: l.Proto, Port: l.LocalPort} }

// Alone asks for what is at the address of l: for its port, if that is a
// wildcard.
func (l Listener) Alone() Query {
	q := l.AtAddress()
	if q.Addr.IsUnspecified() {
		return l.Query()
	}
	return q
}

// AtAddress asks for what is in the way of the address of l, as far as that can
// be read.
func (l Listener) AtAddress() Query {
	q := l.Query()
	if at, err := netip.ParseAddr(strings.Trim(l.LocalAddr, "[]")); err == nil {
		q.Addr = at
	}
	return q
}

// Sockets reads the kernel's table: what listens, or is bound on a TCP port
// that is asked for, and not who holds it. No query asks for every TCP listener.
func Sockets(ctx context.Context, queries ...Query) ([]Socket, error) {
	if len(queries) == 0 {
		queries = []Query{{Proto: TCP}}
	}
	all, err := sockets(ctx, queries)
	if err != nil {
		return nil, err
	}
	byPort := map[uint16][]Query{}
	for _, q := range queries {
		byPort[q.Port] = append(byPort[q.Port], q)
	}
	found := slices.DeleteFunc(all, func(s Socket) bool {
		asks := func(q Query) bool { return q.Matches(s) }
		return !slices.ContainsFunc(byPort[s.Local.Port()], asks) && !slices.ContainsFunc(byPort[0], asks)
	})
	slices.SortFunc(found, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Local.Port(), b.Local.Port()), a.Local.Compare(b.Local), cmp.Compare(a.ID.Inode, b.ID.Inode), cmp.Compare(a.ID.Row, b.ID.Row), cmp.Compare(a.State, b.State))
	})
	return slices.CompactFunc(found, func(a, b Socket) bool { return a.ID.Same(b.ID) && a.Local == b.Local }), nil
}

// List finds the listeners that the queries ask for, with every holder of
// each, as of now.
func List(ctx context.Context, queries ...Query) ([]Listener, error) {
	found, err := Sockets(ctx, queries...)
	if slices.ContainsFunc(found, isBound) {
		found, err = lasting(ctx, found, queries)
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return Holders(ctx, found)
}

func isBound(s Socket) bool { return s.State == Bound }

// passing is for how long a socket may be bound and be nobody's concern: who looks
// whether a port can be had binds it for a moment, as portdiag and classify do,
// and a server does before it listens.
const passing = 10 * time.Millisecond

// lasting looks again, and leaves out what was not bound a moment ago.
func lasting(ctx context.Context, before []Socket, queries []Query) ([]Socket, error) {
	select {
	case <-time.After(passing):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	known := map[ID]bool{}
	for _, s := range before {
		known[s.ID] = true
	}
	now, err := Sockets(ctx, queries...)
	return slices.DeleteFunc(now, func(s Socket) bool { return isBound(s) && !known[s.ID] }), err
}

// ShowsBound reports whether the table shows sockets that are bound and do not
// listen: it binds one, and looks.
func ShowsBound(ctx context.Context) bool { return showsBound(ctx) }

// Holders names the holders of sockets that the table held a moment ago. One
// that has been closed since has no line.
func Holders(ctx context.Context, found []Socket) ([]Listener, error) { return holders(ctx, found) }

// Among names those of the processes that have some of the sockets: a look at few,
// where Holders looks at all. It is for Linux.
func Among(pids []int, found []Socket) []Listener { return among(pids, found) }

// Holds reports whether the pinned process has the socket of l open. An error
// means that we may not look.
func Holds(p *process.Pin, l Listener) (bool, error) { return holds(p, l) }

// Held returns those of the sockets that the pinned process has open, in as far
// as we may look.
func Held(p *process.Pin, among []Socket) ([]Socket, error) { return heldBy(p, among) }

// Unhide says what helps to see the holders of l, which are hidden; command is
// how to look again.
func Unhide(l Listener, command string) string { return unhide(l.HiddenBy, command) }

// CloseGhost closes the socket of l in the kernel, if there is provably nobody
// who has it. It takes root. Whether the socket is gone then, the table says.
func CloseGhost(ctx context.Context, l Listener) error {
	found, err := Sockets(ctx, l.Query())
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(s Socket) bool { return !s.ID.Same(l.Socket) })
	lines, err := Holders(ctx, found)
	if err != nil {
		return err
	}
	for i, line := range lines {
		if line.Owner != OwnerNone {
			return errors.New("somebody has it")
		}
		if err := closeSocket(ctx, found[i]); err != nil {
			return err
		}
	}
	return nil
}

// Source lists, once.
func Source(queries ...Query) jsonl.Source {
	return func(ctx context.Context) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			found, err := List(ctx, queries...)
			if err != nil {
				yield(jsonl.Record{}, err)
				return
			}
			for _, l := range found {
				if neighbour, _ := process.InPipeline(l.PID); neighbour && l.Owner == "" { // the other stages look for themselves
					l.Protected = process.ProtectedPipeline
				}
				if r, err := jsonl.New(l); !yield(r, err) {
					return
				}
			}
		}
	}
}

// Parse reads the members of a listener from a record, strictly: its holder
// may be killed because of what stands there. Those members that tell the
// identity may be absent; what is there must be right.
func Parse(r jsonl.Record) (Listener, error) {
	var l Listener
	pid, err := r.Uint("pid", 0, process.MaxPID)
	if err != nil {
		return l, err
	}
	port, err := r.Uint("local_port", 1, 1<<16-1)
	if err != nil {
		return l, err
	}
	l.PID, l.LocalPort = int(pid), uint16(port)
	if l.LocalAddr, err = r.OptionalText("local_addr"); err != nil {
		return l, err
	}
	for _, word := range []struct {
		key  string
		into *string
	}{
		{"proto", (*string)(&l.Proto)},
		{"state", (*string)(&l.State)},
		{"owner", (*string)(&l.Owner)},
		{"hidden_by", (*string)(&l.HiddenBy)},
		{"birth", (*string)(&l.Birth)},
		{"protected", (*string)(&l.Protected)},
	} {
		if *word.into, err = r.OptionalText(word.key); err != nil {
			return l, err
		}
	}
	if r.Has("fd") {
		fd, err := r.Uint("fd", 0, 1<<31-1)
		if err != nil {
			return l, err
		}
		l.FD = new(int(fd))
	}
	l.Proto = cmp.Or(l.Proto, TCP)
	if err := l.parseSocket(r); err != nil {
		return l, err
	}
	if err := l.check(r); err != nil {
		return l, err
	}
	return l, l.parseHeirs(r)
}

func (l *Listener) check(r jsonl.Record) error {
	switch {
	case l.Proto != TCP && l.Proto != UDP:
		return r.Errorf("member %q is %q, want %q or %q", "proto", l.Proto, TCP, UDP)
	case l.Owner != "" && l.Owner != OwnerHidden && l.Owner != OwnerNone:
		return r.Errorf("member %q is %q, want %q or %q", "owner", l.Owner, OwnerHidden, OwnerNone)
	case l.State != "" && l.State != Bound:
		return r.Errorf("member %q is %q, want %q", "state", l.State, Bound)
	case l.HiddenBy != "" && l.Owner != OwnerHidden:
		return r.Errorf("member %q is there, and %q is not %q", "hidden_by", "owner", OwnerHidden)
	case l.Protected != "" && l.Protected != process.ProtectedPipeline:
		return r.Errorf("member %q is %q, want %q", "protected", l.Protected, process.ProtectedPipeline)
	case l.Protected != "" && l.Owner != "":
		return r.Errorf("member %q is %q and %q is %q: only one can be", "protected", l.Protected, "owner", l.Owner)
	case l.PID == 0 && l.Owner == "":
		return r.Errorf("member %q is 0 and there is no %q to say why", "pid", "owner")
	case l.PID != 0 && l.Owner != "" && (l.Owner == OwnerHidden || l.Socket.Row == ""):
		return r.Errorf("member %q is %d and %q is %q: only one can be", "pid", l.PID, "owner", l.Owner)
	}
	return nil
}

func (l *Listener) parseSocket(r jsonl.Record) error {
	if !r.Has("socket") {
		return nil
	}
	socket, err := r.Object("socket")
	if err != nil {
		return err
	}
	if l.Socket.Row, err = socket.OptionalText("row"); err != nil {
		return err
	}
	if l.Socket.Inode, err = socket.Uint("inode", 0, 1<<64-1); err != nil {
		return err
	}
	l.Socket.Cookie, err = socket.OptionalText("cookie")
	return err
}

// parseHeirs reads the heirs, of a ghost alone.
func (l *Listener) parseHeirs(r jsonl.Record) error {
	if l.Owner != OwnerNone || !r.Has("heirs") {
		return nil
	}
	heirs, err := r.Objects("heirs")
	if err != nil {
		return err
	}
	for _, heir := range heirs {
		pid, err := heir.Uint("pid", 1, process.MaxPID)
		if err != nil {
			return err
		}
		birth, err := heir.OptionalText("birth")
		if err != nil {
			return err
		}
		l.Heirs = append(l.Heirs, Heir{PID: int(pid), Birth: process.Birth(birth)})
	}
	return nil
}

// Listener is the record of s without a holder.
func (s Socket) Listener() Listener {
	addr := s.Local.Addr().String()
	if s.Local.Addr().Is6() {
		addr = "[" + addr + "]"
	}
	return Listener{
		Proto: s.Proto, LocalAddr: addr, LocalPort: s.Local.Port(), Device: s.Device, State: s.State,
		UID: &s.UID, User: userName(s.UID), Socket: s.ID,
	}
}

// names are those of the users that were looked up.
var names sync.Map

// userName looks up who has uid; "" if nobody can tell.
func userName(uid uint32) string {
	if name, ok := names.Load(uid); ok {
		return name.(string)
	}
	var name string
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		name = u.Username
	}
	names.Store(uid, name)
	return name
}

// Addr is where l listens: "127.0.0.1:8000", "[::]:8000".
func (l Listener) Addr() string {
	return fmt.Sprintf("%s:%d", l.LocalAddr, l.LocalPort)
}
