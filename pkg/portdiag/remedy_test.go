package portdiag

import (
	"os"
	"slices"
	"testing"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// What killport refuses is no remedy: --override has no say in what is in a
// container whose engine cannot be asked to stop it.
func TestNoRemedyThatIsRefused(t *testing.T) {
	unreachable := &manager.Manager{Kind: manager.Container, Name: "0123456789ab", ID: "0123456789ab", Engine: "docker", Reason: "docker: it does not answer"}
	var look []string
	if os.Geteuid() > 0 {
		look = []string{"sudo", "portdiag", "8000"}
	}
	for _, tt := range []struct {
		check pidcheck.Result
		want  []string
	}{
		{pidcheck.Result{}, []string{"killport", "8000"}},
		{pidcheck.Result{Protected: process.ProtectedShared}, []string{"killport", "--override", "8000"}},
		{pidcheck.Result{Protected: process.ProtectedInit}, nil},
		{pidcheck.Result{ManagedBy: unreachable}, look},
		{pidcheck.Result{ManagedBy: unreachable, Protected: process.ProtectedShared}, look},
		{pidcheck.Result{ManagedBy: unreachable, Protected: process.ProtectedInit}, look},
		{pidcheck.Result{ManagedBy: &manager.Manager{Kind: manager.Supervisor, Name: "nodemon"}}, []string{"killport", "8000"}},
	} {
		l := Listener{Listener: listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000, PID: 1 << 22}, Check: tt.check}
		var got []string
		if r := l.remedy(); r != nil {
			got = r.Command
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("remedy of %+v = %q; want %q", tt.check, got, tt.want)
		}
	}
}
