// Package pkill2 is the stage that ends the holders which its records name,
// until the sockets of the records are gone. Success is the port, not the
// process; identity is the birth, not the PID.
//
// It is the pipe's one barrier: it reads all records before it acts, so that
// one grace period serves all, one process named by several records is ended
// once, and parents go before their workers.
package pkill2

import (
	"cmp"
	"context"
	"runtime"
	"syscall"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// Key is the member that the stage appends.
const Key = "pkill2"

// Options say how holders are ended.
type Options struct {
	Grace    time.Duration  // between terminating and killing, for all together; 0: kill at once
	Signal   syscall.Signal // by which holders are asked to end; 0: SIGTERM
	Manners  Manners
	Via      Via
	Override bool // end ancestors, what serves many, and fronts without a lever
	Ghosts   Ghosts
	Heirs    Heirs
	DryRun   bool // say what would be done, and send nothing

	// Asked is what was asked for, if that is known: hints ask for no more.
	Asked []listeners.Query

	// Waiting is told once, after a while, which PIDs are awaited and how long
	// they have left; once for each time that is left.
	Waiting func(pids []int, left time.Duration)
	// Stopping is told once, after a while, what is being stopped in place of
	// its holders.
	Stopping func(what []string)
}

// DefaultGrace is how long all holders together have for ending softly.
const DefaultGrace = 3 * time.Second

// Via is the lever by which a holder is ended.
type Via string

const (
	// ViaAuto stops what manages a holder, if something does: a container, a
	// unit of systemd. Signalled, the holder would come back, or it is not
	// what has the port. If that cannot be stopped, the holder is left alone.
	ViaAuto Via = "auto"
	// ViaProcess signals the process, whatever manages it.
	ViaProcess Via = "process"
)

// Ghosts is what to do with a socket that nobody has.
type Ghosts bool

// They are left alone unless that is asked for.
const (
	LeaveGhosts Ghosts = false
	// CloseGhosts has the kernel close the socket, on Linux. A program that has it all
	// the same, in flight or in a way we do not know, may run at full CPU then.
	CloseGhosts Ghosts = true
)

// Heirs is what to do with those that have the socket of a ghost, on Windows.
type Heirs bool

const (
	// LeaveHeirs only names them.
	LeaveHeirs Heirs = false
	// EndHeirs ends them as if they were its holders.
	EndHeirs Heirs = true
)

// closable: there is a way to close the socket of another process.
const closable = runtime.GOOS == "linux"

// mayClose reports whether a socket that nobody has may be closed: not from
// inside of a PID namespace, whatever a record says, since who is outside of it
// cannot be seen.
func (o Options) mayClose() bool {
	return o.Ghosts == CloseGhosts && closable && process.Outermost()
}

// leave is what the user lifts of what keeps holders from harm.
func (o Options) leave() pidcheck.Leave {
	return pidcheck.Leave{Override: o.Override, Direct: o.Via == ViaProcess}
}

// Outcome is what became of a holder.
type Outcome string

// The outcomes. As far as this holder is concerned, the port is free after
// those up to closed, and is not after the others.
const (
	Terminated Outcome = "terminated" // it has ended, softly
	Killed     Outcome = "killed"     // it has ended by SIGKILL
	Stopped    Outcome = "stopped"    // what manages it has stopped it
	Released   Outcome = "released"   // it has closed the socket, and is not signalled (any more)
	Gone       Outcome = "gone"       // it had ended before we came
	Reused     Outcome = "reused"     // it had ended, and its PID belongs to an innocent

	Closed      Outcome = "closed"      // nobody had the socket, and the kernel closed it
	Ghost       Outcome = "ghost"       // nobody has the socket
	Hidden      Outcome = "hidden"      // we may not see who has it
	Protected   Outcome = "protected"   // it must not be ended; see reason
	Denied      Outcome = "denied"      // we lack the permission
	Refused     Outcome = "refused"     // it cannot be proven to be the right one; see reason
	Survived    Outcome = "survived"    // it was killed and is still there; see reason
	Interrupted Outcome = "interrupted" // we were interrupted before it had ended

	WouldTerminate Outcome = "would_terminate"
	WouldStop      Outcome = "would_stop"
	WouldClose     Outcome = "would_close"
	WouldRefuse    Outcome = "would_refuse"
)

// Known reports whether o is one of the outcomes.
func (o Outcome) Known() bool {
	switch o {
	case Stopped, Released, WouldTerminate, WouldStop, WouldClose:
		return true
	}
	return o.Ended() || o.Failed() || o.Ghostly()
}

// Failed reports whether the holder still stands between us and the port.
func (o Outcome) Failed() bool {
	switch o {
	case Hidden, Protected, Denied, Refused, Survived, Interrupted, WouldRefuse:
		return true
	}
	return false
}

// Ended reports whether the holder has ended in our time.
func (o Outcome) Ended() bool { return o == Terminated || o == Killed }

// Ghostly reports whether the holder does not exist.
func (o Outcome) Ghostly() bool {
	return o == Ghost || o == Closed || o == Gone || o == Reused
}

// Outlived is the reason of a holder that survived the stop of what manages it,
// which detail names.
const Outlived = "outlived"

// Result is the value of the member.
type Result struct {
	Outcome Outcome  `json:"outcome"`
	Signals []string `json:"signals,omitempty"` // what was sent, or would be. SIGCONT goes along with a soft one
	Stop    []string `json:"stop,omitempty"`    // the command that was run, or would be, to stop what manages it
	Reason  string   `json:"reason,omitempty"`  // a word
	Detail  string   `json:"detail,omitempty"`  // what there is to say about it
	Hint    string   `json:"hint,omitempty"`    // what helps
	TookMS  *int64   `json:"took_ms,omitempty"` // from the first signal to the end of it
	Found   bool     `json:"found,omitempty"`   // no record named this holder: it came to light meanwhile
	// AlsoListens is what else is freed with it: "TCP 127.0.0.1:8443".
	AlsoListens []string `json:"also_listens,omitempty"`
	// TakenBy is who has the port now that this holder is out of the way. Of the
	// records of a port the first names all, and every other one of them at most.
	TakenBy []Taker `json:"taken_by,omitempty"`
}

// Stage reads all records, ends their holders, and then gives the records on,
// followed by those of holders that came to light meanwhile. Errors go on as they
// come. Of more records than fit ([jsonl.MaxKept]) nobody is ended.
func Stage(opts Options) jsonl.Stage {
	opts.Signal = cmp.Or(opts.Signal, syscall.SIGTERM)
	if opts.Signal == syscall.SIGKILL {
		opts.Grace = 0
	}
	return func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			in, ok := readAll(seq, yield)
			if !ok {
				return
			}
			h := newHunt(opts)
			defer h.close()
			err := h.run(ctx, in)
			for _, it := range append(in, h.found()...) {
				if !yield(h.out(it)) {
					return
				}
			}
			if err != nil {
				yield(jsonl.Record{}, err)
			}
		}
	}
}

// item is a record with its holder.
type item struct {
	record   jsonl.Record
	listener listeners.Listener
	target   *target
}

// readAll keeps the records that say clearly whom they name. It is not ok if
// there are more than fit, or nobody wants to hear of them.
func readAll(seq jsonl.Seq, yield func(jsonl.Record, error) bool) (in []item, ok bool) {
	var room jsonl.Room
	for r, err := range seq {
		var it item
		if err == nil {
			it, err = read(r)
		}
		if err != nil {
			if !yield(jsonl.Record{}, err) {
				return nil, false
			}
			continue
		}
		const heir = 64 // bytes, in memory
		if err := room.Take(r, heir*len(it.listener.Heirs)); err != nil {
			yield(jsonl.Record{}, err)
			return nil, false
		}
		in = append(in, it)
	}
	return in, true
}

func read(r jsonl.Record) (item, error) {
	it := item{record: r}
	var err error
	if it.listener, err = listeners.Parse(r); err == nil {
		_, err = pidcheck.ManagedBy(r)
	}
	if err != nil {
		return it, err
	}
	neighbour, err := pidcheck.InPipeline(r)
	if neighbour {
		it.listener.Protected = process.ProtectedPipeline
	}
	return it, err
}

// said is who manages the holder, as the record has it. It is read when it is
// needed, since it may be much longer than its line.
func (it item) said() *manager.Manager {
	m, _ := pidcheck.ManagedBy(it.record)
	return m
}

func (h *hunt) out(it item) (jsonl.Record, error) {
	r := it.record
	if r.IsZero() {
		var err error
		if r, err = jsonl.New(it.listener); err != nil {
			return r, err
		}
	}
	result := it.target.result
	result.TakenBy = h.takenBy(it)
	return r.With(Key, result)
}
