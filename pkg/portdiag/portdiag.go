// Package portdiag explains a port: is it free, who holds it, why can it not
// be had, what helps. It only reads.
package portdiag

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// Verdict is how it stands with a port.
type Verdict string

// The verdicts.
const (
	Free    Verdict = "free"    // it can be had
	Held    Verdict = "held"    // somebody listens, or has bound it, and we know who
	Hidden  Verdict = "hidden"  // somebody does, and we may not see who
	Ghost   Verdict = "ghost"   // there is such a socket, and nobody has it
	Blocked Verdict = "blocked" // there is none, and yet it cannot be had
)

// Report is the record of a port.
type Report struct {
	Port      uint16          `json:"port"`
	Proto     listeners.Proto `json:"proto,omitempty"` // only if it is not TCP
	Addr      string          `json:"addr,omitempty"`  // that was asked about, IPv6 in brackets
	Verdict   Verdict         `json:"verdict"`
	Bindable  bool            `json:"bindable"`             // a bind was made, and given up
	BindError string          `json:"bind_error,omitempty"` // or it failed: EADDRINUSE, EACCES …
	Listeners []Listener      `json:"listeners"`
	Findings  []Finding       `json:"findings"`
	Unseen    []string        `json:"unseen,omitempty"`   // what could not be looked at, and why
	Isolated  []string        `json:"isolated,omitempty"` // namespaces that are not the host's: pid, net
}

// Listener is a listener with what pidcheck says of its holder.
type Listener struct {
	listeners.Listener
	Check pidcheck.Result `json:"pidcheck"`
	Why   []Link          `json:"why,omitempty"` // from the socket to what started it

	ask  question // about it alone
	also []string // what else is freed with its holder
}

// Cause is the word for what a finding is about.
type Cause string

// The causes.
const (
	CauseListener   Cause = "listener"          // a process listens
	CauseContainer  Cause = "container"         // for a container, or in one
	CauseUnit       Cause = "unit"              // for a service of systemd
	CauseSocketUnit Cause = "socket_unit"       // systemd listens, on behalf of a service
	CauseSupervisor Cause = "supervisor"        // a process above it may start it again
	CauseSSHForward Cause = "ssh_forward"       // ssh forwards the port
	CauseKernel     Cause = "kernel"            // a service or a tunnel of the kernel has the port
	CauseDNAT       Cause = "dnat"              // the packet filter sends the port elsewhere
	CauseNamespace  Cause = "other_namespace"   // it is listened on in another network namespace
	CauseReserved   Cause = "reserved_port"     // clients do not get the port
	CauseEphemeral  Cause = "ephemeral_port"    // clients may get the port
	CauseProtected  Cause = "protected"         // and it is one that killport does not end
	CauseHidden     Cause = "hidden"            // a process listens which we may not see
	CauseGhost      Cause = "ghost"             // a socket listens that nobody has open
	CauseBound      Cause = "bound"             // a process has bound the port and does not listen
	CauseConnection Cause = "connection"        // connections have the port as their local one
	CauseTimeWait   Cause = "time_wait"         // connections have ended a moment ago
	CauseService    Cause = "service"           // the process that listens is a service of Windows, or several
	CauseRelay      Cause = "relay"             // a program listens on behalf of WSL or Docker
	CauseDenied     Cause = "denied"            // we lack the permission to end the process that listens
	CauseForward    Cause = "portproxy"         // Windows passes the port on to another
	CauseHTTPQueue  Cause = "http_servicestate" // a program has URLs of the port with http.sys
	CauseHTTP       Cause = "http_service"      // http.sys listens: the kernel, on behalf of programs
	CauseExcluded   Cause = "excluded_range"    // Windows keeps the port from everybody
	CausePrivileged Cause = "privileged_port"   // ports this low take a privilege
	CauseAbsent     Cause = "absent_address"    // the address is none of this host
)

// Severity says whether a finding stands in the way.
type Severity string

// The severities.
const (
	Info    Severity = "info"    // it does not
	Warning Severity = "warning" // it does, for some programs
	Error   Severity = "error"   // it does
)

// Finding is one reason for the verdict.
type Finding struct {
	Cause    Cause          `json:"cause"`
	Severity Severity       `json:"severity"`
	Summary  string         `json:"summary"`  // a sentence for people
	Evidence map[string]any `json:"evidence"` // a number has its unit in its name
	Remedy   *Remedy        `json:"remedy,omitempty"`
}

// Remedy is what helps.
type Remedy struct {
	Command    []string `json:"command"`
	NeedsAdmin bool     `json:"needs_admin"`
}

// asRoot is a remedy that takes root.
func asRoot(command ...string) *Remedy {
	return &Remedy{Command: process.Elevated(command...), NeedsAdmin: true}
}

// lookAsRoot is the remedy for not seeing a holder; nil if root would see no
// more, or if we are root.
func lookAsRoot(q question) *Remedy {
	if process.Visible() != nil || os.Geteuid() == 0 {
		return nil
	}
	return asRoot(q.portdiag()...)
}

// Source explains each port.
func Source(queries ...listeners.Query) jsonl.Source {
	return func(ctx context.Context) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			s, ctx := NewSurvey(nil, queries...), manager.Remember(ctx)
			for some := range slices.Chunk(queries, batch) {
				found, err := listeners.List(ctx, some...)
				if err != nil {
					yield(jsonl.Record{}, err)
					return
				}
				for _, q := range some {
					var r jsonl.Record
					report, err := s.Explain(ctx, q, found)
					if err == nil {
						r, err = jsonl.New(report)
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}
}

// batch is how many ports are explained by one listing: to explain one may take
// a moment, and the listing gets old.
const batch = 64

// Bindable makes one bind of the port, without listen, and gives it up; on
// Windows one for each family. It returns the name of the error: EADDRINUSE.
// Who waits for a port must not ask again and again.
func Bindable(q listeners.Query) (ok bool, name string) { return bindable(q) }

// Explain explains one port, by what was found to listen, or to be bound.
func (s *Survey) Explain(ctx context.Context, q listeners.Query, found []listeners.Listener) (Report, error) {
	r := Report{Port: q.Port, Addr: q.Where(), Listeners: []Listener{}, Findings: []Finding{}, Isolated: process.Isolated()}
	if q.Proto != listeners.TCP {
		r.Proto = q.Proto
	}
	found = slices.DeleteFunc(slices.Clone(found), func(l listeners.Listener) bool { return !q.Asks(l) })
	for _, l := range found {
		about := Listener{Listener: l, Check: pidcheck.Check(ctx, l), ask: s.about(l, q, found)}
		if l.PID != 0 {
			about.Why = why(about)
		}
		r.Listeners = append(r.Listeners, about)
	}
	r.reach(ctx, s)
	r.Bindable, r.BindError = bindable(q)
	r.Verdict = r.judge()
	if f, ok := absent(q, r.BindError); ok {
		r.Findings = append(r.Findings, f)
	}
	for _, l := range r.Listeners {
		r.Findings = append(r.Findings, l.findings(r.Bindable)...)
	}
	return r, r.explain(ctx, s, q)
}

// Diagnose explains one port.
func Diagnose(ctx context.Context, q listeners.Query) (Report, error) {
	found, err := listeners.List(ctx, q)
	if err != nil {
		return Report{}, err
	}
	return NewSurvey(nil, q).Explain(manager.Remember(ctx), q, found)
}

// reach notes what else, of all that listens, is freed with each holder that
// killport ends.
func (r *Report) reach(ctx context.Context, s *Survey) {
	var asked []listeners.Listener
	for _, l := range r.Listeners {
		asked = append(asked, l.Listener)
	}
	for i := range r.Listeners {
		l := &r.Listeners[i]
		way := l.Check.Way(pidcheck.Leave{Override: true})
		if l.Owner != "" || !way.Ends() {
			continue
		}
		var lever *manager.Manager
		if way == pidcheck.ByLever {
			lever = l.Check.ManagedBy
		}
		l.also = pidcheck.Also(s.names(ctx, l.Listener), lever, asked)
	}
}

// absent: nobody can listen on an address that no interface has, and no command
// makes it the right one.
func absent(q listeners.Query, bindError string) (Finding, bool) {
	if strings.TrimPrefix(bindError, "WSA") != "EADDRNOTAVAIL" || !q.Addr.IsValid() {
		return Finding{}, false
	}
	return Finding{
		Cause: CauseAbsent, Severity: Error,
		Evidence: map[string]any{"addr": q.Addr.String()},
		Summary:  fmt.Sprintf("no interface has the address %s, or not yet: nobody can listen on it", q.Addr),
	}, true
}

func listens(l Listener) bool { return l.State == "" }

func (r Report) judge() Verdict {
	named := func(l Listener) bool { return l.Owner == "" }
	hidden := func(l Listener) bool { return l.Owner == listeners.OwnerHidden }
	switch {
	case r.Bindable && !slices.ContainsFunc(r.Listeners, listens):
		return Free // those that are merely bound share it with who sets SO_REUSEADDR
	case slices.ContainsFunc(r.Listeners, named):
		return Held
	case slices.ContainsFunc(r.Listeners, hidden):
		return Hidden
	case len(r.Listeners) > 0:
		return Ghost
	case r.Bindable:
		return Free
	}
	return Blocked
}

// findings says what stands in the way with one listener; those on a ghost
// take a look at the whole system.
func (l Listener) findings(bindable bool) []Finding {
	evidence := map[string]any{"addr": l.Addr()}
	if l.Socket.Inode != 0 {
		evidence["inode"] = l.Socket.Inode
	}
	if l.UID != nil {
		evidence["uid"], evidence["user"] = *l.UID, l.User
	}
	switch l.Owner {
	case listeners.OwnerNone:
		return nil
	case listeners.OwnerHidden:
		return []Finding{l.hidden(evidence, bindable)}
	}
	evidence["pid"], evidence["name"] = l.PID, l.Check.Name
	f := Finding{
		Cause: CauseListener, Severity: Error, Evidence: evidence,
		Summary: fmt.Sprintf("%s (PID %d, %s) listens on %s", l.Check.Name, l.PID, l.who(), l.Addr()),
		Remedy:  l.remedy(),
	}
	if l.State == listeners.Bound {
		f = l.bound(bindable)
	}
	if len(l.also) > 0 {
		f.Evidence["also_listens"] = l.also
		f.Summary += "; with it goes " + strings.Join(l.also, ", ")
	}
	found := []Finding{f}
	if m := l.Check.ManagedBy; m != nil {
		found = append(found, managedFinding(m, l.PID))
	}
	if f, ok := l.forward(); ok {
		found = append(found, f)
	}
	if p := l.Check.Protected; p != "" && l.Check.Way(pidcheck.Leave{}) != pidcheck.ByLever {
		found = append(found, l.protected(p))
	}
	return found
}

// bound: who sets SO_REUSEADDR gets a port that was bound by one who did so too.
func (l Listener) bound(bindable bool) Finding {
	f := Finding{
		Cause: CauseBound, Severity: Error,
		Evidence: map[string]any{"addr": l.Addr(), "inode": l.Socket.Inode, "pids": []int{l.PID}},
		Summary:  fmt.Sprintf("%s (PID %d, %s) has bound %s, and does not listen", l.Check.Name, l.PID, l.who(), l.Addr()),
		Remedy:   l.remedy(),
	}
	if l.UID != nil {
		f.Evidence["uid"] = *l.UID
	}
	if bindable {
		f.Severity = Warning
	}
	return f
}

// has is what the socket of l does.
func (l Listener) has() string {
	if l.State == listeners.Bound {
		return "is bound to"
	}
	return "listens on"
}

// hidden has a remedy where a look as root shows more.
func (l Listener) hidden(evidence map[string]any, bindable bool) Finding {
	f := Finding{
		Cause: CauseHidden, Severity: Error, Evidence: evidence,
		Summary: fmt.Sprintf("a socket %s %s, of a process which we may not see; it is %s's", l.has(), l.Addr(), l.who()),
	}
	if l.HiddenBy != listeners.ByNamespace && l.HiddenBy != listeners.ByBirths {
		f.Remedy = lookAsRoot(l.ask)
	}
	if bindable {
		f.Severity = Warning // it is bound, and shares the port
	}
	if f.Remedy == nil {
		f.Summary += "; " + listeners.Unhide(l.Listener, shell.Join(l.ask.portdiag()...))
	}
	return f
}

// remedy is how killport is asked to end the holder; nil if it would refuse.
// What manages the holder may have a remedy of its own.
func (l Listener) remedy() *Remedy {
	command := l.ask.killport()
	switch way := l.Check.Way(pidcheck.Leave{}); {
	case way.Ends():
	case l.Check.Way(pidcheck.Leave{Override: true}).Ends():
		command = l.ask.killport("--override")
	case way == pidcheck.Managed && os.Geteuid() > 0 && !l.Check.ManagedBy.Spared(): // root may be able to stop it
		return asRoot(l.ask.portdiag()...)
	default:
		return nil
	}
	if l.UID != nil && foreign(*l.UID) {
		return asRoot(command...)
	}
	return &Remedy{Command: command}
}

// foreign reports whether it takes root to act on what belongs to uid.
func foreign(uid uint32) bool {
	return os.Geteuid() > 0 && int(uid) != os.Geteuid()
}

// protections says why each is left alone.
var protections = map[process.Protection]string{
	process.ProtectedInit:      "it is the first process of the system",
	process.ProtectedKernel:    "it is part of the kernel",
	process.ProtectedSystem:    "Windows needs it",
	process.ProtectedSelf:      "it is this program",
	process.ProtectedPipeline:  "it is at the other end of our pipe",
	process.ProtectedNamespace: "/proc belongs to another PID namespace, and its numbers are not ours",
	process.ProtectedAncestor:  "this program was started from it",
	process.ProtectedShared:    "it serves more than this port",
}

func (l Listener) protected(p process.Protection) Finding {
	f := Finding{
		Cause: CauseProtected, Severity: Error,
		Evidence: map[string]any{"pid": l.PID, "name": l.Check.Name, "protected": p},
		Summary:  fmt.Sprintf("PID %d is left alone: %s", l.PID, protections[p]),
	}
	if l.Check.Way(pidcheck.Leave{Override: true}).Ends() {
		f.Remedy = l.remedy()
	}
	return f
}

func (l Listener) who() string {
	switch {
	case l.User != "":
		return l.User
	case l.UID != nil:
		return "uid " + strconv.FormatUint(uint64(*l.UID), 10)
	}
	return "somebody"
}
