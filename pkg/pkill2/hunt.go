package pkill2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// Limits, all on the monotonic clock.
const (
	killWait    = 2 * time.Second        // for a killed process to go
	exitingWait = 10 * time.Second       // for one that is being taken down: memory takes 0.1 s a GiB
	exitSoon    = 50 * time.Millisecond  // after its sockets, for a process that is on its way out
	lingerWait  = 250 * time.Millisecond // for a socket without a holder: io_uring's go up to 68 ms late
	strayWait   = time.Second            // the same while processes are born, who may have it
	quiet       = 300 * time.Millisecond // before Waiting is told
	maxTargets  = 1 << 16                // no host has more holders of a few ports; a fork bomb would
)

// The table of sockets is read again whenever a process ends, and between
// these, at first often: closing a socket tells nobody.
const (
	firstLook = time.Millisecond
	lastLook  = 25 * time.Millisecond
)

// hunt ends holders until nobody has the wanted sockets any more.
type hunt struct {
	opts    Options
	targets []*target
	pulls   []*pull
	known   map[identity][]*target // those of one process differ in what manages them
	queries []listeners.Query      // that show the wanted sockets
	wanted  map[listeners.Query]bool
	rows    table                 // the wanted sockets, as they were listed last
	proven  map[listeners.ID]bool // sockets of records whose holders are gone
	exits   chan struct{}
	stop    context.CancelFunc
	watch   context.Context
	wg      sync.WaitGroup

	began  process.Moment              // when nothing was done yet
	before table                       // the rows then
	all    []listeners.Socket          // and the rows of all ports
	takers map[listeners.Query][]Taker // by port
	named  map[listeners.Query]bool    // ports whose takers a record has named

	started time.Time
	forced  time.Time // when SIGKILL was sent last
	lost    time.Time // since when a socket is there that no target has
	chases  int       // that found somebody, or in which somebody was born
	outrun  bool      // a socket changes hands faster than we can look
	told    bool
}

type identity struct {
	pid   int
	birth process.Birth
	ghost listeners.ID // the socket that has no holder
}

func newHunt(opts Options) *hunt {
	h := &hunt{
		opts: opts, known: map[identity][]*target{}, wanted: map[listeners.Query]bool{}, proven: map[listeners.ID]bool{},
		takers: map[listeners.Query][]Taker{}, named: map[listeners.Query]bool{},
		exits: make(chan struct{}, 1),
	}
	h.watch, h.stop = context.WithCancel(context.Background())
	return h
}

// close lets go of all processes.
func (h *hunt) close() {
	h.stop()
	h.wg.Wait()
	for _, t := range h.targets {
		t.close()
	}
}

// take takes the holders of all records among the targets. What is asked about
// their sockets is asked with the rows of the kernel's table: so that is read
// first, and nothing is done without it.
func (h *hunt) take(ctx context.Context, in []item) error {
	for _, it := range in {
		h.want(it.listener)
	}
	var err error
	h.began = process.Now()
	h.rows, err = h.read(ctx)
	h.before = h.rows
	looking := manager.Remember(ctx)
	for i, it := range in {
		in[i].target = h.add(looking, it.listener, it.said())
	}
	return err
}

// add takes a holder among the targets: one for each process, and for each thing
// that manages it.
func (h *hunt) add(ctx context.Context, l listeners.Listener, said *manager.Manager) *target {
	asked := l
	if row, ok := h.rows.row(l); ok {
		l = l.At(row)
	}
	t := h.place(ctx, l, said)
	if t.isPast() && proves(asked) {
		h.proven[l.Socket.Key()] = true
		if t.thread { // whoever was meant is gone
			t.settle(Reused, "", "")
		}
	}
	return t
}

// place finds the target of a holder, or makes one.
func (h *hunt) place(ctx context.Context, l listeners.Listener, said *manager.Manager) *target {
	id := identity{pid: l.PID, birth: l.Birth}
	if l.Owner != "" {
		id.ghost = l.Socket.Key()
	}
	if known := h.known[id]; len(known) > 0 && (known[0].others == nil || !known[0].others()) {
		known[0].join(ctx, l, said)
		return known[0]
	}
	t := &target{opts: h.opts, holder: l, sockets: []listeners.Listener{l}}
	t.prepare(ctx, said)
	for _, twin := range h.known[id] {
		if twin.isTwin(t) {
			t.close()
			twin.join(ctx, l, said)
			return twin
		}
	}
	h.known[id] = append(h.known[id], t)
	h.targets = append(h.targets, t)
	if !t.settled() && t.pin != nil {
		h.wg.Go(func() {
			if t.pin.Wait(h.watch) == nil {
				h.wake()
			}
		})
	}
	if h.opts.Heirs == EndHeirs && l.Owner == listeners.OwnerNone {
		h.addHeirs(ctx, l)
	}
	return t
}

// addHeirs takes those that have the socket of a ghost among the targets, as
// holders like all others.
func (h *hunt) addHeirs(ctx context.Context, ghost listeners.Listener) {
	for _, heir := range ghost.Heirs {
		before := len(h.targets)
		t := h.add(ctx, heir.Listener(ghost), nil)
		t.result.Found = t.result.Found || len(h.targets) > before
	}
}

func (h *hunt) wake() {
	select {
	case h.exits <- struct{}{}:
	default:
	}
}

// want makes the table show the socket of l.
func (h *hunt) want(l listeners.Listener) {
	if l.Socket.IsZero() {
		return
	}
	if q := l.Query(); !h.wanted[q] {
		h.wanted[q] = true
		h.queries = append(h.queries, q)
	}
}

// found are the holders that no record named; without those that had ended
// before they could be looked at, such as a worker that did not outlive its
// master: nobody has asked for them, and they hold nothing.
func (h *hunt) found() []item {
	var out []item
	for _, t := range h.targets {
		if t.result.Found && t.result.Outcome != Gone {
			out = append(out, item{listener: t.holder, target: t})
		}
	}
	return out
}

// run ends the holders of the records. Its error says that the outcome could not
// be seen.
func (h *hunt) run(ctx context.Context, in []item) error {
	err := h.take(ctx, in)
	if err == nil {
		h.survey(ctx)
		err = h.confirm(ctx)
	}
	if h.opts.DryRun {
		if err != nil {
			h.giveUp(err)
		}
		if err == nil {
			_, err = h.chase(ctx, h.observe()) // from those that are gone
		}
		for _, t := range h.targets {
			t.wouldDo()
		}
		return err
	}
	h.started = time.Now()
	if err == nil {
		err = h.loop(ctx)
	}
	h.giveUp(err)
	if h.opts.Heirs == EndHeirs && err == nil {
		h.layToRest(ctx)
	}
	if h.opts.Ghosts == CloseGhosts {
		h.closeGhosts(ctx)
	}
	if err == nil {
		err = h.finish(ctx)
	}
	h.recount(ctx)
	if ctx.Err() != nil {
		return nil // the results say so
	}
	return err
}

// confirm settles those of whom no socket is in the table as its record says: with
// that cookie, that protocol, that port. A socket that they have is none of
// our business then, whether we may see them or not. The table is read anew: to
// ask what manages them may have taken a while, in which a socket can become that
// of a connection.
func (h *hunt) confirm(ctx context.Context) error {
	_, err := h.look(ctx)
	if err != nil {
		return err
	}
	for _, t := range h.targets {
		if (!t.settled() || t.result.Outcome == Hidden) && !t.hasAny(h.rows) {
			t.result.AlsoListens = nil
			t.settle(Released, "", "")
		}
	}
	return nil
}

// survey notes what else is freed with each target. It is for telling: what
// cannot be read is not told.
func (h *hunt) survey(ctx context.Context) {
	if !h.open() {
		return
	}
	h.all, _ = listeners.Sockets(ctx)
	for _, t := range h.targets {
		if !t.settled() {
			t.result.AlsoListens = pidcheck.Also(pidcheck.Names(t.pin, h.all), t.managed, t.sockets)
		}
	}
}

// recount leaves of what was to be freed with each target what was: not what
// others have, too, and go on with.
func (h *hunt) recount(ctx context.Context) {
	if !slices.ContainsFunc(h.targets, func(t *target) bool { return len(t.result.AlsoListens) > 0 }) {
		return
	}
	now, err := listeners.Sockets(context.WithoutCancel(ctx))
	if err != nil {
		return
	}
	stay := pidcheck.Staying(h.all, now)
	for _, t := range h.targets {
		t.result.AlsoListens = slices.DeleteFunc(t.result.AlsoListens, func(name string) bool { return stay[name] })
	}
}

// open reports whether a target is left to be ended.
func (h *hunt) open() bool {
	return slices.ContainsFunc(h.targets, func(t *target) bool { return !t.settled() })
}

func (h *hunt) loop(ctx context.Context) error {
	pause := firstLook
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h.pullAll(ctx)
		h.signal(ctx)
		live, err := h.look(ctx)
		if err != nil {
			return err
		}
		lost, err := h.chase(ctx, live)
		if err != nil {
			return err
		}
		if !lost && !h.open() || h.late() {
			return nil
		}
		if slices.ContainsFunc(h.targets, h.due) { // came to light, or lost its parent
			continue
		}
		h.tell()
		if h.pause(ctx, pause) {
			pause = firstLook
		} else {
			pause = min(pause*3/2, lastLook)
		}
	}
}

// pause waits for a process to end, and at most for so long or until the next
// step is due. It reports whether a process has ended.
func (h *hunt) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(min(d, time.Until(h.nextEnd())), 0))
	defer timer.Stop()
	select {
	case <-h.exits:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// graceEnd is when the time is over that t has for ending softly. All have theirs
// from the same moment on, which is that of the first signal.
func (h *hunt) graceEnd(t *target) time.Time { return h.started.Add(t.manner.grace) }

// isHard reports whether SIGKILL is what t is sent now.
func (h *hunt) isHard(t *target) bool { return !time.Now().Before(h.graceEnd(t)) }

// nextEnd is when the next one's time is over; a long time from now if there is
// none.
func (h *hunt) nextEnd() time.Time {
	now := time.Now()
	next := now.Add(time.Hour)
	for _, t := range h.targets {
		if end := h.graceEnd(t); !t.settled() && t.managed == nil && now.Before(end) && end.Before(next) {
			next = end
		}
	}
	return next
}

// signal sends what is due: the soft signal at first, and SIGKILL when the
// grace period is over; to parents before their workers. After an interrupt no
// other one is signalled.
func (h *hunt) signal(ctx context.Context) {
	for _, t := range h.targets {
		if ctx.Err() != nil {
			return
		}
		if h.due(t) {
			h.send(t)
		}
	}
}

// send asks t to end, or kills it when its grace period is over.
func (h *hunt) send(t *target) {
	if !h.isHard(t) {
		t.ask()
		return
	}
	t.force()
	h.forced = time.Now()
}

// due reports whether t is to be signalled now: not one that has none of the
// sockets any more, nor one that has been. A worker is asked when its
// parent has ended, or at half of the grace period: a parent that is there
// would replace it, and one that ends well takes its workers along. A worker
// is killed when its parent has been. What is on its way out is let go: to take
// down its memory takes a while, which no signal makes shorter.
func (h *hunt) due(t *target) bool {
	if t.settled() || t.managed != nil || !t.freed.IsZero() {
		return false
	}
	hard := h.isHard(t)
	if hard && !t.forced.IsZero() || !hard && !t.asked.IsZero() {
		return false
	}
	parent := h.parent(t)
	alone := parent == nil || parent.pin.Exiting()
	if hard {
		alone = alone || !parent.forced.IsZero()
	} else {
		alone = alone || time.Since(h.started) >= t.manner.grace/2
	}
	return alone && !t.pin.Exiting()
}

// parent returns the target that is t's parent and is still to be ended.
func (h *hunt) parent(t *target) *target {
	for _, other := range h.targets {
		if other != t && !other.settled() && other.pin != nil && other.holder.PID == t.info.PPID {
			return other
		}
	}
	return nil
}

// table are sockets that listen, by the keys of their IDs.
type table map[listeners.ID]listeners.Socket

// row is the socket of l, if it is there and is as l says.
func (t table) row(l listeners.Listener) (s listeners.Socket, ok bool) {
	s, ok = t[l.Socket.Key()]
	return s, ok && s.ID.Same(l.Socket) && s.Proto == l.Proto && s.Local.Port() == l.LocalPort
}

// has reports whether it is there.
func (t table) has(l listeners.Listener) bool {
	_, ok := t.row(l)
	return ok
}

// read reads the table of sockets on the wanted ports.
func (h *hunt) read(ctx context.Context) (table, error) {
	if len(h.queries) == 0 {
		return nil, nil
	}
	now, err := listeners.Sockets(ctx, h.queries...)
	rows := table{}
	for _, s := range now {
		rows[s.ID.Key()] = s
	}
	return rows, err
}

// look reads the table, settles those that have ended or have given up their
// sockets, and returns the wanted sockets that are still there.
func (h *hunt) look(ctx context.Context) (table, error) {
	rows, err := h.read(ctx)
	if err != nil {
		return nil, err
	}
	h.rows = rows
	return h.observe(), nil
}

// observe is look, without another reading.
func (h *hunt) observe() table {
	live := table{}
	for _, t := range h.targets {
		for _, l := range t.sockets {
			if s, ok := h.rows.row(l); ok {
				live[s.ID.Key()] = s
			}
		}
	}
	for _, t := range h.targets {
		switch {
		case t.thread && !t.hasAny(live): // no process has its PID, and nobody its socket
			t.settle(Reused, "", "")
		case t.settled():
		case t.managed != nil:
			t.pulled(live)
		case t.pin.Exited():
			t.ended()
		case t.hasAny(live):
			t.freed = time.Time{}
		case t.freed.IsZero():
			t.freed = time.Now()
		case time.Since(t.freed) <= exitSoon:
		case t.pin.Exiting(): // nothing of it runs any more: a tracer has not taken notice of its end yet
			t.ended()
		default:
			t.settle(Released, "", "")
		}
	}
	return live
}

// chase looks for the holders of sockets that are still there though no target
// accounts for them: workers born meanwhile, heirs. They become targets. It
// reports whether a socket is left that nobody accounts for: its holder has ended
// before it could be looked at, or it has none, and may go by itself.
func (h *hunt) chase(ctx context.Context, live table) (left bool, err error) {
	lost := h.unaccounted(live)
	if len(lost) == 0 {
		h.lost = time.Time{}
		return false, nil
	}
	if len(h.targets) > maxTargets {
		return false, fmt.Errorf("more than %d holders", maxTargets)
	}
	if h.chases < patientChases || !h.catch(ctx, lost) {
		if err := h.search(ctx, lost); err != nil {
			return false, err
		}
	}
	return len(h.unaccounted(live)) > 0 && !h.outrun, nil
}

// search makes targets of all that have the sockets, and of a socket that nobody
// has for long. Where nobody is found since processes are born faster than they
// can be looked at, that proves nothing.
func (h *hunt) search(ctx context.Context, lost []listeners.Socket) error {
	newest, before := process.Newest(), len(h.targets)
	lines, err := listeners.Holders(ctx, lost)
	born := process.Newest() != newest
	for _, l := range lines {
		switch {
		case l.Owner == "":
			h.lost = time.Time{}
		case l.HiddenBy == listeners.ByBirths:
			h.outrun = h.lostFor(strayWait)
			continue
		case !h.lostFor(lingerWait): // nobody's, or hidden: as those look that are about to go
			continue
		}
		known := len(h.targets)
		t := h.add(ctx, l, nil)
		t.result.Found = t.result.Found || len(h.targets) > known
	}
	if len(h.targets) > before || born {
		h.chases++
	}
	return err
}

// lostFor reports whether a socket has been without a holder for so long.
func (h *hunt) lostFor(limit time.Duration) bool {
	if h.lost.IsZero() {
		h.lost = time.Now()
	}
	return time.Since(h.lost) > limit
}

// unaccounted returns the sockets of proven holders that no target has which
// is still to be ended, or is settled and stays. A record whose holder was not
// proven leads to others only by its socket.
func (h *hunt) unaccounted(live table) []listeners.Socket {
	lost := table{}
	for _, t := range h.targets {
		for _, l := range t.sockets {
			if live.has(l) && (t.proven || h.proven[l.Socket.Key()]) {
				lost[l.Socket.Key()] = live[l.Socket.Key()]
			}
		}
	}
	for _, t := range h.targets {
		if t.settled() && !t.result.Outcome.Failed() && t.result.Outcome != Ghost {
			continue
		}
		for _, l := range t.sockets {
			if lost.has(l) {
				delete(lost, l.Socket.Key())
			}
		}
	}
	return slices.Collect(maps.Values(lost))
}

// late reports whether all have been killed and had their time.
func (h *hunt) late() bool {
	end := h.killEnd()
	if time.Now().Before(end) || h.pulling() {
		return false
	}
	if time.Since(end) > exitingWait {
		return true
	}
	for _, t := range h.targets {
		if !t.settled() && t.pin != nil && t.pin.Exiting() {
			return false
		}
	}
	return true
}

// killEnd is when those that are left have had their time to go.
func (h *hunt) killEnd() time.Time {
	last := h.started.Add(h.opts.Grace)
	if h.forced.After(last) {
		last = h.forced
	}
	for _, t := range h.targets {
		if end := h.graceEnd(t); !t.settled() && t.managed == nil && end.After(last) {
			last = end
		}
	}
	return last.Add(killWait)
}

// giveUp settles those that are still there; err is why we stopped early.
func (h *hunt) giveUp(err error) {
	for _, t := range h.targets {
		switch {
		case t.settled():
		case t.managed != nil:
			t.cutShort()
			if t.pull != nil {
				t.result.Stop = t.managed.Command(h.opts.Grace)
			}
		case t.pin.Exited():
			t.ended()
		case errors.Is(err, context.Canceled):
			t.settle(Interrupted, "", "")
		case err != nil:
			t.settle(Refused, "unseen", err.Error())
		default:
			why := t.pin.Obstacle()
			t.settle(Survived, why.Cause, why.Detail)
		}
	}
}

// closeGhosts has the kernel close the sockets that nobody has. Of those that
// share a port (SO_REUSEPORT) it finds one at a time, whichever is meant: so it
// is asked again for the others, as long as that closes any.
func (h *hunt) closeGhosts(ctx context.Context) {
	if !h.opts.mayClose() {
		for _, t := range h.targets {
			if t.result.Outcome == Ghost {
				t.leaveOpen()
			}
		}
		return
	}
	for closed := true; closed; {
		closed = false
		for _, t := range h.targets {
			if t.result.Outcome == Ghost && ctx.Err() == nil {
				h.closeGhost(ctx, t)
				closed = closed || t.result.Outcome == Closed
			}
		}
	}
}

// leaveOpen says why t is not closed, though that was asked for.
func (t *target) leaveOpen() {
	if !closable {
		t.settle(Ghost, notClosable, "only Linux closes the socket of another process")
		return
	}
	t.settle(Ghost, string(process.ProtectedNamespace), "a process outside of this PID namespace may have it")
	t.result.Hint = "look from outside of this PID namespace"
}

// listens reports whether one of t's sockets does: the kernel leaves those bound
// that it closes and that were bound to a port by name (tcp_set_state, net/ipv4/tcp.c).
func (t *target) listens(live table) bool {
	return slices.ContainsFunc(t.sockets, func(l listeners.Listener) bool {
		s, ok := live.row(l)
		return ok && s.State == ""
	})
}

// closeGhost asks for one. It is the table that says what came of it.
func (h *hunt) closeGhost(ctx context.Context, t *target) {
	err := listeners.CloseGhost(ctx, t.holder)
	live, lookErr := h.look(ctx)
	switch {
	case (err == nil || errors.Is(err, syscall.ENOENT)) && lookErr == nil && !t.listens(live):
		t.settle(Closed, "", "")
	case errors.Is(err, process.ErrDenied):
		t.settle(Ghost, "denied", "")
		t.result.Hint = "closing a ghost takes root, and CAP_NET_ADMIN where root has not all capabilities"
	default:
		err = cmp.Or(errors.Join(err, lookErr), errStays)
		t.settle(Ghost, notClosable, err.Error())
		t.result.Hint = unclosable(err) + "; end who may have it: " + t.command("portdiag")
	}
}

// notClosable is the reason of a ghost that is not closed.
const notClosable = "not_closable"

// errStays is for a kernel that says yes and does not do it.
var errStays = errors.New("the kernel said that it was closed, and it is not")

// layToRest settles the ghosts that are gone with their heirs.
func (h *hunt) layToRest(ctx context.Context) {
	live, err := h.look(ctx)
	if err != nil {
		return
	}
	for _, t := range h.targets {
		if t.result.Outcome == Ghost && !t.hasAny(live) {
			t.settle(Gone, "", "")
		}
	}
}

// unclosable says why a ghost was not closed. The kernel closes TCP and UDP
// sockets, and says EINVAL of those of MPTCP (tcp_diag_destroy).
func unclosable(err error) string {
	switch {
	case errors.Is(err, syscall.EINVAL):
		return "the kernel does not close MPTCP sockets, as Go servers have them (EINVAL)"
	case errors.Is(err, syscall.EOPNOTSUPP):
		return "this kernel cannot close sockets (EOPNOTSUPP: no CONFIG_INET_DIAG_DESTROY)"
	case errors.Is(err, syscall.ENOENT):
		return "the kernel does not find it behind another socket of its SO_REUSEPORT group (ENOENT)"
	}
	return "it was not closed: " + err.Error()
}

// tell says once what we are waiting for.
func (h *hunt) tell() {
	if h.told || time.Since(h.started) < quiet {
		return
	}
	h.told = true
	awaited := map[time.Time][]int{} // by the end of their grace period
	var managers []string
	for _, t := range h.targets {
		switch {
		case t.settled():
		case t.managed == nil:
			end := h.graceEnd(t)
			awaited[end] = append(awaited[end], t.holder.PID)
		case !slices.Contains(managers, t.managed.All()):
			managers = append(managers, t.managed.All())
		}
	}
	for _, end := range slices.SortedFunc(maps.Keys(awaited), time.Time.Compare) {
		if h.opts.Waiting != nil {
			h.opts.Waiting(awaited[end], time.Until(end))
		}
	}
	if len(managers) > 0 && h.opts.Stopping != nil {
		h.opts.Stopping(managers)
	}
}
