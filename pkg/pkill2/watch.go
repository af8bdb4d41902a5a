package pkill2

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// How long a port is watched after its holder ended, if somebody may start it
// again. What does so starts a process at once, as a rule; one that has a rule
// for it may wait before (RestartSec= of systemd is 100 ms unless set). Once there
// is a new process, it may take a while to listen.
const (
	startTime  = 100 * time.Millisecond
	slowStart  = 400 * time.Millisecond // on Windows
	anewStart  = 250 * time.Millisecond // of a container, whose client takes a moment to end
	ruledStart = 1500 * time.Millisecond
	listenTime = 3 * time.Second
	drainTime  = DefaultGrace    // for one that has released its port to end
	youth      = 2 * time.Second // the time of a start is in whole seconds (proc_stat(5), btime)
)

// await returns the table as it is when all was done. If a holder has ended and
// somebody may start it again, its port is watched for a while, so that it is
// not called free in the moment between the two.
func (h *hunt) await(ctx context.Context) (table, error) {
	w := h.newWatch()
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		last := !w.goesOn() // before the look, which may take a while and tells of its beginning
		rows, err := h.read(ctx)
		if err != nil || last || ctx.Err() != nil || w.allTaken(h.fresh(rows)) {
			return rows, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// watch is for how long a new holder is waited for.
type watch struct {
	until   time.Time // in any case
	newborn time.Time // if a process has been born since
	since   process.Moment
	began   time.Time         // the same, by the clock
	ports   []listeners.Query // on which it would listen
	parents []int             // whose child it would be, each once
	ended   map[int]bool      // which may not have been reaped
	stopped bool              // a container was, which a client of its engine would start

	drained  time.Time // until when those that drain are waited for
	draining []*target // after whose end a new holder may come
}

func (h *hunt) newWatch() *watch {
	now := time.Now()
	w := &watch{until: now, newborn: now.Add(listenTime), since: h.began, began: h.started, ended: map[int]bool{}, drained: now.Add(drainTime)}
	for _, t := range h.targets {
		if t.maySpawn() {
			w.expect(t, now)
		}
	}
	return w
}

func (w *watch) expect(t *target, now time.Time) {
	for _, l := range t.sockets {
		if !slices.Contains(w.ports, l.Query()) {
			w.ports = append(w.ports, l.Query())
		}
	}
	w.ended[t.holder.PID] = true
	if t.result.Outcome == Released {
		w.draining = append(w.draining, t)
	} else {
		w.extend(now, t.patience())
	}
	if t.result.Outcome == Stopped { // its parent is the engine, which starts others too
		w.stopped = true
		return
	}
	if t.info.PPID > 1 || t.mayRestart() { // PID 1 has all orphans
		w.addParent(t.info.PPID)
	}
	if m := t.keeper(); m != nil && m.PID > 1 {
		w.addParent(m.PID)
	}
}

func (w *watch) addParent(pid int) {
	if !slices.Contains(w.parents, pid) {
		w.parents = append(w.parents, pid)
	}
}

// extend has the port watched for so long from now on.
func (w *watch) extend(now time.Time, wait time.Duration) {
	if end := now.Add(wait); end.After(w.until) {
		w.until, w.newborn = end, now.Add(listenTime)
	}
}

// drains reports whether some are still to end, in their time. Whose end has
// come may be started again.
func (w *watch) drains(now time.Time) bool {
	w.draining = slices.DeleteFunc(w.draining, func(t *target) bool {
		if !t.pin.Exited() {
			return false
		}
		w.extend(now, t.patience())
		return true
	})
	return len(w.draining) > 0 && now.Before(w.drained)
}

func (w *watch) goesOn() bool {
	now := time.Now()
	return w.drains(now) || now.Before(w.until) || now.Before(w.newborn) && (w.hasChild() || w.hasClient())
}

// hasChild reports whether a process has been born that may be the new holder.
func (w *watch) hasChild() bool {
	return slices.ContainsFunc(process.Born(w.parents, w.since), func(pid int) bool { return !w.ended[pid] })
}

// hasClient reports whether somebody has begun to start a container.
func (w *watch) hasClient() bool {
	if !w.stopped {
		return false
	}
	pids, _ := process.All()
	return slices.ContainsFunc(pids, func(pid int) bool {
		info := process.Glance(pid)
		return !info.Started.Before(w.began.Add(-youth)) && slices.Contains(clients, info.Program()) && slices.ContainsFunc(info.Argv, startsContainer)
	})
}

// clients are the commands of engines.
var clients = []string{"docker", "docker-compose", "podman", "nerdctl"}

// startsContainer reports whether a word of a client starts a container: docker
// run, docker compose up.
func startsContainer(word string) bool {
	return slices.Contains([]string{"run", "start", "restart", "up"}, word)
}

// allTaken reports whether a new socket listens on each port that is watched.
func (w *watch) allTaken(fresh []listeners.Socket) bool {
	return !slices.ContainsFunc(w.ports, func(q listeners.Query) bool { return !slices.ContainsFunc(fresh, q.Matches) })
}

// maySpawn reports whether a holder has ended, or is about to, that something
// may start again: what has a rule to do so; who starts containers; or its
// parent, if that is not the shell, or whatever, that runs us.
func (t *target) maySpawn() bool {
	switch o := t.result.Outcome; {
	case o == Released:
		return t.pin != nil && t.mayRestart()
	case o.Ended() && t.mayRestart():
		return true
	case o == Stopped:
		m := t.keeper()
		return m == nil || m.Kind == manager.Container || isTriggered(m)
	case !o.Ended():
		return false
	}
	ours, err := process.IsAncestor(t.info.PPID)
	return err != nil || !ours || t.info.PPID == 1
}

// patience is how long what starts the holder again may take to begin.
func (t *target) patience() time.Duration {
	switch {
	case t.result.Outcome == Stopped && !isTriggered(t.keeper()): // no rule starts it again then
		return anewStart
	case t.mayRestart(), isTriggered(t.keeper()):
		return ruledStart
	case runtime.GOOS == "windows":
		return slowStart
	}
	return startTime
}

// keeper is what manages t, by our own finding or else by what its record says:
// that makes the watch longer, and nothing else.
func (t *target) keeper() *manager.Manager {
	for _, m := range []*manager.Manager{t.managed, t.manager, t.said} {
		if m != nil {
			return m
		}
	}
	return nil
}

// mayRestart reports whether what manages it has a rule to start it again, or may
// have one that nobody could be asked for.
func (t *target) mayRestart() bool {
	m := t.keeper()
	return m != nil && (m.Restarts() || m.Indirect() && m.Restart == "") || t.inService
}

// isTriggered reports whether other units start what manages it again, though
// it was stopped.
func isTriggered(m *manager.Manager) bool { return m != nil && len(m.StartedBy) > 0 }
