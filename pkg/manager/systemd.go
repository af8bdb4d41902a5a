package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// properties are what "systemctl show" prints of one unit: KEY=VALUE, never
// translated; a key may come several times.
type properties map[string][]string

// parseProperties reads what is printed of several units, with an empty line
// between them.
func parseProperties(b []byte) []properties {
	var all []properties
	var at properties
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "=")
		if !ok {
			at = nil
			continue
		}
		if at == nil {
			at = properties{}
			all = append(all, at)
		}
		at[key] = append(at[key], value)
	}
	return all
}

func (p properties) text(key string) string {
	if len(p[key]) == 0 {
		return ""
	}
	return p[key][0]
}

func (p properties) number(key string) int {
	n, _ := strconv.Atoi(p.text(key))
	return n
}

// units are the names that a property lists.
func (p properties) units(key string) []string { return strings.Fields(p.text(key)) }

// isUnitName reports whether a name is one of a unit, and no flag: the systemd of
// a user says of its units what the user likes (unit_name_is_valid,
// src/basic/unit-name.c).
func isUnitName(s string) bool { return unitName.MatchString(s) }

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.[a-z]+$`)

// kinds are the words of the property Listen of a socket unit.
var kinds = map[string]listeners.Proto{"(Stream)": listeners.TCP, "(Datagram)": listeners.UDP}

// at are the addresses at which a socket unit listens, by protocol. Its property is
// "127.0.0.1:8000 (Stream)", "[::]:8000 (Datagram)", "[fe80::1]:8000%eth0 (Stream)"
// (sockaddr_pretty, src/basic/socket-util.c) or a path.
func (p properties) at(proto listeners.Proto) (all []netip.AddrPort) {
	for _, listen := range p["Listen"] {
		addr, kind, _ := strings.Cut(listen, " ")
		addr, zone, _ := strings.Cut(addr, "%")
		if at, err := netip.ParseAddrPort(addr); err == nil && kinds[kind] == proto {
			all = append(all, netip.AddrPortFrom(at.Addr().WithZone(zone), at.Port()))
		}
	}
	return all
}

// listensAt reports whether a socket unit listens at l.
func (p properties) listensAt(l listeners.Listener) bool {
	at, err := netip.ParseAddr(strings.Trim(l.LocalAddr, "[]"))
	return err == nil && slices.ContainsFunc(p.at(l.Proto), func(want netip.AddrPort) bool {
		return want.Port() == l.LocalPort && want.Addr() == at
	})
}

// listens are all addresses of a socket unit: "TCP 127.0.0.1:8000".
func (p properties) listens() (all []string) {
	for _, proto := range []listeners.Proto{listeners.TCP, listeners.UDP} {
		for _, at := range p.at(proto) {
			all = append(all, fmt.Sprintf("%s %s", proto, at))
		}
	}
	return bounded(all)
}

// bus is a systemd to talk to: the system's, or that of a user.
type bus struct {
	user bool
	as   []string // the beginning of a command that runs as that user
}

func (b bus) systemctl(args ...string) []string {
	argv := append(slices.Clone(b.as), "systemctl")
	if b.user {
		argv = append(argv, "--user")
	}
	return append(argv, args...)
}

// asUser is the beginning of a command that talks to the systemd of a user: as
// that user, and with the folder where its socket is (pam_systemd(8)).
// "systemctl --machine=USER@" would do too, where D-Bus and logind are.
func asUser(uid, euid int, runtimeDir string, gid func() string) []string {
	dir := "/run/user/" + strconv.Itoa(uid)
	env := []string{"env", "XDG_RUNTIME_DIR=" + dir}
	switch {
	case uid != euid:
		return append(setUser(strconv.Itoa(uid), gid()), env...)
	case runtimeDir != dir: // of none, or of another user, as "su" leaves it
		return env
	}
	return nil
}

// setUser is the beginning of a command that runs as another user, who could
// read our environment in /proc otherwise, and gets one of its own (setpriv(1)).
func setUser(uid, gid string) []string {
	return []string{"setpriv", "--reuid=" + uid, "--regid=" + gid, "--clear-groups", "--reset-env"}
}

// show asks about units; the names may be patterns.
func (b bus) show(ctx context.Context, keys string, units ...string) ([]properties, error) {
	out, err := ask(ctx, b.systemctl(), append([]string{"show", "--property=" + keys, "--"}, units...)...)
	if err != nil {
		return nil, err
	}
	return parseProperties(out), nil
}

// standing is how a process stands to the main process of its service.
type standing int

const (
	stray  standing = iota // it came into the service by other ways: a terminal, a job
	worker                 // it was started by the main process, or by others that were
	leader                 // it is the main process
)

// service is the manager of a process that stands so in a service, or nil if
// the process is a plain one: a unit that would not start it again, or that keeps
// its workers when it stops, need not be stopped for a worker.
func (b bus) service(ctx context.Context, p properties, stands standing) *Manager {
	name, restart := p.text("Id"), p.text("Restart")
	switch {
	case stands == stray || !isUnitName(name):
		return nil
	case stands == worker && (restart == "no" || !p.endsAll() || matches(hosts, name) || matches(neverStop, name)):
		return nil
	}
	m := Manager{Kind: Unit, Name: name, User: b.user, Restart: restart, StartedBy: b.startedBy(ctx, p)}
	return b.unit(ctx, m, p)
}

// startedBy are the active units that start a unit again, or keep it up.
func (b bus) startedBy(ctx context.Context, p properties) (names []string) {
	known := append(p.units("TriggeredBy"), p.units("UpheldBy")...) // since version 249
	if len(known) == 0 {
		return nil
	}
	all, _ := b.show(ctx, "Id,ActiveState", known...) // whoever does not answer now has answered before
	for _, p := range all {
		if p.text("ActiveState") == "active" && isUnitName(p.text("Id")) {
			names = append(names, p.text("Id"))
		}
	}
	return names
}

// socketUnit finds the unit by which systemd listens at l.
func (b bus) socketUnit(ctx context.Context, l listeners.Listener) *Manager {
	m := Manager{Kind: SocketUnit, Name: unknown, User: b.user, Restart: "always"}
	all, err := b.show(ctx, "Listen,"+unitKeys, "*.socket")
	if err != nil {
		m.Restart = ""
		return m.without(err)
	}
	all = slices.DeleteFunc(all, func(p properties) bool {
		return p.text("ActiveState") != "active" || !isUnitName(p.text("Id")) || !p.listensAt(l)
	})
	if len(all) == 0 {
		return nil
	}
	if len(all) > 1 { // ReusePort=: which of them has the socket, nobody tells
		names := ids(all)
		m.Stop = b.systemctl(append([]string{"stop"}, names...)...)
		return m.without(fmt.Errorf("%s listen there", strings.Join(names, ", ")))
	}
	m.Name, m.Listens, m.StartedBy = all[0].text("Id"), all[0].listens(), b.startedBy(ctx, all[0])
	return b.unit(ctx, m, all[0])
}

// unit gives the manager of a unit its lever, if it may have one.
func (b bus) unit(ctx context.Context, m Manager, p properties) *Manager {
	along, err := b.along(ctx, p)
	if err != nil {
		m.Stop = b.systemctl("stop", m.Name)
		return m.without(err)
	}
	m.AlsoStops = others(p, along)
	m.Stop = b.systemctl(append([]string{"stop", m.Name}, m.AlsoStops...)...)
	if why := forbidden(p, along); why != nil {
		if !errors.Is(why, errNeeded) {
			m.Stop = nil // nor is it for anybody to paste
		}
		return m.never(why)
	}
	if len(m.AlsoStops) > 0 {
		m.Reason = strings.Join(m.AlsoStops, ", ") + " would be stopped too"
	}
	m.lever = unitLever{bus: b, names: append([]string{m.Name}, m.AlsoStops...), units: doomed(append([]properties{p}, along...))}
	return &m
}

// errNeeded says that others need a unit.
var errNeeded = errors.New("others need it")

// forbidden is why a unit is not stopped, whoever asks for it, with those that
// are stopped along with it.
func forbidden(p properties, along []properties) error {
	for i, at := range append([]properties{p}, along...) {
		name, too := at.text("Id"), ""
		if i > 0 {
			too = ", which would be stopped too"
		}
		switch end := at.end(); {
		case at.isNeeded():
			return fmt.Errorf("killport does not stop %s%s: %w", name, too, errNeeded)
		case isOurs(at.text("ControlGroup")):
			return fmt.Errorf("killport does not stop %s%s: it is in there itself", name, too)
		case end != "":
			return fmt.Errorf("killport does not stop %s%s: it has %s", name, too, end)
		}
	}
	return nil
}

// isNeeded reports whether it is among those that are never stopped, or a socket
// that listens for one of these.
func (p properties) isNeeded() bool {
	names := append([]string{p.text("Id")}, p.units("Triggers")...)
	if socket, ok := strings.CutSuffix(names[0], ".socket"); ok {
		names = append(names, socket+".service")
	}
	return slices.ContainsFunc(names, func(name string) bool { return matches(neverStop, name) })
}

// end is the setting by which much more than a unit ends when it stops, or when
// it is killed: the system, or a user's session (systemd.unit(5), SuccessAction=
// and OnSuccess=).
func (p properties) end() string {
	for _, key := range []string{"SuccessAction", "FailureAction"} {
		if action := p.text(key); action != "" && action != "none" {
			return key + "=" + action
		}
	}
	for _, key := range []string{"OnSuccess", "OnFailure"} {
		starts := p.units(key)
		if p.text(key+"JobMode") == "isolate" && len(starts) > 0 {
			return key + "JobMode=isolate"
		}
		if at := slices.IndexFunc(starts, func(name string) bool { return matches(lastTargets, name) }); at >= 0 {
			return key + "=" + starts[at]
		}
	}
	return ""
}

// unitLever stops a unit, and what goes along with it.
type unitLever struct {
	bus   bus
	names []string // that systemd is told: the unit itself, and then the others
	units []mortal // these, and what is for them
}

// mortal is a unit that is stopped, and whom of it SIGKILL ends when the grace
// period is over, in the words of --kill-whom of systemctl(1).
type mortal struct {
	name string
	whom []string
}

func doomed(all []properties) (units []mortal) {
	for _, p := range all {
		units = append(units, mortal{p.text("Id"), p.whom()})
	}
	return units
}

// endsAll reports whether systemd ends all processes of a unit when it stops: of
// "mixed", all but the main process are killed in the end, and not asked before.
func (p properties) endsAll() bool {
	mode := p.text("KillMode")
	return mode == "control-group" || mode == "mixed" && p.text("SendSIGKILL") != "no"
}

// whom of a unit systemd itself would kill in the end (systemd.kill(5)).
func (p properties) whom() []string {
	switch mode := p.text("KillMode"); {
	case p.text("SendSIGKILL") == "no", mode == "none", mode == "":
		return nil
	case mode == "control-group", mode == "mixed":
		return []string{"all"}
	}
	return []string{"main", "control"}
}

func (u unitLever) command(time.Duration) []string {
	return u.bus.systemctl(append([]string{"stop"}, u.names...)...)
}

// stop is what systemctl is told for the same.
func (u unitLever) stop(flags ...string) []string {
	return slices.Concat([]string{"stop", "--no-ask-password"}, flags, []string{"--"}, u.names)
}

// soon is a grace period that may be over before systemd has been told to stop a
// unit. One that is killed before that has failed to it: what is for that is done
// (OnFailure=), and it is started again (Restart=).
const soon = time.Second

// halt kills what is left of the unit when the grace period is over, through
// systemd, whose own is 90 seconds as a rule, and not what was asked for.
func (u unitLever) halt(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, grace+teardown, ErrSlow)
	defer cancel()
	if grace < soon {
		if _, err := command.Run(ctx, u.bus.systemctl(u.stop("--no-block")...)...); err != nil {
			return u.explain(err)
		}
	}
	hurry, hold := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(grace):
			u.kill(hurry)
		case <-hurry.Done():
		}
	}()
	_, err := command.Run(ctx, u.bus.systemctl(u.stop()...)...)
	hold()
	<-done
	return u.explain(err)
}

// kill leaves it to stop to say what came of it. The word --kill-who is
// understood by all versions; since 252 it is called --kill-whom.
func (u unitLever) kill(ctx context.Context) {
	for _, unit := range u.units {
		for _, whom := range unit.whom {
			_, _ = command.Run(ctx, u.bus.systemctl("kill", "--kill-who="+whom, "--signal=SIGKILL", "--", unit.name)...)
		}
	}
}

// explain makes the exit status 4 of systemctl, of LSB's EXIT_NOPERMISSION
// (systemd.exec(5)), the error that it is.
func (u unitLever) explain(err error) error {
	if command.ExitCode(err) == 4 {
		return errors.Join(process.ErrDenied, err)
	}
	return err
}
