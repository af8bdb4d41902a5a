// Package classify is the stage that judges: it takes what was listed and what
// became of each holder, looks at the port again, and gives one status a port.
package classify

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
)

// Status is the verdict on a port.
type Status string

// The statuses. The goal is reached with the first two.
const (
	Free    Status = "free"    // nobody listened, and nobody does
	Cleaned Status = "cleaned" // somebody listened, and nobody does
	Partial Status = "partial" // a holder could not be ended
	Ghost   Status = "ghost"   // what still listens has no process that could be ended
	Stuck   Status = "stuck"   // it is listened on, though everything was done
)

// Freed reports whether the port can be had.
func (s Status) Freed() bool { return s == Free || s == Cleaned }

// Judge is the table of statuses: whether the port was listened on before,
// whether a holder could not be ended, whether one does not exist, and whether
// the port is listened on now. It is total.
func Judge(listed, failed, ghost, listening bool) Status {
	switch {
	case !listed && !listening:
		return Free
	case !listed:
		return Stuck // taken while we looked
	case !listening && !failed:
		return Cleaned
	case !listening:
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
	Addr           string           `json:"addr,omitempty"`  // that was asked about, IPv6 in brackets
	Proto          listeners.Proto  `json:"proto,omitempty"` // only if it is not TCP
	Status         Status           `json:"status"`
	Killed         []int            `json:"killed"`          // that ended
	Failed         []int            `json:"failed"`          // that we could not or would not end
	Ghost          []int            `json:"ghost"`           // that the kernel names, and that do not exist
	StillListening bool             `json:"still_listening"` // now
	RemainingPIDs  []int            `json:"remaining_pids"`  // who listens now
	Released       []int            `json:"released,omitempty"`
	Forced         []int            `json:"forced,omitempty"`  // of those that ended: by SIGKILL
	Stopped        []string         `json:"stopped,omitempty"` // what managed holders, and was stopped, in words
	Respawned      []Respawn        `json:"respawned,omitempty"`
	Reason         string           `json:"reason,omitempty"` // a word
	Detail         string           `json:"detail,omitempty"` // what there is to say about it
	Hint           string           `json:"hint,omitempty"`   // what helps
	TookMS         int64            `json:"took_ms,omitempty"`
	AlsoListens    []string         `json:"also_listens,omitempty"` // what else went with those that ended: "TCP 127.0.0.1:8443"
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
	return func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			ports := cases{byPort: map[uint16][]*portCase{}}
			for _, q := range queries {
				ports.open(q).asked = true
			}
			if !ports.readAll(seq, yield) {
				return
			}
			now, err := ports.lastLook(ctx)
			if err != nil {
				yield(jsonl.Record{}, err)
				return
			}
			for _, c := range ports.inOrder {
				if !yield(c.record(ctx, now[c.query.Port])) {
					return
				}
			}
		}
	}
}

// cases are the ports that are to be judged.
type cases struct {
	inOrder []*portCase // in which they came up
	byPort  map[uint16][]*portCase
}

// portCase is one port, with all that was said of it.
type portCase struct {
	query   listeners.Query
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
	opened := &portCase{query: q}
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
	var queries []listeners.Query
	for _, known := range c.inOrder {
		queries = append(queries, known.query)
	}
	found, err := listeners.List(context.WithoutCancel(ctx), queries...) // an interrupted run has a verdict too
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

// record is the verdict on a port, of all that listen on it now.
func (c *portCase) record(ctx context.Context, all []listeners.Listener) (jsonl.Record, error) {
	c.narrow(all)
	var now []listeners.Listener
	for _, l := range all {
		if c.query.Asks(l) {
			now = append(now, l)
		}
	}
	res := c.judge(now)
	c.supervised(ctx, &res, now)
	if res.Status == Free {
		res.Hint = c.blocked()
	}
	if ctx.Err() != nil && !res.Status.Freed() && len(c.holders) == 0 {
		res.Reason, res.Detail, res.Hint = "interrupted", "", "" // before anybody could be named
	}
	if res.Status == Ghost || res.Status == Stuck {
		report, err := portdiag.Diagnose(context.WithoutCancel(ctx), c.query)
		if err != nil {
			return jsonl.Record{}, err
		}
		res.Diagnostics = &report
	}
	return jsonl.New(res)
}

// judge decides, by those that listen on the port now.
func (c *portCase) judge(now []listeners.Listener) Result {
	res := Result{
		Port: c.query.Port, Addr: c.query.Where(), StillListening: len(now) > 0,
		Killed: []int{}, Failed: []int{}, Ghost: []int{}, RemainingPIDs: []int{},
	}
	if c.query.Proto != listeners.TCP {
		res.Proto = c.query.Proto
	}
	for _, h := range c.holders {
		c.count(&res, h, now)
	}
	for _, l := range now {
		insert(&res.RemainingPIDs, l.PID)
	}
	res.Status = Judge(len(c.holders) > 0, len(res.Failed) > 0, len(res.Ghost) > 0, res.StillListening)
	c.explain(&res, now)
	return res
}

// count puts a holder where it belongs.
func (c *portCase) count(res *Result, h holder, now []listeners.Listener) {
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
	case o.Ghostly() && (len(now) == 0 || isGhost(now, h.Socket)):
		insert(&res.Ghost, h.PID) // else the kernel names somebody else by now
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

// names says who they are, in words.
func names(found []listeners.Listener) []string {
	var words []string
	for _, l := range found {
		word := "PID " + strconv.Itoa(l.PID)
		if name := inspect(l.PID).Name; l.Owner != "" {
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

// blocked is the hint for a port on which nobody listens, and which cannot be
// had all the same: one that is bound, or has a connection, or takes a
// privilege. It is "" for one that can.
func (c *portCase) blocked() string {
	_, err := portdiag.Bindable(c.query)
	switch strings.TrimPrefix(err, "WSA") {
	case "EADDRINUSE", "EACCES":
		return "nobody listens, and yet it cannot be had: " + c.command("portdiag")
	}
	return ""
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
