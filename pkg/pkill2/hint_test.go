package pkill2

import (
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

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

// A command that is printed asks for what was asked, in the same way, and for no
// more; where that is not known, for the address of the record.
func TestCommandsRepeatTheQuestion(t *testing.T) {
	asked := func(words ...string) []listeners.Query {
		queries, err := listeners.ParsePorts(listeners.TCP, "", words...)
		if err != nil {
			t.Fatal(err)
		}
		return queries
	}
	standard := Options{Grace: DefaultGrace, Signal: syscall.SIGTERM, Manners: OwnManners}
	slow, hard, direct, dry, plain := standard, standard, standard, standard, standard
	slow.Grace, slow.Signal, slow.Manners = 20*time.Second, syscall.SIGINT, OneManner
	hard.Grace, hard.Signal, hard.Manners = 0, syscall.SIGKILL, OneManner
	plain.Manners = OneManner
	direct.Via, direct.Override, direct.Ghosts, direct.Heirs = ViaProcess, true, CloseGhosts, EndHeirs
	dry.DryRun = true
	for _, tt := range []struct {
		opts  Options
		asked []listeners.Query
		addr  string
		want  string
	}{
		{standard, nil, "127.0.0.2", "killport 127.0.0.2:8000"},
		{standard, nil, "[::1]", "killport '[::1]:8000'"},
		{standard, nil, "0.0.0.0", "killport 8000"},
		{standard, nil, "[::]", "killport 8000"},
		{standard, nil, "", "killport 8000"},
		{standard, asked("8000"), "127.0.0.2", "killport 8000"},
		{standard, asked("127.0.0.2:8000"), "127.0.0.2", "killport 127.0.0.2:8000"},
		{standard, asked("127.0.0.2:8000"), "0.0.0.0", "killport 127.0.0.2:8000"},
		{standard, asked("8000", "127.0.0.2:8000"), "0.0.0.0", "killport 127.0.0.2:8000"},
		{standard, asked("127.0.0.1:8000", "8001"), "127.0.0.2", "killport 127.0.0.2:8000"},
		{slow, asked("8000"), "127.0.0.2", "killport --grace 20s --signal INT 8000"},
		{plain, asked("8000"), "127.0.0.2", "killport --grace 3s 8000"},
		{hard, asked("8000"), "127.0.0.2", "killport --signal KILL 8000"},
		{direct, asked("8000"), "127.0.0.2", "killport --via process 8000"},
		{dry, asked("8000"), "127.0.0.2", "killport --dry-run 8000"},
	} {
		tt.opts.Asked = tt.asked
		tg := &target{opts: tt.opts, holder: listeners.Listener{Proto: listeners.TCP, LocalAddr: tt.addr, LocalPort: 8000}}
		want := tt.want
		if runtime.GOOS == "windows" {
			want = strings.ReplaceAll(want, "'", `"`)
		}
		if got := tg.command("killport"); got != want {
			t.Errorf("of %q, asked %v: %q; want %q", tt.addr, tt.asked, got, want)
		}
		if got := tg.command("portdiag"); strings.Contains(got, "--") {
			t.Errorf("portdiag is asked with flags of killport: %q", got)
		}
	}
}
