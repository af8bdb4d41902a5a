package manager

import (
	"bytes"
	"context"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

func of(ctx context.Context, p *process.Pin, info process.Info, l listeners.Listener) *Manager {
	groups, err := readCgroups(strconv.Itoa(p.PID()))
	if err != nil {
		return nil
	}
	line := lineage(info)
	if m, ok := containerOf(ctx, groups, line, info, l); ok {
		return m
	}
	u, inUnit := groups.unit()
	if inUnit && u.name == "init.scope" || p.PID() == 1 && info.Name == "systemd" {
		if b, err := busOf(u); err == nil {
			return b.socketUnit(ctx, l)
		}
		return nil
	}
	if m := keeper(info); m != nil {
		return m
	}
	near := nearest(line, environ(p.PID()))
	if near != nil && near.keepsMany() {
		return near
	}
	if m := serviceOf(ctx, groups, line); m != nil {
		return m
	}
	return near
}

// readCgroups reads those of a process, and where systemd's begin.
func readCgroups(pid string) (cgroups, error) {
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return cgroups{}, err
	}
	first, _ := os.ReadFile("/proc/1/cgroup")
	return parseCgroups(b).below(parseCgroups(first)), nil
}

// containerOf is what runs a container that the holder is in, or listens for.
func containerOf(ctx context.Context, groups cgroups, line []ancestor, info process.Info, l listeners.Listener) (m *Manager, ok bool) {
	ours, _ := readCgroups("self")
	c, inside := groups.container(ours)
	if !inside || c.engine == string(podman) {
		if m := monitored(ctx, line); m != nil {
			return m, true
		}
	}
	if inside {
		return orItsService(ctx, contained(ctx, c, groups), l), true
	}
	if name := front(info); name != "" {
		m := published(ctx, engineOf(name, owner(info.PID)), publicationBy(info, l))
		return orItsService(ctx, m, l).onBehalf(), true
	}
	return nil, false
}

// contained is the container that a process is in. A cgroup can have any name,
// and one to whom a tree of them was given can make any: so the engine must
// say that its container is in this one.
func contained(ctx context.Context, c container, groups cgroups) *Manager {
	if c.id == "" {
		return machine(c)
	}
	byID := anyByID
	if c.engine != "" {
		u, _ := groups.unit()
		byID = engineOf(engineName(c.engine), u.uid).byID
	}
	m, inspected := byID(ctx, c.id)
	if inspected == nil {
		return m
	}
	if !inGroup(inspected.State.PID, c.id) {
		return m.without(errElsewhere)
	}
	return m
}

// inGroup reports whether a process is in a cgroup of the container.
func inGroup(pid int, id string) bool {
	groups, err := readCgroups(strconv.Itoa(pid))
	return err == nil && pid > 1 && groups.name(id)
}

// runsHere reports whether what the engine says to be the process of a
// container is that, here: the kernel says so of its cgroup, or, of the
// containers of an ordinary user, who may have no cgroups to give away, the
// process that runs it does, its parent as a rule.
func runsHere(c inspection) bool {
	if inGroup(c.State.PID, c.ID) {
		return true
	}
	first, err := process.Look(c.State.PID)
	if err != nil || c.State.PID <= 1 {
		return false
	}
	parent, _ := process.Look(first.PPID) // the zero Info runs nothing
	return slices.ContainsFunc([]process.Info{first, parent}, func(info process.Info) bool {
		conmons, _ := parseConmon(info)
		shims, _ := parseShim(info)
		return conmons == c.ID || shims == c.ID
	})
}

// monitored is what runs the container of podman whose conmon is the holder,
// or is above it. conmon has the published ports of root's containers, and is
// not in their cgroup; an ordinary user's may have no cgroup of their own.
func monitored(ctx context.Context, line []ancestor) *Manager {
	for i, a := range line {
		id, ok := parseConmon(a.Info)
		if !ok {
			continue
		}
		if slices.Contains(ourContainers(), id) {
			return nil
		}
		groups, _ := readCgroups(strconv.Itoa(a.PID))
		if m := serviceOf(ctx, groups, line[i:]); m != nil {
			return m // which would start the container again: "podman generate systemd", quadlets
		}
		m, inspected := engineOf(podman, owner(a.PID)).byID(ctx, id)
		if inspected != nil && inspected.State.ConmonPID != a.PID {
			return nil // it serves a "podman exec", or has only taken the name
		}
		return m
	}
	return nil
}

// ourContainers are the containers of podman that we are in.
func ourContainers() (ids []string) {
	self, err := process.Look(os.Getpid())
	if err != nil {
		return nil
	}
	for _, a := range lineage(self) {
		if id, ok := parseConmon(a.Info); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// engineOf is the engine of that name that a user has: rootless ones are each
// user's own. Root asks as that user, from a folder that the user may enter:
// what the user's configuration makes of the command is the user's doing.
func engineOf(name engineName, uid uint32) engine {
	known, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if uid == 0 || os.Geteuid() != 0 || err != nil {
		return engine{name: name}
	}
	as := append(setUser(known.Uid, known.Gid), "env", "--chdir=/", "XDG_RUNTIME_DIR=/run/user/"+known.Uid)
	return engine{name: name, as: as}
}

// owner is the user whose process it is; root if that cannot be seen.
func owner(pid int) uint32 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	status, err := procfs.ParseStatus(b)
	if err != nil {
		return 0
	}
	return status.UID
}

// busOf is the systemd of a unit.
func busOf(u unit) (bus, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
		return bus{}, err
	}
	if !u.user {
		return bus{}, nil
	}
	gid := func() string {
		uid := strconv.FormatUint(uint64(u.uid), 10)
		if known, err := user.LookupId(uid); err == nil {
			return known.Gid
		}
		return uid
	}
	return bus{user: true, as: asUser(int(u.uid), os.Geteuid(), os.Getenv("XDG_RUNTIME_DIR"), gid)}, nil
}

// ancestor is one process of a lineage.
type ancestor struct {
	process.Info
	stat procfs.Stat
}

// lineage are the holder, its parent, and so on, without PID 1.
func lineage(info process.Info) []ancestor {
	const deepest = 32
	var line []ancestor
	for len(line) < deepest && info.PID > 1 {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(info.PID) + "/stat")
		if err != nil {
			break
		}
		stat, err := procfs.ParseStat(b)
		if err != nil {
			break
		}
		line = append(line, ancestor{info, stat})
		if stat.PPID <= 1 {
			break
		}
		if info, err = process.Look(stat.PPID); err != nil {
			break
		}
	}
	return line
}

// nearest is the supervisor closest to the holder that starts it again, or
// keeps many; else the closest that does when a file changes; else one that does
// not. What has a terminal was started by who sits there, and not by what the
// terminal was started by.
func nearest(line []ancestor, env func(string) string) *Manager {
	var found *Manager
	for i, a := range line {
		if i == 0 {
			continue
		}
		if line[0].stat.TTY != 0 && a.stat.TTY == 0 {
			break
		}
		if m := supervises(a.Info, env); m != nil && (found == nil || m.ties() > found.ties()) {
			found = m
		}
	}
	return found
}

// ties is how much a supervisor cares whether its holder lives.
func (m *Manager) ties() int {
	switch {
	case m.Restarts() || m.keepsMany():
		return 2
	case m.Restart == onChange:
		return 1
	}
	return 0
}

// environ looks up the variables that a process was started with.
func environ(pid int) func(string) string {
	return func(key string) string {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil {
			return ""
		}
		for variable := range bytes.SplitSeq(b, []byte{0}) {
			if value, ok := bytes.CutPrefix(variable, []byte(key+"=")); ok {
				return string(value)
			}
		}
		return ""
	}
}

// ourUnit reports whether we, or one of our ancestors, are in the unit: it is
// not stopped under our feet.
func ourUnit(u unit) bool {
	for at := os.Getpid(); at > 1; {
		pid := strconv.Itoa(at)
		if groups, err := readCgroups(pid); err == nil {
			if own, ok := groups.unit(); ok && own.name == u.name && own.user == u.user && own.uid == u.uid {
				return true
			}
		}
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return false
		}
		stat, err := procfs.ParseStat(b)
		if err != nil {
			return false
		}
		at = stat.PPID
	}
	return false
}

// serviceOf is the service that a process with those cgroups belongs to, or
// nil if it is in there by accident.
func serviceOf(ctx context.Context, groups cgroups, line []ancestor) *Manager {
	u, inUnit := groups.unit()
	if !inUnit || !strings.HasSuffix(u.name, ".service") || ourUnit(u) || len(line) == 0 {
		return nil
	}
	b, err := busOf(u)
	if err != nil {
		return nil
	}
	all, err := b.show(ctx, "Id,MainPID,ControlPID,Restart,ControlGroup,LoadState,TriggeredBy,UpheldBy", u.name)
	switch {
	case err != nil:
		if !startedBySystemd(line) || matches(neverStop, u.name) || matches(hosts, u.name) {
			return nil
		}
		m := Manager{Kind: Unit, Name: u.name, User: u.user, Stop: b.systemctl("stop", u.name)}
		return m.without(err)
	case len(all) != 1 || all[0].text("LoadState") == "not-found":
		return nil
	}
	group := all[0].text("ControlGroup")
	if group == "" || groups.systemd != group && !strings.HasPrefix(groups.systemd, group+"/") {
		return nil // the unit of another systemd than ours
	}
	mainPID := all[0].number("MainPID")
	as := stands(line, mainPID, all[0].number("ControlPID"), descendants)
	if as == stray && attached(line[0].Info, mainPID) {
		as = leader
	}
	m := b.service(all[0], as)
	if m != nil {
		m.StartedBy = b.startedBy(ctx, all[0])
	}
	return m
}

// attached reports whether a conmon is there for the main process of its
// service, a "podman run" that ends with the container: systemd would start
// both again. podman leaves conmon in the cgroup of a service.
func attached(holder process.Info, mainPID int) bool {
	if _, ok := parseConmon(holder); !ok {
		return false
	}
	client, err := process.Look(mainPID)
	return err == nil && client.Program() == string(podman) &&
		slices.ContainsFunc(client.Argv, func(arg string) bool { return arg == "run" || arg == "start" })
}

// stands finds the main process in a line. A worker has no terminal, and is in
// the session of the main process; shells, multiplexers and job runners make
// sessions of their own. One who has started nothing else is none of these.
func stands(line []ancestor, mainPID, controlPID int, kin func(pid int) int) standing {
	holder := line[0]
	for i, a := range line {
		switch {
		case a.PID != mainPID && a.PID != controlPID:
		case i == 0:
			return leader
		case holder.stat.TTY == 0 && holder.stat.Session == a.stat.Session:
			return worker
		case !holder.isJob() && kin(a.PID) == i+kin(holder.PID):
			return worker
		}
	}
	return stray
}

// isJob reports whether a shell with job control has started it, as a shell
// has it that somebody types into: each command gets a process group.
func (a ancestor) isJob() bool { return a.stat.TTY != 0 && a.stat.PGRP != a.stat.Session }

// descendants is how many living processes are below one.
func descendants(pid int) int {
	below, err := process.Kin(pid, time.Time{})
	if err != nil {
		return -1 // which is no sum
	}
	return len(below)
}

// startedBySystemd: the holder, or the one that it was started by in its
// session, leads that session and is a child of a systemd.
func startedBySystemd(line []ancestor) bool {
	session := line[0].stat.Session
	for _, a := range line {
		if a.stat.TTY == 0 && a.PID == session && a.stat.Session == session {
			return a.PPID == 1 || isSystemd(a.PPID)
		}
	}
	return false
}

func isSystemd(pid int) bool {
	groups, err := readCgroups(strconv.Itoa(pid))
	u, ok := groups.unit()
	return err == nil && ok && u.name == "init.scope"
}
