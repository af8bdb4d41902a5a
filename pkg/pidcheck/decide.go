package pidcheck

import (
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// Way is how a holder is ended.
type Way string

// The ways. The first two end the holder.
const (
	BySignal Way = "signal"    // the process is signalled
	ByLever  Way = "lever"     // what manages it is stopped
	Managed  Way = "managed"   // not at all: something manages it, and is not stopped
	Spared   Way = "protected" // not at all: it is protected
)

// Ends reports whether the holder is ended in that way.
func (w Way) Ends() bool { return w == BySignal || w == ByLever }

// Leave is what the user lifts of what keeps holders from harm.
type Leave struct {
	Override bool // --override
	Direct   bool // --via process: what manages a holder does not count
}

// Decide is the table of ways, total: by what protects the holder, what its
// manager lets one do, and what the user lifts. pkill2 goes that way; everybody
// else says so. docs/design.md has the table.
func Decide(protected process.Protection, by manager.Control, user Leave) Way {
	switch {
	case protected.Absolute() && protected != process.ProtectedInit:
		return Spared
	case user.Direct, by == manager.Unmanaged, by == manager.Nameless && user.Override:
		return signal(protected, user)
	case by == manager.Unstoppable, by == manager.Nameless, by == manager.StopsOthers && !user.Override:
		return Managed
	case by == manager.Stoppable && protected == process.ProtectedAncestor && !user.Override:
		return Spared // to stop it ends us; what only listens for others is not harmed
	}
	return ByLever
}

// signal is the way of a holder that is its own.
func signal(protected process.Protection, user Leave) Way {
	if protected == "" || user.Override && protected.Overridable() {
		return BySignal
	}
	return Spared
}

// Way is how the holder is ended that r is about.
func (r Result) Way(user Leave) Way { return Decide(r.Protected, r.ManagedBy.Control(), user) }
