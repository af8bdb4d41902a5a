package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/killport/killport/internal/command"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// neverStop are the units that killport does not stop: without them the system
// or the user's session is gone, or much more than a port.
var neverStop = []string{
	"init.scope", "user@*", "user-runtime-dir@*", "systemd-*", "dbus*", "polkit*", "getty@*", "*-getty@*", "console-getty*",
	"autovt@*", "ssh.service", "ssh@*", "sshd*", "dropbear*", "docker.service", "containerd.service", "podman.service",
	"crio.service", "kubelet.service", "k3s*", "snapd*", "libvirtd*", "virt*d.service", "gdm*", "lightdm*", "sddm*", "xdm*",
	"lxdm*", "greetd*", "display-manager*", "accounts-daemon*", "NetworkManager*", "networking*", "wpa_supplicant*", "rsyslog*",
	"udisks2*", "gnome-*", "org.gnome.*", "plasma*", "org.kde.*", "app-*", "tmux*", "screen*", "dm-event*", "lvm2*",
}

// hosts are units in which people and machines run whatever they like: such a
// unit is stopped for what its main process holds, and for nothing else.
var hosts = []string{
	"cron*", "anacron*", "atd*", "actions.runner.*", "gitlab-runner*", "jenkins*", "buildkite-*", "teamcity*", "woodpecker*",
	"drone-runner*", "concourse*", "code-server*", "openvscode*", "code-tunnel*", "jupyter*", "rstudio*", "cockpit*", "emacs*",
	"ttyd*", "konsole*", "kitty*", "alacritty*", "wezterm*", "supervisor*", "pm2-*", "runit*", "s6*", "coder*", "eternalterminal*",
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

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

// listens reports whether a socket unit listens at l. Its property is
// "127.0.0.1:8000 (Stream)", "[::]:8000 (Datagram)" or a path.
func (p properties) listens(l listeners.Listener) bool {
	kind := map[listeners.Proto]string{listeners.TCP: " (Stream)", listeners.UDP: " (Datagram)"}[l.Proto]
	at, err := netip.ParseAddr(strings.Trim(l.LocalAddr, "[]"))
	return err == nil && slices.ContainsFunc(p["Listen"], func(listen string) bool {
		addr, ok := strings.CutSuffix(listen, kind)
		want, err := netip.ParseAddrPort(addr)
		return ok && err == nil && want.Port() == l.LocalPort && want.Addr().WithZone("") == at.WithZone("")
	})
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
// the process is a plain one: a unit that would not start it again need not be
// stopped for a worker.
func (b bus) service(p properties, stands standing) *Manager {
	name := p.text("Id")
	m := Manager{
		Kind: Unit, Name: name, User: b.user, Restart: p.text("Restart"), Stop: b.systemctl("stop", name),
		lever: unitLever{b, name},
	}
	switch {
	case stands == stray || name == "":
		return nil
	case stands == worker && (m.Restart == "no" || matches(hosts, name) || matches(neverStop, name)):
		return nil
	case matches(neverStop, name):
		return m.never(fmt.Errorf("killport does not stop %s: others need it", name))
	}
	return &m
}

// startedBy are the active units that start a service again, or keep it up.
func (b bus) startedBy(ctx context.Context, service properties) (names []string) {
	known := strings.Fields(service.text("TriggeredBy") + " " + service.text("UpheldBy")) // since version 249
	if len(known) == 0 {
		return nil
	}
	all, _ := b.show(ctx, "Id,ActiveState", known...) // whoever does not answer now has answered before
	for _, p := range all {
		if p.text("ActiveState") == "active" && p.text("Id") != "" {
			names = append(names, p.text("Id"))
		}
	}
	return names
}

// socketUnit finds the unit by which systemd listens at l.
func (b bus) socketUnit(ctx context.Context, l listeners.Listener) *Manager {
	all, err := b.show(ctx, "Id,Listen,ActiveState,Triggers", "*.socket")
	if err != nil {
		nameless := Manager{Kind: SocketUnit, Name: unknown, User: b.user}
		return nameless.without(err)
	}
	for _, p := range all {
		name := p.text("Id")
		if p.text("ActiveState") != "active" || !p.listens(l) || name == "" {
			continue
		}
		m := Manager{
			Kind: SocketUnit, Name: name, User: b.user, Restart: "always",
			Stop: b.systemctl("stop", name), lever: unitLever{b, name},
		}
		if matches(neverStop, strings.TrimSuffix(name, ".socket")+".service") {
			return m.never(fmt.Errorf("killport does not stop %s: others need it", name))
		}
		return &m
	}
	return nil
}

// unitLever stops a unit.
type unitLever struct {
	bus  bus
	name string
}

func (u unitLever) command(time.Duration) []string { return u.bus.systemctl("stop", u.name) }

// halt lets systemd kill what is left of the unit when the grace period is
// over: its own, of 90 seconds as a rule, is not what was asked for.
func (u unitLever) halt(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, grace+teardown, ErrSlow)
	defer cancel()
	hurry, hold := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(grace):
			_, _ = command.Run(hurry, u.bus.systemctl("kill", "--signal=SIGKILL", "--", u.name)...) // what came of it, stop says
		case <-hurry.Done():
		}
	}()
	_, err := command.Run(ctx, u.bus.systemctl("stop", "--no-ask-password", "--", u.name)...)
	hold()
	<-done
	return u.explain(err)
}

// explain makes the exit status 4 of systemctl, of LSB's EXIT_NOPERMISSION
// (systemd.exec(5)), the error that it is.
func (u unitLever) explain(err error) error {
	if command.ExitCode(err) == 4 {
		return errors.Join(process.ErrDenied, err)
	}
	return err
}
