package classify

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pkill2"
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
	drainTime  = pkill2.DefaultGrace // for one that has released its port to end
	youth      = 2 * time.Second     // the time of a start is in whole seconds (proc_stat(5), btime)
)

// lastLook lists who listens now on the ports of all cases. If a holder has
// ended and somebody may start it again, its port is watched for a while, so
// that it is not called free in the moment between the two.
func (c *cases) lastLook(ctx context.Context) ([]listeners.Listener, error) {
	if len(c.inOrder) == 0 {
		return nil, nil
	}
	var queries []listeners.Query
	for _, known := range c.inOrder {
		queries = append(queries, known.query)
	}
	w := c.watch()
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		last := !w.goesOn()                                                // before the look, which may take a while and tells of its beginning
		now, err := listeners.List(context.WithoutCancel(ctx), queries...) // an interrupted run has a verdict too
		if err != nil || last || ctx.Err() != nil || w.allTaken(now) {
			return now, err
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
	since   time.Time
	ports   []*portCase  // on which it would listen
	parents []int        // whose child it would be
	ended   map[int]bool // which may not have been reaped
	stopped bool         // a container was, which a client of its engine would start

	drained  time.Time // until when those that drain are waited for
	draining []holder  // after whose end a new holder may come
}

func (c *cases) watch() watch {
	now := time.Now()
	w := watch{until: now, newborn: now.Add(listenTime), since: now.Add(-youth), ended: map[int]bool{}, drained: now.Add(drainTime)}
	for _, p := range c.inOrder {
		expected := false
		for _, h := range p.holders {
			if h.maySpawn() {
				w.expect(h, now)
				expected = true
			}
		}
		if expected {
			w.ports = append(w.ports, p)
		}
	}
	return w
}

func (w *watch) expect(h holder, now time.Time) {
	w.ended[h.PID] = true
	if h.outcome == pkill2.Released {
		w.draining = append(w.draining, h)
	} else {
		w.extend(now, h.patience())
	}
	if asked := now.Add(-youth - time.Duration(h.tookMS)*time.Millisecond); asked.Before(w.since) {
		w.since = asked
	}
	if h.outcome == pkill2.Stopped { // its parent is the engine, which starts others too
		w.stopped = true
		return
	}
	if h.ppid > 1 || h.mayRestart() { // PID 1 has all orphans
		w.parents = append(w.parents, h.ppid)
	}
	if by := h.supervisor(); by > 1 && by != h.ppid {
		w.parents = append(w.parents, by)
	}
}

// extend has the port watched for so long from now on.
func (w *watch) extend(now time.Time, wait time.Duration) {
	if end := now.Add(wait); end.After(w.until) {
		w.until, w.newborn = end, now.Add(listenTime)
	}
}

// patience is how long what starts the holder again may take to begin.
func (h holder) patience() time.Duration {
	switch {
	case h.outcome == pkill2.Stopped && !h.isTriggered(): // no rule starts it again then
		return anewStart
	case h.mayRestart(), h.isTriggered():
		return ruledStart
	case runtime.GOOS == "windows":
		return slowStart
	}
	return startTime
}

// drains reports whether some are still to end, in their time. Whose end has
// come may be started again.
func (w *watch) drains(now time.Time) bool {
	w.draining = slices.DeleteFunc(w.draining, func(h holder) bool {
		if lives(h.PID, h.Birth) {
			return false
		}
		w.extend(now, h.patience())
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
	return slices.ContainsFunc(w.parents, func(pid int) bool {
		born, _ := process.Kin(pid, w.since)
		return slices.ContainsFunc(born, func(pid int) bool { return !w.ended[pid] })
	})
}

// hasClient reports whether somebody has begun to start a container.
func (w *watch) hasClient() bool {
	if !w.stopped {
		return false
	}
	pids, _ := process.All()
	return slices.ContainsFunc(pids, func(pid int) bool {
		info := inspect(pid)
		return !info.Started.Before(w.since) && slices.Contains(clients, info.Program()) && slices.ContainsFunc(info.Argv, startsContainer)
	})
}

// clients are the commands of engines.
var clients = []string{"docker", "docker-compose", "podman", "nerdctl"}

// startsContainer reports whether a word of a client starts a container: docker
// run, docker compose up.
func startsContainer(word string) bool {
	return slices.Contains([]string{"run", "start", "restart", "up"}, word)
}

// allTaken reports whether each port that is watched is listened on.
func (w watch) allTaken(now []listeners.Listener) bool {
	return !slices.ContainsFunc(w.ports, func(p *portCase) bool { return !slices.ContainsFunc(now, p.query.Asks) })
}

// maySpawn reports whether a holder has ended, or is about to, that something
// may start again: what has a rule to do so; who starts containers; or its
// parent, if that is not the shell, or whatever, that runs us.
func (h holder) maySpawn() bool {
	switch {
	case h.outcome == pkill2.Released, h.outcome.Ended() && h.mayRestart():
		return h.mayRestart()
	case h.outcome == pkill2.Stopped:
		return h.managed == nil || h.managed.Kind == manager.Container || h.isTriggered() // nil: it was hidden from pidcheck
	case !h.outcome.Ended():
		return false
	}
	ours, err := process.IsAncestor(h.ppid)
	return err != nil || !ours || h.ppid == 1
}

// restarts reports whether what manages it has a rule to start it again.
func (h holder) restarts() bool { return h.managed != nil && h.managed.Restarts() }

// mayRestart reports whether it has one, or may have one that nobody could be
// asked for.
func (h holder) mayRestart() bool {
	return h.restarts() || h.managed != nil && h.managed.Indirect() && h.managed.Restart == ""
}

// isTriggered reports whether other units start what manages it again, though
// it was stopped.
func (h holder) isTriggered() bool { return h.managed != nil && len(h.managed.StartedBy) > 0 }

// hasEnded reports whether it has, by our doing.
func (h holder) hasEnded() bool {
	return h.outcome.Ended() || h.outcome == pkill2.Released && !lives(h.PID, h.Birth)
}

// supervisor is the PID of the process that is known to start it again; 0: none.
func (h holder) supervisor() int {
	if h.managed == nil {
		return 0
	}
	return h.managed.PID
}

// respawned returns those who listen now, on a new socket, and were started by
// what started, or manages, a holder that has ended.
func (c *portCase) respawned(now []listeners.Listener) []Respawn {
	var out []Respawn
	for _, l := range now {
		if l.Owner != "" || c.listed(l) {
			continue
		}
		if by := c.startedBy(l.PID); by != 0 {
			out = append(out, Respawn{PID: l.PID, Name: inspect(l.PID).Name, Supervisor: Supervisor{PID: by, Name: inspect(by).Name}})
		}
	}
	return out
}

// startedBy returns the PID of the parent of an ended holder, if it is pid's
// too, or of its supervisor, if that is an ancestor of pid: there may be a shell
// between the two. 0: neither.
func (c *portCase) startedBy(pid int) int {
	parents, supervisors := map[int]bool{}, map[int]bool{}
	for _, h := range c.holders {
		if h.hasEnded() {
			parents[h.ppid] = true
			supervisors[h.supervisor()] = true
		}
	}
	ppid := inspect(pid).PPID
	if ppid != 0 && parents[ppid] {
		return ppid
	}
	for ; ppid > 1; ppid = inspect(ppid).PPID {
		if supervisors[ppid] {
			return ppid
		}
	}
	return 0
}

// supervised says of each respawn what manages the new holder, and how that is
// stopped for good.
func (c *portCase) supervised(ctx context.Context, res *Result, now []listeners.Listener) {
	for i := range res.Respawned {
		by := &res.Respawned[i].Supervisor
		m := managerOf(context.WithoutCancel(ctx), res.Respawned[i].PID, now)
		if m != nil {
			by.Name, by.Kind, by.Restart, by.Stop = m.Name, m.Kind, m.Restart, m.Stop
			by.PID = cmp.Or(m.PID, by.PID)
		} else if mayKill(by.PID) {
			by.Stop = []string{"kill", strconv.Itoa(by.PID)}
		}
		if i == 0 && res.Reason == "respawned" {
			res.Hint = by.hint()
		}
	}
}

// mayKill reports whether one can be told to kill a process that has been found
// to start others again. Windows has no such command.
func mayKill(pid int) bool {
	ours, err := process.IsAncestor(pid)
	return runtime.GOOS != "windows" && pid > 1 && err == nil && !ours
}

func managerOf(ctx context.Context, pid int, now []listeners.Listener) *manager.Manager {
	at := slices.IndexFunc(now, func(l listeners.Listener) bool { return l.PID == pid })
	p, err := process.Open(pid)
	if at < 0 || err != nil {
		return nil
	}
	defer p.Close()
	info, err := p.Inspect()
	if err != nil {
		return nil
	}
	return manager.Of(ctx, p, info, now[at])
}

// listed reports whether the socket of l was there before.
func (c *portCase) listed(l listeners.Listener) bool {
	for _, h := range c.holders {
		if h.Socket.Same(l.Socket) {
			return true
		}
	}
	return false
}

// lives reports whether the process is still there: what held the port on
// behalf of a container or of a unit goes on without it, as PID 1 does.
func lives(pid int, birth process.Birth) bool {
	p, err := process.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	now, err := p.Birth()
	return err == nil && now.Same(birth) && !p.Exited()
}

// inspect returns the zero Info for a process that is gone or hidden.
func inspect(pid int) process.Info {
	p, err := process.Open(pid)
	if err != nil {
		return process.Info{}
	}
	defer p.Close()
	info, _ := p.Inspect()
	return info
}

// mayReturn is the hint for a port that is free: by whom, and by which rule, one
// that has ended is started again. It is "" if there is nobody.
func (c *portCase) mayReturn() string {
	for _, h := range c.holders {
		m := h.managed
		if h.outcome == pkill2.Stopped && h.isTriggered() {
			return strings.Join(m.StartedBy, ", ") + " may start it again: " + shell.Join(m.ForGood()...)
		}
		if !h.outcome.Ended() && h.outcome != pkill2.Released || !h.restarts() || m.Kind == manager.Supervisor && inspect(m.PID).PID == 0 {
			continue
		}
		s := Supervisor{PID: m.PID, Name: m.Name, Restart: m.Restart}.String() + " may start it again"
		if len(m.Stop) > 0 {
			s += ": " + shell.Join(m.Stop...)
		}
		return s
	}
	return ""
}

// hint is the sentence that helps against it.
func (s Supervisor) hint() string {
	verb := "end"
	if s.Kind != "" {
		verb = "stop"
	}
	if len(s.Stop) == 0 {
		return fmt.Sprintf("%s what starts it again: %s", verb, s)
	}
	return fmt.Sprintf("%s what starts it again, %s: %s", verb, s, shell.Join(s.Stop...))
}

func (s Supervisor) String() string {
	switch {
	case s.Name == "":
		return fmt.Sprintf("PID %d", s.PID)
	case s.Restart != "":
		return fmt.Sprintf("%s (restart %s)", s.Name, s.Restart)
	}
	return fmt.Sprintf("%s (PID %d)", s.Name, s.PID)
}

// command is how a command is asked about the port.
func (c *portCase) command(name string) string {
	return shell.Join(append([]string{name}, c.query.Args()...)...)
}
