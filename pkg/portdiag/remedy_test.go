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
		l := Listener{
			Listener: listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000, PID: 1 << 22}, Check: tt.check,
			ask: question{Query: listeners.Query{Proto: listeners.TCP, Port: 8000}},
		}
		var got []string
		if r := l.remedy(); r != nil {
			got = r.Command
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("remedy of %+v = %q; want %q", tt.check, got, tt.want)
		}
	}
}

// Root is not told to look as root, which it has just done; and what lets others
// have the port does not stand in the way.
func TestHidden(t *testing.T) {
	for _, tt := range []struct {
		state    listeners.State
		bindable bool
		want     Severity
	}{
		{"", false, Error},
		{listeners.Bound, false, Error},
		{listeners.Bound, true, Warning},
	} {
		l := Listener{
			Listener: listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000, State: tt.state, Owner: listeners.OwnerHidden, HiddenBy: listeners.ByPermission},
			ask:      question{Query: listeners.Query{Proto: listeners.TCP, Port: 8000}},
		}
		f := l.findings(tt.bindable)[0]
		if f.Severity != tt.want || f.Remedy != nil != (os.Geteuid() != 0) {
			t.Errorf("%q, bindable %v: %+v; want %s", tt.state, tt.bindable, f, tt.want)
		}
	}
}

// A remedy asks for no more than was asked for, nor for what others have.
func TestRemediesAreNoWider(t *testing.T) {
	at := func(addr string, pid int) listeners.Listener {
		return listeners.Listener{Proto: listeners.TCP, LocalAddr: addr, LocalPort: 8000, PID: pid}
	}
	flags := []string{"--grace", "20s"}
	for _, tt := range []struct {
		asked string
		all   []listeners.Listener
		want  []string // of each
	}{
		{"8000", []listeners.Listener{at("0.0.0.0", 1)}, []string{"8000"}},
		{"8000", []listeners.Listener{at("127.0.0.1", 1)}, []string{"8000"}},
		{"8000", []listeners.Listener{at("127.0.0.1", 1), at("[::1]", 1)}, []string{"8000", "8000"}}, // a server on localhost
		{"8000", []listeners.Listener{at("127.0.0.1", 1), at("127.0.0.1", 2)}, []string{"8000", "8000"}},
		{"8000", []listeners.Listener{at("127.0.0.1", 1), at("127.0.0.2", 2)}, []string{"127.0.0.1:8000", "127.0.0.2:8000"}},
		{"8000", []listeners.Listener{at("127.0.0.1", 1), at("[::]", 2)}, []string{"127.0.0.1:8000", "8000"}},
		{"127.0.0.2:8000", []listeners.Listener{at("127.0.0.2", 1)}, []string{"127.0.0.2:8000"}},
		{"127.0.0.2:8000", []listeners.Listener{at("0.0.0.0", 1)}, []string{"127.0.0.2:8000"}},
		{"0.0.0.0:8000", []listeners.Listener{at("127.0.0.2", 1)}, []string{"127.0.0.2:8000"}},
		{"0.0.0.0:8000", []listeners.Listener{at("0.0.0.0", 1)}, []string{"0.0.0.0:8000"}},
	} {
		asked, err := listeners.ParsePorts(listeners.TCP, "", tt.asked)
		if err != nil {
			t.Fatal(err)
		}
		s := NewSurvey(flags, asked...)
		for i, l := range tt.all {
			want := []string{"killport", "--grace", "20s", tt.want[i]}
			r := Listener{Listener: l, ask: s.about(l, asked[0], tt.all)}.remedy()
			if r == nil || !slices.Equal(r.Command, want) {
				t.Errorf("asked about %s: the remedy for %s is %+v; want %q", tt.asked, l.Addr(), r, want)
			}
		}
	}
}
