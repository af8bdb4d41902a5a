// Package classify is the stage that judges: it takes what was listed and what
// became of each holder, looks at the port again, and gives one status a port.
package classify

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
	"github.com/killport/killport/pkg/process"
)

// Status is the verdict on a port.
type Status string

// The statuses. The goal is reached with the first two.
const (
	Free    Status = "free"    // nobody had it, and nobody does
	Cleaned Status = "cleaned" // somebody had it, and nobody does
	Partial Status = "partial" // a holder could not be ended
	Ghost   Status = "ghost"   // what still has it is a socket without a process that could be ended
	Stuck   Status = "stuck"   // it is taken, though everything was done
)

// Freed reports whether the port can be had.
func (s Status) Freed() bool { return s == Free || s == Cleaned }

// Judge is the table of statuses: whether somebody had the port before, whether a
// holder could not be ended, whether one does not exist, and whether the port is
// taken now. It is total.
func Judge(listed, failed, ghost, taken bool) Status {
	switch {
	case !listed && !taken:
		return Free
	case !listed:
		return Stuck // taken while we looked, or by what is no holder
	case !taken && !failed:
		return Cleaned
	case !taken:
		return Partial
	case failed && !ghost:
		return Partial
	case ghost && !failed:
		return Ghost
	default:
		return Stuck // of both kinds; or taken again, or held in a way that we cannot see
	}
}

// Result is the record of a port. The PIDs are in ascending order; 0 stands
// for a holder that nobody could name.
type Result struct {
	Port           uint16           `json:"port"`
	Proto          listeners.Proto  `json:"proto,omitempty"` // only if it is not TCP
	Addr           string           `json:"addr,omitempty"`  // that was asked about, IPv6 in brackets
	Status         Status           `json:"status"`
	Killed         []int            `json:"killed"`          // that ended
	Failed         []int            `json:"failed"`          // that we could not or would not end
	Ghost          []int            `json:"ghost"`           // that the kernel names, and that do not exist
	StillListening bool             `json:"still_listening"` // now
	RemainingPIDs  []int            `json:"remaining_pids"`  // who has it now
	Released       []int            `json:"released,omitempty"`
	Forced         []int            `json:"forced,omitempty"`  // of those that ended: by SIGKILL
	Stopped        []string         `json:"stopped,omitempty"` // what managed holders, and was stopped, in words
	Respawned      []Respawn        `json:"respawned,omitempty"`
	Reason         string           `json:"reason,omitempty"` // a word
	Detail         string           `json:"detail,omitempty"` // what there is to say about it
	Hint           string           `json:"hint,omitempty"`   // what helps
	TookMS         int64            `json:"took_ms,omitempty"`
	AlsoListens    []string         `json:"also_listens,omitempty"` // what else went with those that ended: "TCP 127.0.0.1:8443"
	Isolated       []string         `json:"isolated,omitempty"`     // namespaces that are not the host's: pid, net
	Diagnostics    *portdiag.Report `json:"diagnostics,omitempty"`  // of a port that is ghost or stuck
}

// Respawn is a holder that came in place of one that ended.
type Respawn struct {
	PID        int        `json:"pid"`
	Name       string     `json:"name,omitempty"`
	Supervisor Supervisor `json:"supervisor"`
}

// Supervisor is who starts holders again.
type Supervisor struct {
	PID     int          `json:"pid"` // of the parent of the new holder
	Name    string       `json:"name,omitempty"`
	Kind    manager.Kind `json:"kind,omitempty"`
	Restart string       `json:"restart,omitempty"` // its rule, in its own word
	Stop    []string     `json:"stop,omitempty"`    // the command that stops it for good
}

// Stage reads all records and gives one result for each port that they name,
// and for each that was asked for and that none of them named. Of more records than
// fit ([jsonl.MaxKept]) there is no result.
func Stage(queries ...listeners.Query) jsonl.Stage {
	return After(pkill2.Options{Grace: pkill2.DefaultGrace, Manners: pkill2.OwnManners}, queries...)
}

// After is Stage, where it is known how holders were ended: its hints say it
// again.
func After(opts pkill2.Options, queries ...listeners.Query) jsonl.Stage {
	return func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			ports := cases{byPort: map[uint16][]*portCase{}, flags: opts.Flags(), began: process.Now()}
			for _, q := range queries {
				ports.open(q).asked = true
			}
			if !ports.readAll(seq, yield) {
				return
			}
			ports.judge(ctx, yield)
		}
	}
}

// judge gives the result of each.
func (c *cases) judge(ctx context.Context, yield func(jsonl.Record, error) bool) {
	now, err := c.lastLook(ctx)
	if err != nil {
		yield(jsonl.Record{}, err)
		return
	}
	survey, ctx := portdiag.NewSurvey(c.flags, c.queries()...), manager.Remember(ctx)
	for _, p := range c.inOrder {
		if !yield(p.record(ctx, survey, now[p.query.Port])) {
			return
		}
	}
}

func (c *cases) queries() []listeners.Query {
	var all []listeners.Query
	for _, p := range c.inOrder {
		all = append(all, p.query)
	}
	return all
}

// cases are the ports that are to be judged.
type cases struct {
	inOrder []*portCase // in which they came up
	byPort  map[uint16][]*portCase
	flags   []string // of killport, for what is done again
	began   process.Moment
}

// portCase is one port, with all that was said of it.
type portCase struct {
	query   listeners.Query
	flags   []string
	began   process.Moment
	asked   bool // for it; else it is here by its records
	holders []holder
}

// holder is one record.
type holder struct {
	listeners.Listener
	outcome pkill2.Outcome
	reason  string
	detail  string
	hint    string
	tookMS  int64
	done    bool             // pkill2 has seen it
	takenBy []pkill2.Taker   // as it says
	also    []string         // what else it listened on, or what was stopped in its place
	ppid    int              // as pidcheck saw it; 0: unknown
	managed *manager.Manager // what manages it, as pidcheck saw it
}

// open returns the case of q, which is a new one unless it has come up.
func (c *cases) open(q listeners.Query) *portCase {
	for _, known := range c.byPort[q.Port] {
		if known.query == q {
			return known
		}
	}
	opened := &portCase{query: q, flags: c.flags, began: c.began}
	c.inOrder = append(c.inOrder, opened)
	c.byPort[q.Port] = append(c.byPort[q.Port], opened)
	return opened
}

// readAll files the records that say clearly whom they name. It is false if
// there are more than fit, or nobody wants to hear of them.
func (c *cases) readAll(seq jsonl.Seq, yield func(jsonl.Record, error) bool) bool {
	var room jsonl.Room
	for r, err := range seq {
		var h holder
		if err == nil {
			h, err = parse(r)
		}
		if err != nil {
			if !yield(jsonl.Record{}, err) {
				return false
			}
			continue
		}
		if err := room.Take(r, h.beside()); err != nil {
			yield(jsonl.Record{}, err)
			return false
		}
		c.add(h)
	}
	return true
}

// add files h under every case that asks for its socket's port and address.
func (c *cases) add(h holder) {
	asked := false
	for _, known := range c.byPort[h.LocalPort] {
		if known.query.Asks(h.Listener) {
			known.holders = append(known.holders, h)
			asked = true
		}
	}
	if !asked {
		opened := c.open(h.Query())
		opened.holders = append(opened.holders, h)
	}
}

// beside is what h keeps beside its line: the lists of its manager, which may
// take more in memory than in JSON.
func (h holder) beside() int {
	const word = 32 // bytes, with what a list has in reserve
	if h.managed == nil {
		return 0
	}
	m := h.managed
	return word * (len(m.Stop) + len(m.StartedBy) + len(m.AlsoStops) + len(m.Listens))
}

// narrow has a case that nobody asked for be about the one address that all its
// records have, if others of those who listen now have another: these were not
// asked about.
func (c *portCase) narrow(now []listeners.Listener) {
	if c.asked || len(c.holders) == 0 {
		return
	}
	q := c.holders[0].AtAddress()
	elsewhere := func(h holder) bool { return h.AtAddress() != q }
	beside := func(l listeners.Listener) bool { return !q.Asks(l) }
	if q.Addr.IsValid() && !slices.ContainsFunc(c.holders, elsewhere) && slices.ContainsFunc(now, beside) {
		c.query = q
	}
}

// lastLook lists who listens now on the ports of all cases, by port.
func (c *cases) lastLook(ctx context.Context) (map[uint16][]listeners.Listener, error) {
	if len(c.inOrder) == 0 {
		return nil, nil
	}
	found, err := listeners.List(context.WithoutCancel(ctx), c.queries()...) // an interrupted run has a verdict too
	now := map[uint16][]listeners.Listener{}
	for _, l := range found {
		now[l.LocalPort] = append(now[l.LocalPort], l)
	}
	return now, err
}

func parse(r jsonl.Record) (holder, error) {
	l, err := listeners.Parse(r)
	l.Heirs = nil // there may be many, and nobody asks for them here
	h := holder{Listener: l}
	if err != nil {
		return h, err
	}
	if r.Has(pidcheck.Key) {
		checked, err := r.Object(pidcheck.Key)
		if err != nil {
			return h, err
		}
		if checked.Has("ppid") {
			ppid, err := checked.Uint("ppid", 0, 1<<32-1)
			if err != nil {
				return h, err
			}
			h.ppid = int(ppid)
		}
		if h.managed, err = pidcheck.ManagedBy(r); err != nil {
			return h, err
		}
		state, err := checked.Text("state")
		if err != nil {
			return h, err
		}
		h.outcome = untouched(pidcheck.State(state))
	}
	if !r.Has(pkill2.Key) {
		h.outcome = cmp.Or(h.outcome, untouched(pidcheck.State(l.Owner)))
		return h, nil
	}
	return h, h.parseOutcome(r)
}

// untouched is the outcome for a holder that no pkill2 has seen.
func untouched(s pidcheck.State) pkill2.Outcome {
	switch s {
	case pidcheck.Hidden:
		return pkill2.Hidden
	case pidcheck.None:
		return pkill2.Ghost
	case pidcheck.Gone, pidcheck.Zombie:
		return pkill2.Gone
	case pidcheck.Reused:
		return pkill2.Reused
	}
	return ""
}

func (h *holder) parseOutcome(r jsonl.Record) error {
	done, err := r.Object(pkill2.Key)
	if err != nil {
		return err
	}
	h.done = true
	outcome, err := done.Text("outcome")
	if err != nil {
		return err
	}
	if h.outcome = pkill2.Outcome(outcome); !h.outcome.Known() {
		return r.Errorf("member %q is %q, which is no outcome", pkill2.Key+".outcome", outcome)
	}
	if h.detail, err = done.OptionalText("detail"); err != nil {
		return err
	}
	if h.reason, err = done.OptionalText("reason"); err != nil {
		return err
	}
	if h.hint, err = done.OptionalText("hint"); err != nil {
		return err
	}
	if h.also, err = done.OptionalTexts("also_listens"); err != nil {
		return err
	}
	if done.Has("took_ms") {
		ms, err := done.Uint("took_ms", 0, 1<<53)
		if err != nil {
			return err
		}
		h.tookMS = int64(ms)
	}
	return h.parseTakers(done)
}

// parseTakers reads who came after pkill2. Nothing is done to them for it.
func (h *holder) parseTakers(done jsonl.Record) error {
	if !done.Has("taken_by") {
		return nil
	}
	takers, err := done.Objects("taken_by")
	if err != nil {
		return err
	}
	for _, r := range takers {
		var taker pkill2.Taker
		if err := r.Decode(&taker); err != nil {
			return err
		}
		h.takenBy = append(h.takenBy, taker)
	}
	return nil
}

// sight is how it stands with a port at last.
type sight struct {
	now       []listeners.Listener // that have it
	bindError string               // what bind says, if nobody listens
	report    *portdiag.Report     // once it was needed
}

// isTaken: what is merely bound is in the way of a server only if bind says so;
// two that set SO_REUSEADDR can be bound at once.
func (s sight) isTaken() bool { return slices.ContainsFunc(s.now, listens) || s.binds("EADDRINUSE") }

func listens(l listeners.Listener) bool { return l.State == "" }

// binds reports whether bind says so, in the words of Windows too.
func (s sight) binds(says string) bool { return strings.TrimPrefix(s.bindError, "WSA") == says }

// see makes one bind if nobody listens. What that runs into may listen by now,
// or be over: then it is looked at again.
func (c *portCase) see(ctx context.Context, survey *portdiag.Survey, listed []listeners.Listener) (s sight, err error) {
	for _, l := range listed {
		if c.query.Asks(l) {
			s.now = append(s.now, l)
		}
	}
	if s.isTaken() {
		return s, nil
	}
	if _, s.bindError = portdiag.Bindable(c.query); !s.isTaken() {
		return s, nil
	}
	if len(s.now) > 0 {
		return s, nil
	}
	if s.now, err = listeners.List(ctx, c.query); err != nil {
		return s, err
	}
	if err = s.diagnose(ctx, survey, c.query); err == nil {
		s.bindError = s.report.BindError
	}
	return s, err
}

func (s *sight) diagnose(ctx context.Context, survey *portdiag.Survey, q listeners.Query) error {
	if s.report != nil {
		return nil
	}
	report, err := survey.Explain(ctx, q, s.now)
	s.report = &report
	return err
}

// record is the verdict on a port, of which these are listed now. An interrupted
// run has one too.
func (c *portCase) record(ctx context.Context, survey *portdiag.Survey, listed []listeners.Listener) (jsonl.Record, error) {
	c.narrow(listed)
	looking := context.WithoutCancel(ctx)
	s, err := c.see(looking, survey, listed)
	if err != nil {
		return jsonl.Record{}, err
	}
	res := c.judge(s)
	c.supervised(ctx, &res, s.now)
	if ctx.Err() != nil && !res.Status.Freed() && len(c.holders) == 0 {
		res.Reason, res.Detail, res.Hint = "interrupted", "", "" // before anybody could be named
	}
	if res.Status == Ghost || res.Status == Stuck {
		if err := s.diagnose(looking, survey, c.query); err != nil {
			return jsonl.Record{}, err
		}
		res.Diagnostics = s.report
		c.inUse(&res)
		res.ghostly()
	}
	return jsonl.New(res)
}

// judge decides, by how it stands with the port.
func (c *portCase) judge(s sight) Result {
	res := Result{
		Port: c.query.Port, Addr: c.query.Where(), Isolated: process.Isolated(),
		StillListening: slices.ContainsFunc(s.now, listens),
		Killed:         []int{}, Failed: []int{}, Ghost: []int{}, RemainingPIDs: []int{},
	}
	if c.query.Proto != listeners.TCP {
		res.Proto = c.query.Proto
	}
	for _, h := range c.holders {
		c.count(&res, h, s)
	}
	for _, l := range s.now {
		if s.isTaken() {
			insert(&res.RemainingPIDs, l.PID)
		}
	}
	res.Status = Judge(len(c.holders) > 0, len(res.Failed) > 0, len(res.Ghost) > 0, s.isTaken())
	c.explain(&res, s.now)
	if res.Status.Freed() && s.bindError != "" && res.Hint == "" { // EACCES, EADDRNOTAVAIL
		res.Hint = "nobody listens, and yet it cannot be had: " + c.command("portdiag")
	}
	return res
}

// count puts a holder where it belongs.
func (c *portCase) count(res *Result, h holder, s sight) {
	switch o := h.outcome; {
	case o == pkill2.Killed:
		insert(&res.Forced, h.PID)
		insert(&res.Killed, h.PID)
	case o.Ended():
		insert(&res.Killed, h.PID)
	case o == pkill2.Stopped && h.PID == 0: // and nobody could name it
	case o == pkill2.Stopped && !lives(h.PID, h.Birth):
		insert(&res.Killed, h.PID)
	case o == pkill2.Released, o == pkill2.Stopped:
		insert(&res.Released, h.PID)
	case o.Failed():
		insert(&res.Failed, h.PID)
	case o.Ghostly() && (!s.isTaken() || isGhost(s.now, h.Socket)):
		insert(&res.Ghost, h.PID) // else somebody else has it by now
	}
	if (h.outcome == pkill2.Stopped || h.reason == pkill2.Outlived) && h.detail != "" && !slices.Contains(res.Stopped, h.detail) {
		res.Stopped = append(res.Stopped, h.detail)
	}
	if h.outcome.Ended() || h.outcome == pkill2.Stopped {
		for _, name := range h.also {
			insert(&res.AlsoListens, name)
		}
	}
	res.TookMS = max(res.TookMS, h.tookMS)
}

// explain says why the goal was not reached, and what helps.
func (c *portCase) explain(res *Result, now []listeners.Listener) {
	if res.Status.Freed() {
		res.Hint = c.mayReturn()
		return
	}
	for _, h := range c.holders {
		if h.outcome.Failed() || res.Status == Ghost && h.outcome == pkill2.Ghost {
			res.Reason, res.Detail, res.Hint = cmp.Or(h.reason, string(h.outcome)), h.detail, h.hint
			return
		}
	}
	if res.Respawned = c.respawned(now); len(res.Respawned) > 0 {
		res.Reason, res.Hint = "respawned", res.Respawned[0].Supervisor.hint()
		return
	}
	if len(now) == 0 {
		res.Reason, res.Hint = "in_use", "what has it: "+c.command("portdiag") // unless the diagnostics say more
		return
	}
	if slices.ContainsFunc(now, c.listed) { // and the record named somebody else, or nothing was done
		res.Reason, res.Hint = "held", "look again: "+c.command("killport")
		return
	}
	if others := c.unasked(now); len(others) > 0 && len(others) == len(now) {
		res.Reason, res.Detail, res.Hint = "not_asked", strings.Join(names(others), ", "), "who has it: "+c.command("portdiag")
		return
	}
	res.Reason, res.Hint = "taken", "who has it now: "+c.command("portdiag")
	if by := c.mayReturn(); by != "" { // who has it now, the diagnostics say
		res.Hint = by
	}
	if len(res.Stopped) > 0 {
		res.Hint = strings.Join(res.Stopped, ", ") + " was stopped, and the port was taken again; " + res.Hint
	}
}

// inUse says what takes a port that no holder has, and what helps, by the first
// finding that stands in the way. It is not for killport to end.
func (c *portCase) inUse(res *Result) {
	if res.Reason != "in_use" {
		return
	}
	at := slices.IndexFunc(res.Diagnostics.Findings, func(f portdiag.Finding) bool { return f.Severity == portdiag.Error })
	if at < 0 {
		res.Detail = strings.Join(res.Diagnostics.Unseen, "; ")
		return
	}
	f := res.Diagnostics.Findings[at]
	res.Detail, res.Hint = f.Summary, ""
	switch {
	case f.Remedy == nil:
		res.Hint = "look again: " + c.command("portdiag")
	case f.Cause == portdiag.CauseTimeWait:
		res.Hint = "wait until it is over: " + shell.Join(f.Remedy.Command...)
	case f.Cause == portdiag.CauseConnection:
		res.Hint = "killport does not end connections; this does: " + shell.Join(f.Remedy.Command...)
	default:
		res.Hint = "this helps: " + shell.Join(f.Remedy.Command...)
	}
}

// ghostly says what helps against a ghost, where one thing does: to end the one that
// may have it, to close it, or to take it from the kernel.
func (r *Result) ghostly() {
	if r.Reason != string(pkill2.Ghost) {
		return
	}
	for _, f := range r.Diagnostics.Findings {
		if (f.Cause == portdiag.CauseGhost || f.Cause == portdiag.CauseKernel) && f.Remedy != nil {
			r.Hint = "this helps: " + shell.Join(f.Remedy.Command...)
			return
		}
	}
}

// names says who they are, in words.
func names(found []listeners.Listener) []string {
	var words []string
	for _, l := range found {
		word := "PID " + strconv.Itoa(l.PID)
		if name := process.Glance(l.PID).Name; l.Owner != "" {
			word = "somebody unseen"
		} else if name != "" {
			word = name + " (" + word + ")"
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// isGhost reports whether the socket listens now and nobody has it.
func isGhost(now []listeners.Listener, id listeners.ID) bool {
	return slices.ContainsFunc(now, func(l listeners.Listener) bool {
		return l.Owner == listeners.OwnerNone && l.Socket.Same(id)
	})
}

// insert keeps a list sorted, each element once.
func insert[T cmp.Ordered](list *[]T, v T) {
	if at, found := slices.BinarySearch(*list, v); !found {
		*list = slices.Insert(*list, at, v)
	}
}

// Reached reports whether a record of this stage says that the port is free.
func Reached(r jsonl.Record) bool {
	status, err := r.Text("status")
	return err == nil && Status(status).Freed()
}
