// Package manager finds what manages a holder: the container that it runs in
// or listens for, the unit of systemd that would start it again, the
// supervisor above it. Signalling such a holder is the wrong lever; this
// package has the right one.
//
// It is the only package that runs the command lines of container engines and
// of systemd. They are asked only about holders that look like theirs.
package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// Kind is what kind of thing manages a holder.
type Kind string

// The kinds.
const (
	Container  Kind = "container"   // an engine runs it
	Unit       Kind = "unit"        // a service of systemd
	SocketUnit Kind = "socket_unit" // a socket of systemd, which listens on behalf of a service
	Service    Kind = "service"     // the holder is a service of Windows
	Supervisor Kind = "supervisor"  // a process above it, which may start it again
)

// Manager is what started the holder and would start it again, or holds the
// port on its behalf: the one to talk to instead.
type Manager struct {
	Kind    Kind     `json:"kind"`
	Name    string   `json:"name"`
	Engine  string   `json:"engine,omitempty"`  // of a container: docker, podman, nerdctl …
	ID      string   `json:"id,omitempty"`      // of a container
	Image   string   `json:"image,omitempty"`   // of a container
	Project string   `json:"project,omitempty"` // of compose, of a container
	User    bool     `json:"user,omitempty"`    // a unit of a user's systemd
	PID     int      `json:"pid,omitempty"`     // of a supervisor
	Restart string   `json:"restart,omitempty"` // its rule, in its own word: always, on-failure, no …
	Stop    []string `json:"stop,omitempty"`    // the command that stops it
	// StartedBy are the units that are active, and start a service again that was
	// stopped, or keep it up: timers, paths, sockets, units with Upholds=.
	StartedBy []string `json:"started_by,omitempty"`
	// AlsoStops are the other active units that systemd stops along with it.
	AlsoStops []string `json:"also_stops,omitempty"`
	// Listens is all that the lever frees: "TCP 0.0.0.0:8001".
	Listens []string `json:"listens,omitempty"`
	Reason  string   `json:"reason,omitempty"` // why killport cannot, or does not, stop it

	folder string // of the project of compose, of a container
	lever  lever  // only of what this process has found itself
	spared bool   // nobody's permission would give it a lever
	front  bool   // the holder listens on behalf of a container, and is none of its processes
}

// Of finds what manages the pinned process, of which info was read through the
// pin, in as far as it has to do with l. It returns nil for a plain process.
func Of(ctx context.Context, p *process.Pin, info process.Info, l listeners.Listener) *Manager {
	m := of(ctx, p, info, l)
	if m == nil || p.Exited() { // then what was read may be of another
		return nil
	}
	return m
}

// ForOthers reports whether the pinned process listens on behalf of others, if
// at all: each of its sockets may have a manager of its own then.
func ForOthers(p *process.Pin, info process.Info) bool {
	return front(info) != "" || p.PID() == 1 || isSystemd(p.PID())
}

// Publisher finds the container that publishes the port of l, if docker is
// here and runs one, or the service that would start it again. A holder that we
// may not see must be root's, as what listens for containers is.
func Publisher(ctx context.Context, l listeners.Listener) *Manager {
	if l.Owner == listeners.OwnerHidden && !isOfRoot(ctx, l) {
		return nil
	}
	m := orItsService(ctx, published(ctx, engine{name: docker}, publication{listener: l}), l)
	if m == nil || m.lever == nil {
		return nil
	}
	return m
}

// Publishes reports whether docker may have published some of the ports from low
// to high: it is here, and says so.
func Publishes(ctx context.Context, proto listeners.Proto, low, high uint16) bool {
	ids, err := engine{name: docker}.publishing(ctx, fmt.Sprintf("%d-%d", low, high), proto)
	return err == nil && len(ids) > 0
}

// isOfRoot reports whether l is there, and root has made it, in the network of PID 1:
// in another one there may be anything at the same address.
func isOfRoot(ctx context.Context, l listeners.Listener) bool {
	now, err := listeners.Sockets(ctx, l.Query())
	return err == nil && slices.ContainsFunc(now, func(s listeners.Socket) bool {
		return s.UID == 0 && s.ID.Same(l.Socket) && inFirstNetwork(s)
	})
}

// SocketUnitOf finds the unit by which the system's systemd listens at l, which
// it tells everybody. Its sockets are root's.
func SocketUnitOf(ctx context.Context, l listeners.Listener) *Manager {
	if l.Owner == listeners.OwnerHidden && !isOfRoot(ctx, l) {
		return nil
	}
	m := socketUnitOf(ctx, l)
	if m == nil || m.lever == nil {
		return nil
	}
	return m
}

// Indirect reports whether signalling the holder is the wrong way to free its
// port: it would come back, or it is not what has the port.
func (m *Manager) Indirect() bool { return m.Kind != Supervisor }

// Halts reports whether Halt can be tried.
func (m *Manager) Halts() bool { return m.lever != nil }

// Control is what a manager lets one do in place of signalling its holder.
type Control string

// The kinds of control.
const (
	Unmanaged   Control = "unmanaged"    // there is no manager, or it does not mind a signal
	Stoppable   Control = "stoppable"    // it can be stopped, and the holder with it
	Fronted     Control = "fronted"      // it can be stopped, and the holder only listens for it, as docker-proxy and PID 1 do
	StopsOthers Control = "stops_others" // it can be stopped, and other units would go along
	Unstoppable Control = "unstoppable"  // it cannot be stopped
	Nameless    Control = "nameless"     // a container for which the holder listens, and which nobody can name
)

// Control is that of m, which may be nil.
func (m *Manager) Control() Control {
	switch {
	case m == nil || !m.Indirect():
		return Unmanaged
	case m.isNameless():
		return Nameless
	case !m.Halts():
		return Unstoppable
	case len(m.AlsoStops) > 0:
		return StopsOthers
	case m.front || m.Kind == SocketUnit:
		return Fronted
	}
	return Stoppable
}

// isNameless reports whether nobody can say which container it is: a process in
// one has its ID, or is in that of a whole system, which has a name. So its
// holder is a front.
func (m *Manager) isNameless() bool {
	return m.Kind == Container && m.ID == "" && slices.Contains(engines, engineName(m.Engine))
}

// ForGood is the command that stops it, and before it what would start it again:
// systemctl asks for one after the other.
func (m *Manager) ForGood() []string {
	if len(m.Stop) == 0 {
		return nil
	}
	at := slices.Index(m.Stop, m.Name)
	if at < 0 {
		return m.Stop
	}
	return slices.Insert(slices.Clone(m.Stop), at, m.StartedBy...)
}

// Spared reports whether it is not Halt's to stop, whoever runs it: root would
// be told the same.
func (m *Manager) Spared() bool { return m.spared }

// Restarts reports whether a holder that ends is started again by itself.
func (m *Manager) Restarts() bool {
	return m.Restart != "" && m.Restart != "no" && m.Restart != onChange
}

// Same reports whether a and b are one thing, so that one Halt serves both.
func (m *Manager) Same(other *Manager) bool {
	return m.lever != nil && other.lever != nil && slices.Equal(m.lever.command(0), other.lever.command(0))
}

// Command is what Halt runs.
func (m *Manager) Command(grace time.Duration) []string {
	if m.lever == nil {
		return nil
	}
	return m.lever.command(grace)
}

// ErrSlow says that the manager was asked to stop and has not done it in time.
var ErrSlow = errors.New("it did not stop in time")

// Halt stops it for good, with so long a time for ending softly. Nothing is
// run for a Manager that was read from a record.
func (m *Manager) Halt(ctx context.Context, grace time.Duration) error {
	if m.lever == nil {
		return errors.New("there is no lever")
	}
	return m.lever.halt(ctx, grace)
}

// String says it to people: "container web (docker)".
func (m *Manager) String() string {
	words := string(m.Kind)
	switch {
	case m.Kind == Supervisor:
		return fmt.Sprintf("supervisor %s (PID %d)", m.Name, m.PID)
	case m.Kind == SocketUnit, m.Kind == Unit:
		words = "unit"
		if m.User {
			words = "user unit"
		}
	}
	words += " " + m.Name
	if m.Engine != "" {
		words += " (" + m.Engine + ")"
	}
	return words
}

// All says it with what is stopped along with it: "unit db.service with app.service".
func (m *Manager) All() string {
	if len(m.AlsoStops) == 0 {
		return m.String()
	}
	return m.String() + " with " + strings.Join(m.AlsoStops, ", ")
}

// lever stops what it is the lever of.
type lever interface {
	command(grace time.Duration) []string
	halt(ctx context.Context, grace time.Duration) error
}

// without is the manager that is known and has no lever, and why.
func (m Manager) without(why error) *Manager {
	m.lever, m.Reason = nil, command.FirstLine(why.Error())
	return &m
}

// never is the manager that is known and must have no lever, and why.
func (m Manager) never(why error) *Manager {
	m.spared = true
	return m.without(why)
}

// keepsMany reports whether others depend on the supervisor too.
func (m *Manager) keepsMany() bool { return slices.Contains(shared, m.Name) }

// UnitOf is the name of the unit of systemd that a process is in, "" if none:
// it need not be what manages it.
func UnitOf(pid int) string { return unitOf(pid) }

// onBehalf is the manager of a front.
func (m *Manager) onBehalf() *Manager {
	if m != nil {
		m.front = true
	}
	return m
}
