// Package pidcheck is the stage that looks at the holder which a record names:
// whether it still is the process that was listed, what it is, and whether it
// must be left alone.
package pidcheck

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// Key is the member that the stage appends.
const Key = "pidcheck"

// State is how it stands with the holder.
type State string

// The states. Of these only alive holders can be ended.
const (
	Alive      State = "alive"
	Gone       State = "gone"       // no such process
	Zombie     State = "zombie"     // it has ended, and waits for its parent
	Reused     State = "reused"     // its PID belongs to another process now
	Released   State = "released"   // it lives, and has closed the socket
	Unverified State = "unverified" // it lives, and we cannot tell if it is the one that was listed
	Hidden     State = "hidden"     // the record names no holder: we may not see it
	None       State = "none"       // the record names no holder: there is none
)

// Result is the value of the member.
type Result struct {
	Exists    bool               `json:"exists"` // the process that was listed exists
	State     State              `json:"state"`
	Name      string             `json:"name,omitempty"`
	Exe       string             `json:"exe,omitempty"`
	Argv      []string           `json:"argv,omitempty"`
	Truncated bool               `json:"argv_truncated,omitempty"`
	PPID      int                `json:"ppid,omitempty"`
	Started   *time.Time         `json:"started,omitempty"`
	Protected process.Protection `json:"protected,omitempty"`
	ManagedBy *manager.Manager   `json:"managed_by,omitempty"`
	Reason    string             `json:"reason,omitempty"` // why it is unverified
}

// Stage appends the member to each record, as they come.
func Stage() jsonl.Stage {
	check := jsonl.Map(func(ctx context.Context, r jsonl.Record) (jsonl.Record, error) {
		l, err := listeners.Parse(r)
		if err != nil {
			return r, err
		}
		return r.With(Key, Check(ctx, l))
	})
	return func(ctx context.Context, seq jsonl.Seq) jsonl.Seq { return check(manager.Remember(ctx), seq) }
}

// Check looks at the holder of l as it is now. Only if a container engine or
// systemd seems to have to do with it, these are asked, with a limit to the
// time.
func Check(ctx context.Context, l listeners.Listener) Result {
	switch l.Owner {
	case listeners.OwnerHidden:
		return Result{State: Hidden}
	case listeners.OwnerNone:
		return Result{State: None}
	}
	if err := process.Visible(); err != nil {
		return Result{State: Unverified, Protected: process.ProtectedNamespace, Reason: err.Error()}
	}
	p, err := process.Open(l.PID)
	if errors.Is(err, process.ErrGone) {
		return Result{State: Gone}
	}
	if err != nil {
		return Result{State: Unverified, Reason: err.Error()}
	}
	defer p.Close()
	if p.Exited() {
		return Result{Exists: true, State: Zombie}
	}
	res, err := inspect(ctx, p, l)
	if errors.Is(err, process.ErrGone) {
		return Result{State: Gone}
	}
	if err != nil {
		return Result{State: Unverified, Reason: err.Error()}
	}
	return res
}

// inspect describes the pinned process, if it is the one that l speaks of.
func inspect(ctx context.Context, p *process.Pin, l listeners.Listener) (Result, error) {
	info, err := p.Inspect()
	if err != nil {
		return Result{}, err
	}
	res := Result{
		Exists: true, Name: info.Name, Exe: info.Exe,
		Argv: info.Argv, Truncated: info.Truncated, PPID: info.PPID,
	}
	if !info.Started.IsZero() {
		res.Started = &info.Started
	}
	if res.Protected, err = Protect(p, info, l); err != nil {
		return Result{}, err
	}
	res.State, res.Reason, err = Verify(p, l)
	if res.State == Reused {
		return Result{State: Reused}, nil // what was read is of an innocent
	}
	if err != nil {
		res.Reason = err.Error()
	}
	if res.State == Alive {
		res.ManagedBy = manager.Of(ctx, p, info, l)
	}
	return res, nil
}

// Protect says what protects the pinned process, of which info was read through
// the pin, by what it is or by what l says: who listed it may have seen more.
func Protect(p *process.Pin, info process.Info, l listeners.Listener) (process.Protection, error) {
	protected, err := process.Protect(p, info)
	if protected == "" || protected.Overridable() {
		protected = cmp.Or(l.Protected, protected)
	}
	return protected, err
}

// Verify says whether the pinned process is the holder that l speaks of:
// alive, if it provably is. In every other state it must not be signalled. An
// error, with the state unverified, says what we were kept from reading.
func Verify(p *process.Pin, l listeners.Listener) (state State, reason string, err error) {
	if p.Exited() {
		return Zombie, "", nil
	}
	birth, err := p.Birth()
	switch {
	case errors.Is(err, process.ErrGone):
		return Zombie, "", nil
	case err != nil:
		return Unverified, "", err
	case l.Birth == "":
		return Unverified, "the record has no birth", nil
	case !birth.Comparable(l.Birth):
		return Unverified, "the birth in the record is of another kind or boot", nil
	case !birth.Same(l.Birth):
		return Reused, "", nil
	}
	if l.Socket.IsZero() {
		return Unverified, "the record names no socket", nil
	}
	holds, err := listeners.Holds(p, l)
	switch {
	case errors.Is(err, process.ErrGone):
		return Zombie, "", nil
	case err != nil:
		return Unverified, "", err
	case !holds:
		return Released, "", nil
	}
	return Alive, "", nil
}

// maxManager bounds, in bytes, what is read of a manager: in memory it may take
// ten times as much.
const maxManager = 256 << 10

// InPipeline reports whether a stage says in a record that the holder stands
// before or behind it in a pipeline.
func InPipeline(r jsonl.Record) (bool, error) {
	in := r
	if r.Has(Key) {
		var err error
		if in, err = r.Object(Key); err != nil {
			return false, err
		}
	}
	for _, said := range []jsonl.Record{r, in} {
		protected, err := said.OptionalText("protected")
		if err != nil || process.Protection(protected) == process.ProtectedPipeline {
			return err == nil, err
		}
	}
	return false, nil
}

// ManagedBy reads what this stage, or one of the user's, says of who manages
// the holder; nil if it says nothing.
func ManagedBy(r jsonl.Record) (*manager.Manager, error) {
	if !r.Has(Key) {
		return nil, nil
	}
	checked, err := r.Object(Key)
	if err != nil || !checked.Has("managed_by") {
		return nil, err
	}
	by, err := checked.Object("managed_by")
	if err != nil {
		return nil, err
	}
	if len(by.String()) > maxManager {
		return nil, checked.Errorf("member %q is longer than %d bytes", "managed_by", maxManager)
	}
	var m manager.Manager
	return &m, by.Decode(&m)
}
