package portdiag

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// end is the remedy for what processes hold and killport does not end: to end
// them all, or to stop the one thing that manages them all. It is nil if there
// is one among them that killport would not touch.
func end(ctx context.Context, q listeners.Query, pids []int) *Remedy {
	if len(pids) == 0 {
		return nil
	}
	needsAdmin := false
	var stops []*Remedy
	for _, pid := range pids {
		p, info, err := look(pid)
		if err != nil {
			return nil
		}
		m := manager.Of(ctx, p, info, listeners.Listener{Proto: q.Proto, LocalAddr: "0.0.0.0", LocalPort: q.Port, PID: info.PID})
		protection, err := process.Protect(p, info)
		needsAdmin = needsAdmin || errors.Is(p.MayTerminate(), process.ErrDenied)
		p.Close()
		if err != nil {
			return nil
		}
		switch pidcheck.Decide(protection, m.Control(), pidcheck.Leave{}) {
		case pidcheck.BySignal:
		case pidcheck.Spared:
			return nil
		default:
			stops = append(stops, stop(m, pid))
		}
	}
	switch {
	case len(stops) > 0:
		return same(stops, len(pids))
	case needsAdmin:
		return asRoot(endCommand(pids)...)
	}
	return &Remedy{Command: endCommand(pids)}
}

// endCommand ends processes. That of Windows has dashes, since Git Bash takes
// /F for a folder.
func endCommand(pids []int) []string {
	command := []string{"kill"}
	if runtime.GOOS == "windows" {
		command = []string{"taskkill", "-F"}
	}
	for _, pid := range pids {
		if runtime.GOOS == "windows" {
			command = append(command, "-PID")
		}
		command = append(command, strconv.Itoa(pid))
	}
	return command
}

// same is the remedy that n processes have in common; nil if they have none.
func same(remedies []*Remedy, n int) *Remedy {
	first := remedies[0]
	if len(remedies) < n || slices.ContainsFunc(remedies, func(r *Remedy) bool {
		return r == nil || !slices.Equal(r.Command, first.Command)
	}) {
		return nil
	}
	return first
}

// stop is the remedy for what m manages. A unit that killport does not stop is
// not stopped for a socket that does not even listen.
func stop(m *manager.Manager, pid int) *Remedy {
	if m.Kind != manager.Container && !m.Halts() {
		return nil
	}
	return managedFinding(m, pid).Remedy
}

// look pins a process, and inspects it.
func look(pid int) (*process.Pin, process.Info, error) {
	p, err := process.Open(pid)
	if err != nil {
		return nil, process.Info{}, err
	}
	info, err := p.Inspect()
	if err != nil {
		p.Close()
		return nil, info, err
	}
	return p, info, nil
}
