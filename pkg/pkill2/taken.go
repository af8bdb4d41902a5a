package pkill2

import (
	"context"
	"fmt"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// Held is the reason of a holder that is out of the way while its socket still
// listens: somebody else has it, to whom the record does not lead.
const Held = "held"

// Taker is who listens on the port of a holder that is out of the way, on another
// socket. It came after us, or between the listing and us.
type Taker struct {
	LocalAddr string          `json:"local_addr"`
	PID       int             `json:"pid"` // of no process if there is an Owner
	Owner     listeners.Owner `json:"owner,omitempty"`
	Name      string          `json:"name,omitempty"`
	Birth     process.Birth   `json:"birth,omitempty"`
	Started   *time.Time      `json:"started,omitempty"`
	Newborn   bool            `json:"newborn,omitempty"` // it was born after we came
	Socket    listeners.ID    `json:"socket"`
}

// String says it to people: "node (PID 77)".
func (t Taker) String() string {
	switch {
	case t.Owner != "":
		return "somebody unseen"
	case t.Name == "":
		return fmt.Sprintf("PID %d", t.PID)
	}
	return fmt.Sprintf("%s (PID %d)", t.Name, t.PID)
}

// finish looks who has the ports now that all was done, in its time.
func (h *hunt) finish(ctx context.Context) error {
	rows, err := h.await(ctx)
	if err != nil {
		return err
	}
	h.markHeld(rows)
	fresh := h.fresh(rows)
	if len(fresh) == 0 {
		return nil
	}
	lines, err := listeners.Holders(ctx, fresh)
	for _, l := range lines {
		h.takers[l.Query()] = append(h.takers[l.Query()], h.taker(l))
	}
	return err
}

func (h *hunt) taker(l listeners.Listener) Taker {
	taker := Taker{LocalAddr: l.LocalAddr, PID: l.PID, Owner: l.Owner, Birth: l.Birth, Socket: l.Socket, Newborn: l.Birth.Since(h.began)}
	if l.Owner == "" {
		info := process.Glance(l.PID)
		taker.Name = info.Name
		if !info.Started.IsZero() {
			taker.Started = &info.Started
		}
	}
	return taker
}

// fresh are the sockets that no record means, and that were not there when we
// came; or were, in the way of a record whose socket was not there any more. What is
// merely bound may be so for a moment, by who looks whether the port can be had.
func (h *hunt) fresh(rows table) []listeners.Socket {
	meant := map[listeners.ID]bool{}
	late := map[listeners.Query][]listeners.Query{} // by port: the addresses that were taken before we came
	for _, t := range h.targets {
		for _, l := range t.sockets {
			meant[l.Socket.Key()] = true
			if t.isPast() && !h.before.has(l) {
				late[l.Query()] = append(late[l.Query()], l.AtAddress())
			}
		}
	}
	var fresh []listeners.Socket
	for key, s := range rows {
		old, there := h.before[key]
		there = there && old.ID.Same(s.ID)
		if s.State != listeners.Bound && !meant[key] && (!there || anyMatches(late[s.Listener().Query()], s)) {
			fresh = append(fresh, s)
		}
	}
	return fresh
}

func anyMatches(queries []listeners.Query, s listeners.Socket) bool {
	for _, q := range queries {
		if q.Matches(s) {
			return true
		}
	}
	return false
}

// markHeld says of holders that are out of the way that their socket listens all
// the same, and that nobody else here answers for it. One that was closed may stay
// bound.
func (h *hunt) markHeld(rows table) {
	answered := map[listeners.ID]bool{}
	for _, t := range h.targets {
		for _, l := range t.sockets {
			answered[l.Socket.Key()] = answered[l.Socket.Key()] || !t.outOfTheWay()
		}
	}
	for _, t := range h.targets {
		for _, l := range t.sockets {
			if t.outOfTheWay() && t.result.Outcome != Closed && rows.has(l) && !answered[l.Socket.Key()] {
				t.result.Reason = Held
				t.result.Hint = "look again: " + t.command("killport")
			}
		}
	}
}

// outOfTheWay reports whether the holder does not stand between us and the port.
func (t *target) outOfTheWay() bool {
	return t.settled() && !t.result.Outcome.Failed() && t.result.Outcome != Ghost
}

// takenBy is who has the port of a record now. The first record of a port names
// all of them; every other one the first that is in the way of its address.
func (h *hunt) takenBy(it item) []Taker {
	q := it.listener.Query()
	all := h.takers[q]
	if len(all) == 0 || !it.target.outOfTheWay() {
		return nil
	}
	if !h.named[q] {
		h.named[q] = true
		return all
	}
	for i, taker := range all {
		if taker.inTheWay(it.listener) {
			return all[i : i+1]
		}
	}
	return nil
}

// inTheWay reports whether whoever wants the address of l cannot have it.
func (t Taker) inTheWay(l listeners.Listener) bool {
	return l.AtAddress().Asks(listeners.Listener{Proto: l.Proto, LocalAddr: t.LocalAddr, LocalPort: l.LocalPort})
}

// Reached reports whether a record of this stage says that its holder is out of
// the way, that nobody has its socket, and nobody has taken its port again.
func Reached(r jsonl.Record) bool {
	var v struct {
		listeners.Listener
		Done *Result `json:"pkill2"`
	}
	if err := r.Decode(&v); err != nil || v.Done == nil || !v.Done.Outcome.Known() {
		return false
	}
	for _, taker := range v.Done.TakenBy {
		if taker.inTheWay(v.Listener) {
			return false
		}
	}
	return !v.Done.Outcome.Failed() && v.Done.Outcome != Ghost && v.Done.Reason != Held
}
