package manager

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// orItsService is the service that would start a container again, if there is
// one: it does nothing but run a client of the engine, "docker run --name=web …"
// or "docker compose up", which waits for the container. Without one it is the
// container.
func orItsService(ctx context.Context, container *Manager, l listeners.Listener) *Manager {
	if container == nil || container.lever == nil {
		return container
	}
	for _, client := range clients(ctx) {
		if !container.isRunBy(client, l.LocalPort) && !container.isComposedBy(client) {
			continue
		}
		groups, _ := readCgroups(strconv.Itoa(client.PID))
		runs := func(line []ancestor, mainPID, _ int) standing { return runs(line, mainPID, descendants) }
		service := serviceOf(ctx, groups, lineage(client), runs)
		if service == nil || !service.Restarts() {
			continue
		}
		service.Listens = container.Listens
		if unit, ok := service.lever.(unitLever); ok {
			service.lever = clientLever{unit, container.lever}
		}
		return service
	}
	return container
}

// clients are the processes that may have started a container and wait for it.
func clients(ctx context.Context) []process.Info {
	return remembered(ctx, "clients", func() (found []process.Info) {
		pids, _ := process.All()
		for _, pid := range pids {
			if info, err := process.Look(pid); err == nil && isClient(info) {
				found = append(found, info)
			}
		}
		return found
	})
}

// isClient reports whether a command line may be that of a client.
func isClient(p process.Info) bool {
	return slices.ContainsFunc(p.Argv, func(arg string) bool { return arg == "run" || arg == "start" || arg == "up" })
}

// runs says how a service stands to the first of a line: whether that is its main
// process, or with what has started it all that the main process has started. A
// client among other jobs is not what the service is for.
func runs(line []ancestor, mainPID int, kin func(pid int) int) standing {
	for i, a := range line {
		switch {
		case a.PID != mainPID:
		case i == 0:
			return leader
		case !line[0].isJob() && kin(a.PID) == i+kin(line[0].PID):
			return worker
		}
	}
	return stray
}

// isRunBy reports whether a process has started the container and waits for
// it, as far as its arguments tell: "docker run --name=web …", "docker start
// --attach web", or "docker run --publish=8000:80 shop" of one that nobody has
// given a name. A name elsewhere may be that of a container to link with.
func (m *Manager) isRunBy(p process.Info, port uint16) bool {
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

// isComposedBy reports whether a process has started the container's project
// and waits for it: "docker compose up" or "docker-compose up", in its folder
// or by its name.
func (m *Manager) isComposedBy(p process.Info) bool {
	args, ok := composed(p)
	up := slices.Index(args, "up")
	if m.Project == "" || !ok || up < 0 {
		return false
	}
	args = args[:up]
	if names := values(args, "--project-name", "-p"); len(names) > 0 {
		return slices.Contains(names, m.Project)
	}
	at, err := os.Readlink("/proc/" + strconv.Itoa(p.PID) + "/cwd")
	folder, ferr := filepath.EvalSymlinks(m.folder)
	return err == nil && ferr == nil && inProject(args, at, folder)
}

// composed are the arguments of a compose, which is a program, a script, or a
// plugin of the engine's command.
func composed(p process.Info) (args []string, ok bool) {
	const compose = "docker-compose"
	if len(p.Argv) == 0 {
		return nil, false
	}
	switch program := p.Program(); {
	case program == compose:
		return p.Argv[1:], true
	case slices.Contains(engines, engineName(program)):
		at := slices.Index(p.Argv, "compose")
		return p.Argv[at+1:], at > 0
	}
	script := launched(append([]string{p.Program()}, p.Argv[1:]...))
	if len(script) == 0 || path.Base(script[0]) != compose {
		return nil, false
	}
	return script[1:], true
}

// inProject reports whether "docker compose" with those arguments, started at a
// folder, finds the project in another one: that of the first file that it is
// given, or else the nearest above it that has such a file
// (https://docs.docker.com/reference/cli/docker/compose/).
func inProject(argv []string, at, folder string) bool {
	absolute := func(name string) string {
		if filepath.IsAbs(name) {
			return filepath.Clean(name)
		}
		return filepath.Join(at, name)
	}
	if dirs := values(argv, "--project-directory"); len(dirs) > 0 {
		return absolute(dirs[0]) == folder
	}
	if files := values(argv, "--file", "-f"); len(files) > 0 {
		return filepath.Dir(absolute(files[0])) == folder
	}
	return at == folder || strings.HasPrefix(at, folder+"/")
}

// publishes reports whether arguments of "docker run" publish a port of the
// host: --publish=[IP:]PORT:INSIDE.
func publishes(argv []string, port uint16) bool {
	return slices.ContainsFunc(values(argv, "--publish", "-p"), func(value string) bool {
		parts := strings.Split(value, ":")
		return len(parts) > 1 && parts[len(parts)-2] == strconv.Itoa(int(port))
	})
}

// values are those of a flag, which may have several names: "--name=web",
// "--name web".
func values(argv []string, flags ...string) []string {
	var all []string
	for i, arg := range argv {
		name, value, joined := strings.Cut(arg, "=")
		switch {
		case !slices.Contains(flags, name):
		case joined:
			all = append(all, value)
		case i+1 < len(argv):
			all = append(all, argv[i+1])
		}
	}
	return all
}

// clientLever stops a service and the container that it runs. A client that
// systemd kills leaves the container behind, and one whose container was stopped
// is started again: so systemd is told first, and then both are waited for.
type clientLever struct {
	unit      unitLever
	container lever
}

func (c clientLever) command(grace time.Duration) []string { return c.unit.command(grace) }

func (c clientLever) halt(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, grace+teardown, ErrSlow)
	defer cancel()
	_, err := command.Run(ctx, c.unit.bus.systemctl(c.unit.stop("--no-block")...)...)
	if err != nil {
		return c.unit.explain(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- c.container.halt(ctx, grace) }()
	err = c.unit.halt(ctx, grace)
	// The container may have gone with its client: only that it has not is an error.
	if slow := <-stopped; err == nil && errors.Is(slow, ErrSlow) {
		return slow
	}
	return err
}
