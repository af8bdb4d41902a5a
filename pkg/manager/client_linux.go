package manager

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/process"
)

// orItsService is the service that would start a container again, if there is
// one: its main process is a client of the engine, "docker run --name=web …",
// which waits for the container. Without one it is the container.
func orItsService(ctx context.Context, container *Manager) *Manager {
	if container == nil || container.lever == nil {
		return container
	}
	pids, _ := process.All()
	for _, pid := range pids {
		client, err := process.Look(pid)
		if err != nil || !container.hasClient(client) {
			continue
		}
		groups, _ := readCgroups(strconv.Itoa(pid))
		service := serviceOf(ctx, groups, lineage(client))
		if service == nil || !service.Restarts() {
			continue
		}
		if unit, ok := service.lever.(unitLever); ok {
			service.lever = clientLever{unit, container.lever}
		}
		return service
	}
	return container
}

// hasClient reports whether a process has started the container and waits for
// it, as far as its arguments tell: "docker run --name=web …", "docker start
// --attach web". A name elsewhere may be that of a container to link with.
func (m *Manager) hasClient(p process.Info) bool {
	if p.Program() != m.Engine || m.Name == "" {
		return false
	}
	run, start := slices.Index(p.Argv, "run"), slices.Index(p.Argv, "start")
	switch {
	case run > 0:
		at := slices.Index(p.Argv, "--name") + 1
		return slices.Contains(p.Argv, "--name="+m.Name) || at > 0 && at < len(p.Argv) && p.Argv[at] == m.Name
	case start > 0:
		return slices.Contains(p.Argv[start:], m.Name)
	}
	return false
}

// clientLever stops a service and the container that it runs. A client that
// systemd kills leaves the container behind, and one whose container was stopped
// is started again: so systemd is told first, and waited for at last.
type clientLever struct {
	unit      unitLever
	container lever
}

func (c clientLever) command(grace time.Duration) []string { return c.unit.command(grace) }

func (c clientLever) halt(ctx context.Context, grace time.Duration) error {
	_, err := command.Run(ctx, c.unit.bus.systemctl("stop", "--no-block", "--no-ask-password", "--", c.unit.name)...)
	if err != nil {
		return c.unit.explain(err)
	}
	_ = c.container.halt(ctx, grace) // it may be gone by now, with its client
	return c.unit.halt(ctx, grace)
}
