package manager

import (
	"context"
	"errors"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// of knows the programs by which Docker Desktop and its like listen, and
// services that have a process of their own: one that shares its process is
// not what is to be stopped.
func of(ctx context.Context, p *process.Pin, info process.Info, l listeners.Listener) *Manager {
	if name := front(info); name != "" {
		return published(ctx, engine{name: name}, publicationBy(info, l)).onBehalf()
	}
	name := process.OwnService(p.PID())
	birth, err := p.Birth()
	if name == "" || err != nil {
		return nil
	}
	return &Manager{
		Kind: Service, Name: name, Stop: []string{"sc.exe", "stop", name},
		lever: service{name: name, pid: p.PID(), birth: birth},
	}
}

func orItsService(_ context.Context, container *Manager, _ listeners.Listener) *Manager {
	return container
}

// runsHere: a container of an engine with no virtual machine around it is none
// of Linux, and its processes cannot be told.
func runsHere(inspection, uint32) bool { return false }

func weAreIn(string) bool { return false }

func isSystemd(int) bool { return false }

func inFirstNetwork(listeners.Socket) bool { return true }

func isOurs(string) bool { return false }

func unitOf(int) string { return "" }

func socketUnitOf(context.Context, listeners.Listener) *Manager { return nil }

// service is the lever of a service: the service control manager.
type service struct {
	name  string
	pid   int
	birth process.Birth
}

// command is what a person would type: sc.exe does what halt does, and is not
// run.
func (s service) command(time.Duration) []string { return []string{"sc.exe", "stop", s.name} }

// patience is what a service has beyond the grace period, since to kill it
// would have it started again.
const patience = 10 * time.Second

func (s service) halt(ctx context.Context, grace time.Duration) error {
	p, err := process.Open(s.pid)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if birth, err := p.Birth(); errors.Is(err, process.ErrGone) || err == nil && birth != s.birth {
		return nil // it has ended
	}
	if err := p.StopService(s.name); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, grace+patience)
	defer cancel()
	if err := p.Wait(limit); err != nil && ctx.Err() == nil {
		return ErrSlow
	} else if err != nil {
		return context.Canceled
	}
	return nil
}
