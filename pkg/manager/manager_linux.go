package manager

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

func of(ctx context.Context, p *process.Pin, info process.Info, l listeners.Listener) *Manager {
	groups, err := readCgroups(strconv.Itoa(p.PID()))
	if err != nil {
		return nil
	}
	ours, _ := readCgroups("self")
	if c, ok := groups.container(ours); ok {
		return contained(ctx, c)
	}
	if e := front(info); e != "" {
		return published(ctx, e, publication{l, parseProxy(info.Argv)})
	}
	u, inUnit := groups.unit()
	if inUnit && u.name == "init.scope" || p.PID() == 1 && info.Name == "systemd" {
		if b, err := busOf(u); err == nil {
			return b.socketUnit(ctx, l)
		}
		return nil
	}
	line := lineage(info)
	near := nearest(line, p.PID())
	if !inUnit || !strings.HasSuffix(u.name, ".service") || ourUnit(u) || near != nil && near.keepsMany() {
		return near
	}
	if m := inService(ctx, groups, u, line); m != nil {
		return m
	}
	return near
}

func readCgroups(pid string) (cgroups, error) {
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	return parseCgroups(b), err
}

// contained is the container that a process is in. A cgroup can have any name,
// and one to whom a tree of them was given can make any: so the engine must
// say that its container is in this one.
func contained(ctx context.Context, c container) *Manager {
	byID := engine(c.engine).byID
	if c.engine == "" {
		byID = anyByID
	}
	m, inspected := byID(ctx, c.id)
	if inspected == nil {
		return m
	}
	groups, err := readCgroups(strconv.Itoa(inspected.State.PID))
	if at, ok := groups.container(cgroups{}); err != nil || inspected.State.PID <= 1 || !ok || at.id != c.id {
		return m.without(errors.New("its engine says that it is elsewhere: is it that of another machine?"))
	}
	return m
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

// nearest is the supervisor closest to the holder.
func nearest(line []ancestor, pid int) *Manager {
	for i, a := range line {
		if i == 0 {
			continue
		}
		if m := supervises(a.Info, environ(pid)); m != nil {
			return m
		}
	}
	return nil
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

// inService is the service that a holder belongs to, or nil if it is in there
// by accident.
func inService(ctx context.Context, groups cgroups, u unit, line []ancestor) *Manager {
	b, err := busOf(u)
	if err != nil || len(line) == 0 {
		return nil
	}
	all, err := b.show(ctx, "Id,MainPID,ControlPID,Restart,ControlGroup,LoadState", u.name)
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
	return b.service(all[0], stands(line, all[0].number("MainPID"), all[0].number("ControlPID")))
}

// stands finds the main process in a line. A worker has no terminal, and is in
// the session of the main process; shells, multiplexers and job runners make
// sessions of their own.
func stands(line []ancestor, mainPID, controlPID int) standing {
	holder := line[0]
	for i, a := range line {
		switch {
		case a.PID != mainPID && a.PID != controlPID:
		case i == 0:
			return leader
		case holder.stat.TTY == 0 && holder.stat.Session == a.stat.Session:
			return worker
		}
	}
	return stray
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
