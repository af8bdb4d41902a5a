package pidcheck_test

import (
	"testing"

	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

func TestOverridable(t *testing.T) {
	front := &manager.Manager{Kind: manager.Container, Name: "unknown", Engine: "docker"}
	inside := &manager.Manager{Kind: manager.Container, Name: "0123456789ab", ID: "0123456789ab"}
	for _, tt := range []struct {
		protected process.Protection
		by        *manager.Manager
		want      bool
	}{
		{"", nil, false},
		{process.ProtectedShared, nil, true},
		{process.ProtectedAncestor, nil, true},
		{process.ProtectedInit, nil, false},
		{process.ProtectedSystem, nil, false},
		{process.ProtectedAncestor, &manager.Manager{Kind: manager.Supervisor}, true},
		{process.ProtectedShared, front, true},
		{"", front, true}, // podman's are no more protected than what they listen for
		{process.ProtectedInit, front, false},
		{process.ProtectedShared, inside, false},
		{"", inside, false},
		{process.ProtectedShared, &manager.Manager{Kind: manager.SocketUnit}, false}, // a user's systemd
		{"", &manager.Manager{Kind: manager.Unit}, false},
	} {
		r := pidcheck.Result{Protected: tt.protected, ManagedBy: tt.by}
		if got := r.Overridable(); got != tt.want {
			t.Errorf("Overridable() of %q, managed by %+v = %v; want %v", tt.protected, tt.by, got, tt.want)
		}
	}
}
