package manager

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// orItsService is the service that would start a container again, if there is
// one: its main process is a client of the engine, "docker run --name=web …",
// which waits for the container. Without one it is the container.
func orItsService(ctx context.Context, container *Manager, l listeners.Listener) *Manager {
	if container == nil || container.lever == nil {
		return container
	}
	pids, _ := process.All()
	for _, pid := range pids {
		client, err := process.Look(pid)
		if err != nil || !container.hasClient(client, l.LocalPort) {
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
// --attach web", or "docker run --publish=8000:80 shop" of one that nobody has
// given a name. A name elsewhere may be that of a container to link with.
func (m *Manager) hasClient(p process.Info, port uint16) bool {
	if p.Program() != m.Engine || m.Name == "" {
		return false
	}
	if start := slices.Index(p.Argv, "start"); start > 0 && !slices.Contains(p.Argv, "run") {
		return slices.Contains(p.Argv[start:], m.Name)
	}
	names := values(p.Argv, "--name")
	return slices.Contains(p.Argv, "run") &&
		(slices.Contains(names, m.Name) || len(names) == 0 && m.Image != "" && slices.Contains(p.Argv, m.Image) && publishes(p.Argv, port))
}

// publishes reports whether arguments of "docker run" publish a port of the
// host: --publish=[IP:]PORT:INSIDE.
func publishes(argv []string, port uint16) bool {
	return slices.ContainsFunc(append(values(argv, "--publish"), values(argv, "-p")...), func(value string) bool {
		parts := strings.Split(value, ":")
		return len(parts) > 1 && parts[len(parts)-2] == strconv.Itoa(int(port))
	})
}

// values are those of a flag: "--name=web", "--name web".
func values(argv []string, flag string) []string {
	var all []string
	for i, arg := range argv {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			all = append(all, value)
		} else if arg == flag && i+1 < len(argv) {
			all = append(all, argv[i+1])
		}
	}
	return all
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
