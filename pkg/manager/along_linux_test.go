package manager

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/killport/killport/pkg/listeners"
)

// fakeSystemd puts a systemctl before all others that shows these units.
func fakeSystemd(t *testing.T, units map[string]string) (asked func() []string) {
	t.Helper()
	dir := t.TempDir()
	for name, shown := range units {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("Id="+name+"\n"+shown+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const script = `#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>log
until [ "$1" = -- ]; do shift; done
shift
for unit in $*; do if [ -e "$unit" ]; then cat -- "$unit"; echo; fi; done
`
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		b, _ := os.ReadFile(filepath.Join(dir, "log"))
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func shown(t *testing.T, name string) properties {
	t.Helper()
	all, err := bus{}.show(t.Context(), unitKeys, name)
	if err != nil || len(all) != 1 {
		t.Fatalf("show(%s) = %v, %v", name, all, err)
	}
	return all[0]
}

func TestAlong(t *testing.T) {
	const up = "ActiveState=active\nKillMode=control-group\n"
	groups, err := readCgroups("self")
	if err != nil {
		t.Fatal(err)
	}
	asked := fakeSystemd(t, map[string]string{
		"db.service":     up + "RequiredBy=app.service off.service\nRequisiteOf=r.service\nBoundBy=b.service\nConsistsOf=p.service\nPropagatesStopTo=s.service",
		"app.service":    up + "RequiredBy=far.service db.service",
		"far.service":    up + "BoundBy=app.service",
		"off.service":    "ActiveState=inactive\nRequiredBy=behind.service",
		"behind.service": up,
		"r.service":      "ActiveState=activating",
		"b.service":      "ActiveState=reloading",
		"p.service":      "ActiveState=failed",
		"s.service":      "ActiveState=inactive\nJob=12",

		"alone.service": up + "RequiredBy=off.service",
		"login.service": up + "RequiredBy=x.service",
		"x.service":     up + "BoundBy=sssd.service",
		"sssd.service":  up,
		"under.service": up + "ConsistsOf=own.service",
		"own.service":   up + "ControlGroup=" + groups.systemd,
		"end.service":   up + "RequiredBy=last.service",
		"last.service":  up + "SuccessAction=poweroff",

		"front.service":  up + "Requires=back.service\nWants=shared.service plain.service idle.service -.mount",
		"back.service":   up + "StopWhenUnneeded=yes\nRequiredBy=front.service off.service\nConsistsOf=log.service\nWants=deep.service",
		"log.service":    up,
		"deep.service":   up + "StopWhenUnneeded=yes\nWantedBy=back.service",
		"shared.service": up + "StopWhenUnneeded=yes\nWantedBy=front.service own.service",
		"plain.service":  up + "WantedBy=front.service",
		"idle.service":   "StopWhenUnneeded=yes\nActiveState=inactive",
		"-.mount":        up + "RequiredBy=front.service",

		"rooted.service": up + "RequiredBy=-x.service",
		"-x.service":     up,

		"lazy.socket":   up + "Listen=127.0.0.1:8000 (Stream)\nTriggers=lazy.service\nRequiredBy=lazy.service",
		"lazy.service":  up + "TriggeredBy=lazy.socket\nRequiredBy=other.service",
		"other.service": up,
		"timed.service": up + "TriggeredBy=timed.timer\nConsistsOf=timed.timer",
		"timed.timer":   up,
	})
	for _, test := range []struct{ unit, also, stop, reason string }{
		{"db.service", "app.service b.service far.service r.service s.service", "systemctl stop db.service app.service b.service far.service r.service s.service", "app.service, b.service, far.service, r.service, s.service would be stopped too"},
		{"alone.service", "", "systemctl stop alone.service", ""},
		{"login.service", "sssd.service x.service", "", "killport does not stop sssd.service, which would be stopped too: others need it"},
		{"under.service", "own.service", "", "killport does not stop own.service, which would be stopped too: it is in there itself"},
		{"end.service", "last.service", "", "killport does not stop last.service, which would be stopped too: it has SuccessAction=poweroff"},
		{"timed.service", "", "systemctl stop timed.service", ""},
		{"front.service", "back.service deep.service log.service", "systemctl stop front.service back.service deep.service log.service", "back.service, deep.service, log.service would be stopped too"},
		{"lazy.socket", "other.service", "systemctl stop lazy.socket other.service", "other.service would be stopped too"},
	} {
		m := bus{}.unit(t.Context(), Manager{Kind: Unit, Name: test.unit}, shown(t, test.unit))
		if got := strings.Join(m.AlsoStops, " "); got != test.also || m.Reason != test.reason {
			t.Errorf("%s: %q go along, %q; want %q, %q", test.unit, got, m.Reason, test.also, test.reason)
		}
		if got := strings.Join(m.Command(0), " "); got != test.stop || m.Halts() != (test.stop != "") || m.Spared() == m.Halts() {
			t.Errorf("%s: the lever is %q; want %q", test.unit, got, test.stop)
		}
		if test.stop != "" && !slices.Equal(m.Stop, m.Command(0)) {
			t.Errorf("%s: the hint is %q, and not the lever", test.unit, m.Stop)
		}
		if want := map[bool]Control{true: StopsOthers, false: Stoppable}[test.also != ""]; m.Halts() && m.Control() != want {
			t.Errorf("%s: Control() = %s; want %s", test.unit, m.Control(), want)
		}
	}
	if m := (bus{}).unit(t.Context(), Manager{Kind: Unit, Name: "rooted.service"}, shown(t, "rooted.service")); m.Halts() || m.Reason != `a unit "-x.service" depends on it` {
		t.Errorf("unit() = %+v, with which goes what cannot be named", m)
	}
	before := len(asked())
	ctx := Remember(t.Context())
	for range 5 {
		m := bus{}.socketUnit(ctx, listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000})
		if m == nil || m.Name != "lazy.socket" || !slices.Equal(m.Listens, []string{"TCP 127.0.0.1:8000"}) || len(m.AlsoStops) != 1 {
			t.Errorf("socketUnit() = %+v", m)
		}
	}
	if got := len(asked()) - before; got != 3 {
		t.Errorf("systemd was asked %d times; want 3", got)
	}
}

// What cannot be told is not stopped.
func TestAlongUnknown(t *testing.T) {
	units := map[string]string{"web.service": "ActiveState=active\nRequiredBy="}
	for i := range maxAlong + 1 {
		name := "n" + strconv.Itoa(i) + ".service"
		units["web.service"] += name + " "
		units[name] = "ActiveState=active"
	}
	units["odd.service"] = "ActiveState=active\nStopWhenUnneeded=yes\nWants=other.service"
	units["other.service"] = "ActiveState=inactive\n\nId=odd.service\nActiveState=active\nStopWhenUnneeded=yes" // it answers what nobody asked
	fakeSystemd(t, units)
	if m := (bus{}).unit(t.Context(), Manager{Kind: Unit, Name: "odd.service"}, shown(t, "odd.service")); m.AlsoStops != nil {
		t.Errorf("unit() = %+v, which goes along with itself", m)
	}
	web := shown(t, "web.service")
	if m := (bus{}).unit(t.Context(), Manager{Kind: Unit, Name: "web.service"}, web); m.Halts() || !strings.Contains(m.Reason, "more than 256 units") {
		t.Errorf("unit() = %+v, whose reach is too far", m)
	}
	t.Setenv("PATH", t.TempDir())
	if m := (bus{}).unit(t.Context(), Manager{Kind: Unit, Name: "web.service"}, web); m.Halts() || m.Reason == "" {
		t.Errorf("unit() = %+v, whose reach nobody can tell", m)
	}
}

// Two units may have a port, by ReusePort=; nobody tells which of them a socket is of.
func TestSocketUnitsShare(t *testing.T) {
	const up = "ActiveState=active\nListen=127.0.0.1:8000 (Stream)"
	fakeSystemd(t, map[string]string{"a.socket": up, "b.socket": up, "c.socket": "ActiveState=inactive\nListen=127.0.0.1:8001 (Stream)"})
	at := listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000}
	m := bus{}.socketUnit(t.Context(), at)
	if m == nil || m.Halts() || m.Reason != "a.socket, b.socket listen there" || strings.Join(m.Stop, " ") != "systemctl stop a.socket b.socket" {
		t.Errorf("socketUnit() = %+v", m)
	}
	at.LocalPort = 8001
	if m := (bus{}).socketUnit(t.Context(), at); m != nil {
		t.Errorf("socketUnit() = %+v, which is not active", m)
	}
}
