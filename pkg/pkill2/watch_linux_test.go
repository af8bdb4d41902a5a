package pkill2

import (
	"os"
	"testing"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// What has a rule to start a holder again is awaited, whosever child it was,
// and also where nobody could be asked for the rule.
func TestMaySpawn(t *testing.T) {
	const stranger = 1 << 22 // which no process is
	parent := os.Getppid()   // which is an ancestor of ours
	self, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	unit := func(restart string) *manager.Manager {
		return &manager.Manager{Kind: manager.Unit, Name: "a.service", Restart: restart}
	}
	reloader := &manager.Manager{Kind: manager.Supervisor, Name: "nodemon", Restart: "on-change"}
	for _, tt := range []struct {
		outcome Outcome
		ppid    int
		by      *manager.Manager
		want    bool
	}{
		{Terminated, parent, nil, false},
		{Terminated, stranger, nil, true},
		{Terminated, parent, unit("always"), true},
		{Killed, parent, unit("on-failure"), true},
		{Terminated, parent, unit(""), true},
		{Terminated, parent, unit("no"), false},
		{Terminated, parent, reloader, false},
		{Released, stranger, nil, false},
		{Released, parent, unit("always"), true},
		{Released, stranger, reloader, false},
		{Stopped, parent, unit("always"), false},
		{Stopped, stranger, &manager.Manager{Kind: manager.Container, Restart: "always"}, true},
		{Stopped, stranger, nil, true},
		{Refused, stranger, unit("always"), false},
		{WouldTerminate, stranger, unit("always"), false},
	} {
		for _, by := range []target{{manager: tt.by}, {said: tt.by}} {
			by.holder, by.info.PPID, by.result.Outcome, by.pin = listeners.Listener{PID: stranger + 1}, tt.ppid, tt.outcome, self
			if got := by.maySpawn(); got != tt.want {
				t.Errorf("maySpawn of one that %s, a child of %d, managed by %+v = %v; want %v", tt.outcome, tt.ppid, tt.by, got, tt.want)
			}
		}
	}
}
