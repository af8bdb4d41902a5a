package pkill2

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// pull is the use of one lever, for all the targets that one thing manages.
type pull struct {
	manager *manager.Manager
	command []string
	done    chan struct{} // closed when all the others are set
	err     error
	ended   time.Time
}

func (p *pull) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// managed is the reason of what has to do with the manager of a holder.
const managed = "managed"

// otherwise is the hint for a manager that we cannot get to stop.
func (t *target) otherwise(m *manager.Manager) string {
	switch {
	case m.Control() == manager.StopsOthers:
		return "stop all of them, which --override does too: " + shell.Join(elevated(m)...)
	case os.Geteuid() > 0 && !m.Spared():
		return "run it as root: " + t.command("sudo", "killport")
	case len(m.Stop) > 0:
		return "stop what manages it: " + shell.Join(m.Stop...)
	case m.Control() == manager.Nameless:
		return "--override ends it all the same, or look what manages it: " + t.command("portdiag")
	}
	return "look what manages it: " + t.command("portdiag")
}

// elevated is the command that stops m, as root where that takes root.
func elevated(m *manager.Manager) []string {
	if m.User {
		return m.Stop
	}
	return process.Elevated(m.Stop...)
}

// pullAll uses the levers of the targets that have one, each once. Sockets of
// systemd go before its services, which they would start again.
func (h *hunt) pullAll(ctx context.Context) {
	var started []*pull
	for _, t := range h.targets {
		if t.managed == nil || t.pull != nil || t.settled() {
			continue
		}
		t.asked = time.Now()
		at := slices.IndexFunc(h.pulls, func(p *pull) bool { return p.manager.Same(t.managed) })
		if at >= 0 {
			t.pull = h.pulls[at]
			continue
		}
		t.pull = &pull{manager: t.managed, done: make(chan struct{})}
		h.pulls = append(h.pulls, t.pull)
		started = append(started, t.pull)
	}
	for _, p := range started {
		h.wg.Go(func() { h.halt(ctx, p, started) })
	}
}

func (h *hunt) halt(ctx context.Context, p *pull, others []*pull) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.watch, cancel)()
	for _, first := range others {
		if p.manager.Kind != manager.SocketUnit && first.manager.Kind == manager.SocketUnit {
			<-first.done
		}
	}
	grace := max(time.Until(h.started.Add(h.opts.Grace)), 0)
	p.command = p.manager.Command(grace)
	p.err = p.manager.Halt(ctx, grace)
	p.ended = time.Now()
	close(p.done)
	h.wake()
}

// pulling reports whether a lever is in use: it has limits of its own.
func (h *hunt) pulling() bool {
	return slices.ContainsFunc(h.targets, func(t *target) bool { return !t.settled() && t.pull != nil })
}

// pulled settles t once its lever has been used. It is the table of sockets
// that says what came of it.
func (t *target) pulled(live table) {
	if t.pull == nil || !t.pull.isDone() {
		return
	}
	err := t.pull.err
	switch {
	case !t.hasAny(live):
		t.settle(Stopped, "", t.managed.All())
	case errors.Is(err, context.Canceled):
		t.cutShort()
	case errors.Is(err, manager.ErrSlow):
		t.settle(Survived, managed, t.managed.String()+": "+err.Error())
	case errors.Is(err, process.ErrDenied):
		t.settle(Denied, managed, t.managed.String()+": "+errorLine(err))
	case err != nil:
		t.settle(Refused, managed, t.managed.String()+": "+errorLine(err))
		t.result.Hint = t.otherwise(t.managed)
	case time.Since(t.pull.ended) > lingerWait:
		t.settle(Survived, Outlived, t.managed.All())
	default:
		return
	}
	t.result.Stop = t.pull.command
}

// cutShort settles t, whose manager has not done yet what it was asked for, if
// it was: an engine, and systemd, go on without the one who asked.
func (t *target) cutShort() {
	t.settle(Interrupted, "", t.managed.All())
	if t.pull != nil {
		t.result.Hint = t.managed.All() + " was asked to stop, and may still do so: " + t.command("portdiag")
	}
}

// errorLine is the last line of an error: joined ones begin with what they are
// told by.
func errorLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return lines[len(lines)-1]
}
