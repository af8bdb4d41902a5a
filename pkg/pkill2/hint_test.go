package pkill2

import (
	"testing"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/listeners"
)

// Who survived has a hint at why, or at what to do; its commands can be pasted.
func TestHintsOfSurvivors(t *testing.T) {
	for _, tt := range []struct{ reason, detail, want string }{
		{"", "", ""},
		{"frozen", "", "it ends once its cgroup is thawed"},
		{"frozen", "/sys/fs/cgroup/a b", "it ends once it is thawed: echo THAWED > " + shell.Join("/sys/fs/cgroup/a b/freezer.state")},
		{"traced", "7", "its tracer has to let go of it, or to end: PID 7"},
		{"uninterruptible", "fuse_wait", "it waits in the kernel, in fuse_wait, and ends when that does"},
		{"exiting", "", "the kernel is taking it down: look again: portdiag --udp 8000"},
		{managed, "unit a.service: it did not stop in time", "it may still stop: portdiag --udp 8000"},
	} {
		tg := &target{holder: listeners.Listener{Proto: listeners.UDP, LocalPort: 8000}}
		tg.settle(Survived, tt.reason, tt.detail)
		if got := tg.result.Hint; got != tt.want {
			t.Errorf("hint of one that is %s (%s) = %q; want %q", tt.reason, tt.detail, got, tt.want)
		}
	}
}
