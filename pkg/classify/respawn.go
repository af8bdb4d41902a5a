package classify

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/process"
)

// returns reports whether what manages it has a rule by which it comes back: by
// itself, or when a file changes.
func (h holder) returns() bool {
	return h.managed != nil && h.managed.Restart != "" && h.managed.Restart != "no"
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

// respawned returns those who listen now, were born after we began to end
// holders, and were started by what started, or manages, a holder that has ended.
func (c *portCase) respawned(now []listeners.Listener) []Respawn {
	var out []Respawn
	by := c.starters()
	for _, l := range now {
		if taker := c.taker(l); taker == nil || !taker.Newborn || l.Owner != "" {
			continue
		}
		if pid := by.of(l.PID); pid != 0 {
			out = append(out, Respawn{PID: l.PID, Name: process.Glance(l.PID).Name, Supervisor: Supervisor{PID: pid, Name: process.Glance(pid).Name}})
		}
	}
	return out
}

// taker is what pkill2 says of a listener that came after it; nil if it says
// nothing.
func (c *portCase) taker(l listeners.Listener) *pkill2.Taker {
	for _, h := range c.holders {
		for i, taker := range h.takenBy {
			if taker.Socket.Same(l.Socket) && taker.PID == l.PID && taker.Birth == l.Birth {
				return &h.takenBy[i]
			}
		}
	}
	return nil
}

// unasked returns those who listen now, and were not asked about: no record names
// their socket, pkill2, which has looked for it, says of none that it came after
// it, and none was born since we began to read.
func (c *portCase) unasked(now []listeners.Listener) []listeners.Listener {
	if !slices.ContainsFunc(c.holders, func(h holder) bool { return h.done }) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(now), func(l listeners.Listener) bool {
		return c.listed(l) || c.taker(l) != nil || l.Birth.Since(c.began)
	})
}

// starters are those who start holders again: the parents of those that ended,
// and what manages them.
type starters struct{ parents, supervisors map[int]bool }

func (c *portCase) starters() starters {
	by := starters{map[int]bool{}, map[int]bool{}}
	for _, h := range c.holders {
		if !h.hasEnded() {
			continue
		}
		if !adopts(h.ppid) || h.managed != nil && h.managed.Restart != "no" {
			by.parents[h.ppid] = true
		}
		by.supervisors[h.supervisor()] = true
	}
	return by
}

// adopts reports whether a process has all orphans for children, and so need not
// have started what it is the parent of: PID 1, and the systemd of a user.
func adopts(pid int) bool { return pid == 1 || process.Glance(pid).Name == "systemd" }

// of returns the PID of the parent of an ended holder, if it is pid's too, or of
// its supervisor, if that is an ancestor of pid: there may be a shell between the
// two. 0: neither.
func (s starters) of(pid int) int {
	ppid := process.Glance(pid).PPID
	if ppid != 0 && s.parents[ppid] {
		return ppid
	}
	for ; ppid > 1; ppid = process.Glance(ppid).PPID {
		if s.supervisors[ppid] {
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
// to start others again: not what killport would not end. Windows has no such
// command.
func mayKill(pid int) bool {
	p, err := process.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	info, err := p.Inspect()
	if err != nil {
		return false
	}
	protection, err := process.Protect(p, info)
	return runtime.GOOS != "windows" && err == nil && protection == ""
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

// mayReturn is the hint for a port that is free: by whom, and by which rule, one
// that has ended is started again. It is "" if there is nobody.
func (c *portCase) mayReturn() string {
	for _, h := range c.holders {
		m := h.managed
		if h.outcome == pkill2.Stopped && h.isTriggered() {
			return strings.Join(m.StartedBy, ", ") + " may start it again: " + shell.Join(m.ForGood()...)
		}
		if !h.outcome.Ended() && h.outcome != pkill2.Released || !h.returns() || m.Kind == manager.Supervisor && process.Glance(m.PID).PID == 0 {
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
	argv := []string{name}
	if name == "killport" {
		argv = append(argv, c.flags...)
	}
	return shell.Join(append(argv, c.query.Args()...)...)
}
