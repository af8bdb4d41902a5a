package pkill2

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// target is one holder: one process, with all the sockets that we want from it.
type target struct {
	opts      Options
	holder    listeners.Listener   // as it was first named
	sockets   []listeners.Listener // as it was named for each of them
	pin       *process.Pin         // nil once there is nothing to do with it
	info      process.Info
	manner    manner           // of asking it to end
	others    func() bool      // whether each of its sockets may have a manager of its own
	proven    bool             // it was the right process when we came
	decided   bool             // whether it may be ended, and how
	thread    bool             // its PID is a thread's now
	asked     time.Time        // when the soft signal was sent; zero: not yet
	forced    time.Time        // the same for SIGKILL
	freed     time.Time        // when its sockets were found to be gone
	manager   *manager.Manager // that was found, if any was asked for
	managed   *manager.Manager // the same, if its lever is to be used
	said      *manager.Manager // that its record names
	inService bool             // it is in a service of systemd that nobody was asked about
	lifted    bool             // it is left alone, and would not be with --override
	pull      *pull            // and once it is
	result    Result           // an Outcome is set once it is settled
}

func (t *target) settled() bool { return t.result.Outcome != "" }

func (t *target) close() {
	if t.pin != nil {
		t.pin.Close()
	}
}

// join adds another socket that the same process holds, and the same thing
// manages.
func (t *target) join(ctx context.Context, l listeners.Listener, said *manager.Manager) {
	t.sockets = append(t.sockets, l)
	if t.result.Outcome == Released { // of the sockets that it was asked for until now
		if !t.decided {
			t.holder, t.said = l, said
		}
		t.consider(ctx)
	}
	if !t.settled() && l.Protected != "" {
		t.settle(Protected, string(l.Protected), t.info.Name)
	}
}

// consider settles t unless it is the holder that was named, and to be ended.
func (t *target) consider(ctx context.Context) {
	if t.verify(); !t.settled() && !t.decided {
		t.decided = true
		t.decide(ctx)
	}
}

// isTwin reports whether what is to be done to another target of the process is
// the same.
func (t *target) isTwin(other *target) bool {
	if t.managed == nil || other.managed == nil {
		return t.managed == other.managed && !t.settled() && !other.settled()
	}
	return t.managed.Same(other.managed)
}

// settle says the last word about t.
func (t *target) settle(o Outcome, reason, detail string) {
	t.result.Outcome, t.result.Reason, t.result.Detail = o, reason, detail
	t.result.Hint = hint(t)
	if !t.asked.IsZero() {
		ms := time.Since(t.asked).Milliseconds()
		t.result.TookMS = &ms
	}
}

// prepare pins the holder and verifies it. What cannot be ended is settled.
func (t *target) prepare(ctx context.Context, said *manager.Manager) {
	switch t.holder.Owner {
	case listeners.OwnerHidden:
		t.unseen(ctx)
		return
	case listeners.OwnerNone:
		t.settle(Ghost, "", "")
		return
	}
	if err := process.Visible(); err != nil {
		t.settle(Protected, string(process.ProtectedNamespace), err.Error())
		return
	}
	pin, err := process.Open(t.holder.PID)
	if errors.Is(err, process.ErrGone) {
		t.settle(Gone, "", "")
		return
	}
	if err != nil {
		t.thread = errors.Is(err, process.ErrThread)
		t.settle(Refused, "unpinnable", err.Error())
		return
	}
	t.pin = pin
	if t.info, err = pin.Inspect(); err != nil {
		t.fail(err, "unverified")
		return
	}
	t.manner, t.said = t.opts.manner(t.info), said
	t.others = sync.OnceValue(func() bool { return manager.ForOthers(pin, t.info) })
	t.consider(ctx)
}

// isPast reports whether what the record says was so, and is not any more: the
// holder is gone, or has given the socket up.
func (t *target) isPast() bool {
	return t.thread || t.result.Outcome == Gone || t.result.Outcome == Reused || t.result.Outcome == Released
}

// proves reports whether a record proves by its socket, without its holder, whom
// it means: a cookie is given to one socket in a boot. Whoever has that socket
// now is meant.
func proves(l listeners.Listener) bool {
	return l.Owner == "" && l.Socket.Cookie != "" && l.Birth.OfThisBoot()
}

// unseen looks for a lever of a holder that we may not see: systemd tells
// everybody where it listens, and who may use the engine need not see its proxy
// to stop a container. Neither tells who is outside of our PID namespace; and with
// a /proc of another one we do not see what we are in ourselves.
func (t *target) unseen(ctx context.Context) {
	var m *manager.Manager
	if t.opts.Via != ViaProcess && t.holder.HiddenBy != listeners.ByNamespace && process.Visible() == nil {
		if m = manager.SocketUnitOf(ctx, t.holder); m == nil {
			m = manager.Publisher(ctx, t.holder)
		}
	}
	switch {
	case m == nil:
		t.settle(Hidden, "", "")
	case m.Kind == manager.SocketUnit && os.Geteuid() != 0:
		t.settle(Hidden, "", m.String())
		t.result.Hint = "stop what listens: sudo " + shell.Join(m.Stop...)
	case pidcheck.Decide("", m.Control(), t.opts.leave()) == pidcheck.ByLever:
		t.managed = m
	default:
		t.settle(Hidden, "", m.String()+because(m.Reason))
		t.result.Hint = t.otherwise(m)
	}
}

// verify settles t unless it is proven, now, to be the holder that was named.
func (t *target) verify() {
	for _, l := range t.sockets {
		state, reason, err := pidcheck.Verify(t.pin, l)
		switch {
		case err != nil:
			t.fail(err, "unverified")
		case state == pidcheck.Alive:
			t.proven = true
			t.result = Result{Signals: t.result.Signals, Found: t.result.Found, AlsoListens: t.result.AlsoListens}
			return
		case state == pidcheck.Zombie:
			t.ended()
		case state == pidcheck.Reused:
			t.settle(Reused, "", "")
		case state == pidcheck.Released:
			t.settle(Released, "", "")
		default:
			t.settle(Refused, "unverified", reason)
		}
	}
}

// decide settles t if it must not be ended, and finds the lever of one that is
// not to be signalled. What a record says of its manager is not trusted with
// that, since it could name any command: it can only have t left alone.
func (t *target) decide(ctx context.Context) {
	protected, err := pidcheck.Protect(t.pin, t.info, t.holder)
	if err != nil {
		t.fail(err, "unverified")
		return
	}
	if t.opts.Via != ViaProcess {
		t.manager = manager.Of(ctx, t.pin, t.info, t.holder)
	} else if t.said == nil {
		t.inService = strings.HasSuffix(manager.UnitOf(t.holder.PID), ".service")
	}
	if ctx.Err() != nil { // and nobody could be asked
		t.settle(Interrupted, "", "")
		return
	}
	way := pidcheck.Decide(protected, t.manager.Control(), t.opts.leave())
	if way == pidcheck.BySignal && pidcheck.Decide(protected, t.said.Control(), t.opts.leave()) == pidcheck.Managed {
		t.manager, way = t.said, pidcheck.Managed
	}
	switch way {
	case pidcheck.ByLever:
		t.managed = t.manager
	case pidcheck.Managed:
		t.settle(Refused, managed, t.manager.String()+because(t.manager.Reason))
		t.result.Hint = t.otherwise(t.manager)
	case pidcheck.Spared:
		t.lifted = pidcheck.Decide(protected, t.manager.Control(), pidcheck.Leave{Override: true}).Ends()
		t.settle(Protected, string(protected), t.info.Name+because(doubt(protected, t.info.PID)))
		if t.manager != nil && t.manager.Reason != "" {
			t.result.Hint = t.manager.Reason
		}
	}
}

// doubt says why a process is only taken for an ancestor.
func doubt(protected process.Protection, pid int) string {
	if protected != process.ProtectedAncestor {
		return ""
	}
	if _, err := process.IsAncestor(pid); errors.Is(err, process.ErrCutOff) {
		return err.Error()
	}
	return ""
}

// because is what is said behind a name, if there is a reason.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// fail settles t by an error of something done to it.
func (t *target) fail(err error, reason string) {
	switch {
	case errors.Is(err, process.ErrGone):
		t.ended()
	case errors.Is(err, process.ErrDenied):
		t.settle(Denied, "", "")
	default:
		t.settle(Refused, reason, err.Error())
	}
}

// ended settles t, whose process has ended.
func (t *target) ended() {
	switch {
	case !t.proven:
		t.settle(Gone, "", "")
	case t.forced.IsZero():
		t.settle(Terminated, "", "")
	default:
		t.settle(Killed, "", "")
	}
}

// ask sends the soft signal, if t still is what it was.
func (t *target) ask() {
	if t.verify(); t.settled() {
		return
	}
	t.asked = time.Now()
	err := t.pin.Terminate(t.manner.signal)
	if errors.Is(err, process.ErrCannotAsk) { // to wait would be in vain
		t.force()
		return
	}
	t.sent(err)
}

// sent notes what was sent to t, and its failure.
func (t *target) sent(err error) {
	t.result.Signals = t.pin.Sent()
	if err != nil {
		t.fail(err, "signal")
	}
}

// force sends SIGKILL, if t still is what it was.
func (t *target) force() {
	if t.verify(); t.settled() {
		return
	}
	t.forced = time.Now()
	if t.asked.IsZero() {
		t.asked = t.forced
	}
	t.sent(t.pin.Kill())
}

// wouldDo settles t by what would be done to it.
func (t *target) wouldDo() {
	switch {
	case !t.settled() && t.managed != nil:
		t.settle(WouldStop, "", t.managed.All())
		t.result.Stop = t.managed.Command(t.opts.Grace)
	case !t.settled():
		if err := t.pin.MayTerminate(); err != nil {
			t.fail(err, "signal")
			t.wouldDo()
			return
		}
		t.settle(WouldTerminate, "", "")
		t.result.Signals = []string{t.pin.WouldSend(t.manner.signal)}
	case t.result.Outcome == Ghost && t.opts.mayClose() && t.holder.State != listeners.Bound:
		t.settle(WouldClose, "", "")
	case t.result.Outcome == Ghost && t.opts.Ghosts == CloseGhosts && !t.opts.mayClose():
		t.leaveOpen()
	case t.result.Outcome.Failed():
		if t.result.Reason == "" {
			t.result.Reason = string(t.result.Outcome)
		}
		t.result.Outcome = WouldRefuse
	}
}

// hasAny reports whether one of t's sockets is in the table.
func (t *target) hasAny(live table) bool {
	return slices.ContainsFunc(t.sockets, live.has)
}

// hint is the sentence that goes with a settled outcome.
func hint(t *target) string {
	switch t.result.Outcome {
	case Hidden:
		return listeners.Unhide(t.holder, t.command("killport"))
	case Denied:
		return "run it as " + process.Superuser() + ": " + t.command(process.Elevated("killport")...)
	case Protected:
		if t.lifted {
			return "--override ends it all the same"
		}
	case Ghost:
		return t.ghostHint()
	case Refused:
		return "look again: " + t.command("killport")
	case Survived:
		return t.obstacle()
	}
	return ""
}

// obstacle is the hint for a process that was killed, or stopped, and is still
// there.
func (t *target) obstacle() string {
	switch r := t.result; r.Reason {
	case "frozen":
		if strings.HasPrefix(r.Detail, "/") {
			return "it ends once it is thawed: echo THAWED > " + shell.Join(r.Detail+"/freezer.state")
		}
		return "it ends once its cgroup is thawed"
	case "traced":
		return "its tracer has to let go of it, or to end: PID " + r.Detail
	case "uninterruptible":
		return "it waits in the kernel, in " + r.Detail + ", and ends when that does"
	case managed: // and was slow
		return "it may still stop: " + t.command("portdiag")
	case Outlived:
		if protected, err := process.Protect(t.pin, t.info); err == nil && protected == "" {
			return "end what it has left: " + t.command("killport", "--via", "process")
		}
		return "look who has it now: " + t.command("portdiag")
	case "exiting":
		return "the kernel is taking it down: look again: " + t.command("portdiag")
	}
	return ""
}

// ghostHint leads to who may have it. To close it is for portdiag to say, which
// knows whether it is the kernel's own.
func (t *target) ghostHint() string {
	switch {
	case len(t.holder.Heirs) > 0:
		return "end what inherited it: " + t.command("killport", "--heirs")
	case runtime.GOOS == "windows":
		return "look as administrator who inherited it: " + t.command("portdiag")
	}
	return "look who may have it: " + t.command("portdiag")
}
