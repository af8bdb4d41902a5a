package pkill2

import (
	"slices"
	"syscall"
	"time"

	"github.com/killport/killport/pkg/process"
)

// manner is how a holder is asked to end, and how long it has for that before it
// is killed.
type manner struct {
	signal syscall.Signal
	grace  time.Duration
}

// Manners is whose manner of ending holders have.
type Manners bool

const (
	// OneManner asks all by Signal, and gives all the same Grace.
	OneManner Manners = false
	// OwnManners asks the programs that are known for it in their own way: those
	// that SIGTERM does not end, and that come to harm when they are killed for
	// it.
	OwnManners Manners = true
)

// ownManners are told by the name of the executable. Whoever bears a name without
// being that program has no more than another signal and a longer grace from it.
var ownManners = []struct {
	programs []string
	manner
	source string
}{
	{
		// SIGTERM waits for the last client to leave; SIGKILL makes the next start
		// recover, and may keep it from starting.
		[]string{"postgres"},
		manner{syscall.SIGINT, 30 * time.Second},
		"https://www.postgresql.org/docs/current/server-shutdown.html",
	},
	{
		// SIGTERM starts it anew, unless it was told to die on it. SIGINT ends it in
		// either case.
		[]string{"uwsgi", "uwsgi-core"},
		manner{syscall.SIGINT, DefaultGrace},
		"https://uwsgi-docs.readthedocs.io/en/latest/Management.html",
	},
}

// manner is how a process is asked.
func (o Options) manner(info process.Info) manner {
	if o.Manners == OwnManners {
		for _, own := range ownManners {
			if slices.Contains(own.programs, info.Program()) {
				return own.manner
			}
		}
	}
	return manner{o.Signal, o.Grace}
}
