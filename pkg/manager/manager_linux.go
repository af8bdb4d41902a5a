package manager

import (
	"bytes"
	"context"
	"io"
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
	if p.PID() == 1 && info.Name == "systemd" || inUnit && u.name == "init.scope" && u.user {
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
	belongs := func(line []ancestor, mainPID, controlPID int) standing {
		return stands(line, mainPID, controlPID, descendants)
	}
	if m := serviceOf(ctx, groups, line, belongs); m != nil {
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
		e, err := engineOf(name, info.PID)
		if err != nil {
			return Manager{Kind: Container, Name: unknown, Engine: string(name)}.without(err), true
		}
		m := published(ctx, e, publicationBy(info, l))
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
		byID = engineOfUser(engineName(c.engine), u.uid).byID
	}
	m, inspected := byID(ctx, c.id)
	if inspected == nil {
		return m
	}
	if !isIn(inspected.State.PID, c.group) {
		return m.without(errElsewhere)
	}
	return m
}

// isIn reports whether a process is in that very cgroup, or below it.
func isIn(pid int, group place) bool {
	groups, err := readCgroups(strconv.Itoa(pid))
	return err == nil && pid > 1 && slices.ContainsFunc(groups.all, func(at place) bool { return at.within(group) })
}

// runsHere reports whether what the engine of a user says to be the process of
// a container is that, here: the kernel says so of its cgroup, or, of the
// containers of an ordinary user, who may have no cgroups to give away, the
// process that runs it does, its parent as a rule.
func runsHere(c inspection, uid uint32) bool {
	groups, err := readCgroups(strconv.Itoa(c.State.PID))
	if err != nil || c.State.PID <= 1 {
		return false
	}
	if groups.name(c.ID) {
		return true
	}
	first, err := process.Look(c.State.PID)
	if err != nil {
		return false
	}
	parent, _ := process.Look(first.PPID) // the zero Info runs nothing
	return slices.ContainsFunc([]process.Info{first, parent}, func(info process.Info) bool {
		conmons, _ := parseConmon(info)
		shims, _ := parseShim(info)
		return (conmons == c.ID || shims == c.ID) && isOneOf(info.PID, 0, uid, uint32(os.Geteuid()))
	})
}

// isOneOf reports whether a process is that of one of those users: anybody can
// give one any name.
func isOneOf(pid int, uids ...uint32) bool {
	uid, err := owner(pid)
	return err == nil && slices.Contains(uids, uid)
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
		e, err := engineOf(podman, a.PID)
		if err != nil || weAreIn(id) {
			return nil
		}
		groups, _ := readCgroups(strconv.Itoa(a.PID))
		belongs := func(line []ancestor, mainPID, controlPID int) standing {
			as := stands(line, mainPID, controlPID, descendants)
			if as == stray && e.attached(ctx, id, a.PID, mainPID) {
				return leader
			}
			return as
		}
		if m := serviceOf(ctx, groups, line[i:], belongs); m != nil {
			return m // which would start the container again: "podman generate systemd", quadlets
		}
		m, inspected := e.byID(ctx, id)
		if inspected != nil && inspected.State.ConmonPID != a.PID {
			return nil // it serves a "podman exec", or has only taken the name
		}
		return m
	}
	return nil
}

// weAreIn reports whether we, or one of our ancestors, are in the container with
// that ID: its cgroup says so, or who runs it is above us. One of ours may have left
// the cgroup, or sees none of its name (cgroup_namespaces(7)).
func weAreIn(id string) bool {
	self, err := process.Look(os.Getpid())
	return err != nil || slices.ContainsFunc(lineage(self), func(a ancestor) bool {
		groups, _ := readCgroups(strconv.Itoa(a.PID))
		conmons, _ := parseConmon(a.Info)
		shims, _ := parseShim(a.Info)
		return groups.name(id) || conmons == id || shims == id
	})
}

// engineOf is the engine of that name of the user whose process it is.
func engineOf(name engineName, pid int) (engine, error) {
	uid, err := owner(pid)
	return engineOfUser(name, uid), err
}

// engineOfUser is the engine of that name that a user has: rootless ones are
// each user's own. Root asks as that user, from a folder that the user may enter:
// what the user's configuration makes of the command is the user's doing.
func engineOfUser(name engineName, uid uint32) engine {
	e := engine{name: name, uid: uid}
	if uid == 0 || os.Geteuid() != 0 {
		return e
	}
	gid := strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(gid); err == nil {
		gid = known.Gid
	}
	me := strconv.FormatUint(uint64(uid), 10)
	e.as = append(setUser(me, gid), "env", "--chdir=/", "XDG_RUNTIME_DIR=/run/user/"+me)
	return e
}

// owner is the user whose process it is.
func owner(pid int) (uint32, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	status, err := procfs.ParseStatus(b)
	return status.UID, err
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
		for variable := range bytes.SplitSeq(readBriefly("/proc/"+strconv.Itoa(pid)+"/environ"), []byte{0}) {
			if value, ok := bytes.CutPrefix(variable, []byte(key+"=")); ok {
				return string(value)
			}
		}
		return ""
	}
}

// readBriefly reads what is in the memory of a process, and so may keep the
// reader waiting: a megabyte at most, within a moment.
func readBriefly(path string) []byte {
	const limit, patience = 1 << 20, 200 * time.Millisecond
	got := make(chan []byte, 1)
	go func() {
		f, err := os.Open(path)
		if err != nil {
			got <- nil
			return
		}
		defer f.Close()
		b, _ := io.ReadAll(io.LimitReader(f, limit))
		got <- b
	}()
	select {
	case b := <-got:
		return b
	case <-time.After(patience):
		return nil
	}
}

// ours are the cgroups, in systemd's hierarchy, of us and our ancestors, and
// whether these are all: a parent that is hidden from us (hidepid, proc(5)) does
// not tell its own.
func ours() (paths []string, whole bool) {
	for at := os.Getpid(); at > 1; {
		pid := strconv.Itoa(at)
		groups, err := readCgroups(pid)
		b, serr := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || serr != nil {
			return paths, false
		}
		paths = append(paths, groups.systemd)
		stat, err := procfs.ParseStat(b)
		if err != nil {
			return paths, false
		}
		at = stat.PPID
	}
	return paths, true
}

// isOurs reports whether we, or one of our ancestors, are in that cgroup of
// systemd's hierarchy, or below it: it is not stopped under our feet. Where the
// line of ancestors is cut, those in there are asked after, and who may be one is.
func isOurs(group string) bool {
	if group == "" {
		return false
	}
	paths, whole := ours()
	if slices.ContainsFunc(paths, func(path string) bool { return isWithin(path, group) }) {
		return true
	}
	if whole {
		return false
	}
	pids, err := process.All()
	return err != nil || slices.ContainsFunc(pids, func(pid int) bool {
		groups, err := readCgroups(strconv.Itoa(pid))
		if err != nil || !isWithin(groups.systemd, group) {
			return false
		}
		ancestor, err := process.IsAncestor(pid)
		return ancestor || err != nil
	})
}

// serviceOf is the service that a process with those cgroups belongs to, or
// nil if it is in there by accident: what belongs says, who is told the line of
// the process, and the PIDs of the service.
func serviceOf(ctx context.Context, groups cgroups, line []ancestor, belongs func(line []ancestor, mainPID, controlPID int) standing) *Manager {
	u, inUnit := groups.unit()
	if !inUnit || !strings.HasSuffix(u.name, ".service") || !isUnitName(u.name) || isOurs(u.group) || len(line) == 0 {
		return nil
	}
	b, err := busOf(u)
	if err != nil {
		return nil
	}
	all, err := b.show(ctx, unitKeys, u.name)
	switch {
	case err != nil:
		if !startedBySystemd(line) || matches(neverStop, u.name) || matches(hosts, u.name) {
			return nil
		}
		m := Manager{Kind: Unit, Name: u.name, User: u.user, Stop: b.systemctl("stop", u.name)}
		return m.without(err)
	case len(all) != 1 || all[0].text("LoadState") == "not-found":
		return nil
	case all[0].text("ControlGroup") != u.group:
		return nil // the unit of another systemd than ours
	}
	return b.service(ctx, all[0], belongs(line, all[0].number("MainPID"), all[0].number("ControlPID")))
}

// attached reports whether a conmon is that of the container that the main
// process of its service runs, a "podman run" that ends with the container:
// systemd would start both again. podman leaves conmon in the cgroup of a service.
func (e engine) attached(ctx context.Context, id string, conmon, mainPID int) bool {
	client, err := process.Look(mainPID)
	if err != nil || client.Program() != string(podman) {
		return false
	}
	m, c := e.byID(ctx, id)
	return c != nil && c.State.ConmonPID == conmon && (m.isRunBy(client, 0) || c.isMadeBy(client))
}

// isMadeBy reports whether a process has made the container, by its own word.
func (c inspection) isMadeBy(client process.Info) bool {
	made := c.Config.CreateCommand
	return len(made) > 1 && !client.Truncated && len(client.Argv) == len(made) && slices.Equal(client.Argv[1:], made[1:])
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
