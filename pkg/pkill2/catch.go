package pkill2

import (
	"context"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// Limits of catch. The window bounds how long one that is held stands still.
const (
	patientChases = 2 // before anybody is held
	catchWindow   = 150 * time.Millisecond
	catchPause    = 100 * time.Microsecond
	holdTime      = 50 * time.Millisecond // for one that is told to stand still, which takes it a processor
	catchBehind   = 8                     // are looked at once more: who has ended, and who was just born
	calmLooks     = 3                     // in a row, with nobody new: that is all of them
)

// catch is for holders that hand the socket on, to a child, faster than all
// processes can be looked at. It looks at those that were born last. Each that
// has the socket becomes a target as every other one, and if it is to be
// signalled, it is held until nobody is found any more: whoever stands still
// starts no other. fork(2) begins anew when a signal comes in between, so that
// one that is told to stop has made its child, which is found, or makes none
// (ERESTARTNOINTR, copy_process of kernel/fork.c). Those that are held are asked
// to end, or else go on. It reports whether one was held.
func (h *hunt) catch(ctx context.Context, lost []listeners.Socket) bool {
	var held []*target
	defer func() {
		for _, t := range held {
			t.pin.Resume()
		}
	}()
	since := process.Newest() - catchBehind
	for end, calm := time.Now().Add(catchWindow), 0; calm < calmLooks && time.Now().Before(end) && ctx.Err() == nil; time.Sleep(catchPause) {
		calm++
		pids := process.Newcomers(since)
		for _, l := range listeners.Among(pids, lost) {
			if t := h.hold(ctx, l); t != nil {
				held = append(held, t)
				calm = 0
			}
		}
		if len(held) > 0 { // what they have started comes after the first of them
			since = held[0].holder.PID
			continue
		}
		calm = 0
		if len(pids) > 0 {
			since = pids[len(pids)-1] - catchBehind
		}
	}
	for _, t := range held {
		if ctx.Err() == nil && !t.settled() {
			h.send(t)
		}
	}
	return len(held) > 0
}

// hold takes one that was just found among the targets, and stops it if nothing
// but a signal is to end it: it is decided before what becomes of it, which may
// take a while, and so it is proven once more.
func (h *hunt) hold(ctx context.Context, l listeners.Listener) *target {
	if len(h.known[identity{pid: l.PID, birth: l.Birth}]) > 0 {
		return nil
	}
	t := h.add(ctx, l, nil)
	t.result.Found = true
	if t.settled() || t.managed != nil {
		return nil
	}
	if t.verify(); t.settled() || t.pin.Hold(holdTime) != nil {
		return nil
	}
	return t
}
