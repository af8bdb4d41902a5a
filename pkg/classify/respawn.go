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

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// watchTime is how long a port is watched after its holder ended, if there may
// be a supervisor: these start a new holder within milliseconds, on Windows
// within some hundred.
func watchTime() time.Duration {
	if runtime.GOOS == "windows" {
		return 400 * time.Millisecond
	}
	return 100 * time.Millisecond
}

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
	end := time.Now()
	if slices.ContainsFunc(c.inOrder, (*portCase).maySpawn) {
		end = end.Add(watchTime())
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		now, err := listeners.List(context.WithoutCancel(ctx), queries...) // an interrupted run has a verdict too
		if err != nil || !time.Now().Before(end) || c.allTaken(now) {
			return now, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			end = time.Now()
		}
	}
}

// allTaken reports whether each port that is worth watching is listened on.
func (c *cases) allTaken(now []listeners.Listener) bool {
	return !slices.ContainsFunc(c.inOrder, func(p *portCase) bool {
		return p.maySpawn() && !slices.ContainsFunc(now, p.query.Asks)
	})
}

// maySpawn reports whether a holder has ended that had another parent than the
// shell, or whatever, that runs us.
func (c *portCase) maySpawn() bool {
	for _, h := range c.holders {
		if !h.outcome.Ended() {
			continue
		}
		if ours, err := process.IsAncestor(h.ppid); err != nil || !ours || h.ppid == 1 {
			return true
		}
	}
	return false
}

// respawned returns those who listen now, on a new socket, and have the same
// parent as a holder that ended.
func (c *portCase) respawned(now []listeners.Listener) []Respawn {
	ended := map[int]bool{}
	for _, h := range c.holders {
		if h.outcome.Ended() && h.ppid != 0 {
			ended[h.ppid] = true
		}
	}
	var out []Respawn
	for _, l := range now {
		if l.Owner != "" {
			continue
		}
		info := inspect(l.PID)
		if c.listed(l) || !ended[info.PPID] {
			continue
		}
		out = append(out, Respawn{
			PID: l.PID, Name: info.Name,
			Supervisor: Supervisor{PID: info.PPID, Name: inspect(info.PPID).Name},
		})
	}
	return out
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
		} else if by.PID > 1 {
			by.Stop = []string{"kill", strconv.Itoa(by.PID)}
		}
		if i == 0 && res.Reason == "respawned" {
			res.Hint = by.hint()
		}
	}
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
	return err == nil && now == birth
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

// hint is the sentence that helps against it.
func (s Supervisor) hint() string {
	if s.Kind != "" && len(s.Stop) > 0 {
		return fmt.Sprintf("stop what starts it again, %s: %s", s, strings.Join(s.Stop, " "))
	}
	return "end what starts it again: " + s.String()
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
	return name + " " + strings.Join(c.query.Args(), " ")
}
