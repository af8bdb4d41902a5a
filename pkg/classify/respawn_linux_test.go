package classify

import (
	"os"
	"testing"

	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pkill2"
)

// What has a rule to start a holder again is awaited, whosever child it was,
// and also where nobody could be asked for the rule.
func TestMaySpawn(t *testing.T) {
	parent := os.Getppid() // which is an ancestor of ours
	unit := func(restart string) *manager.Manager {
		return &manager.Manager{Kind: manager.Unit, Name: "a.service", Restart: restart}
	}
	reloader := &manager.Manager{Kind: manager.Supervisor, Name: "nodemon", Restart: "on-change"}
	for _, tt := range []struct {
		outcome pkill2.Outcome
		ppid    int
		by      *manager.Manager
		want    bool
	}{
		{pkill2.Terminated, parent, nil, false},
		{pkill2.Terminated, a, nil, true},
		{pkill2.Terminated, parent, unit("always"), true},
		{pkill2.Killed, parent, unit("on-failure"), true},
		{pkill2.Terminated, parent, unit(""), true},
		{pkill2.Terminated, parent, unit("no"), false},
		{pkill2.Terminated, parent, reloader, false},
		{pkill2.Released, a, nil, false},
		{pkill2.Released, parent, unit("always"), true},
		{pkill2.Released, a, reloader, false},
		{pkill2.Stopped, parent, unit("always"), false},
		{pkill2.Stopped, a, &manager.Manager{Kind: manager.Container, Restart: "always"}, true},
		{pkill2.Stopped, a, nil, true},
		{pkill2.Refused, a, unit("always"), false},
	} {
		h := holder{Listener: at(b, 1), outcome: tt.outcome, ppid: tt.ppid, managed: tt.by}
		if got := h.maySpawn(); got != tt.want {
			t.Errorf("maySpawn of one that %s, a child of %d, managed by %+v = %v; want %v", tt.outcome, tt.ppid, tt.by, got, tt.want)
		}
	}
}
