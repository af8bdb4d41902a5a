package cli

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/pkill2"
)

// A killing reads the flags and does nothing.
type killing struct {
	Kill
	opts pkill2.Options
	ran  bool
}

func (k *killing) Run(s *Session) (err error) {
	k.opts, err = k.Options(s)
	k.ran = err == nil
	return err
}

func TestKillOptions(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want pkill2.Options
	}{
		{nil, pkill2.Options{Grace: pkill2.DefaultGrace, Signal: syscall.SIGTERM, Manners: pkill2.OwnManners, Via: pkill2.ViaAuto}},
		{[]string{"--dry-run"}, pkill2.Options{Grace: pkill2.DefaultGrace, Signal: syscall.SIGTERM, Manners: pkill2.OwnManners, Via: pkill2.ViaAuto, DryRun: true}},
		{[]string{"--grace=3s"}, pkill2.Options{Grace: pkill2.DefaultGrace, Signal: syscall.SIGTERM, Via: pkill2.ViaAuto}},
		{[]string{"--signal=TERM"}, pkill2.Options{Grace: pkill2.DefaultGrace, Signal: syscall.SIGTERM, Via: pkill2.ViaAuto}},
		{
			[]string{"--grace=250ms", "--signal=sigint", "--via", "process", "--override", "--close-ghosts"},
			pkill2.Options{Grace: 250 * time.Millisecond, Signal: syscall.SIGINT, Via: pkill2.ViaProcess, Override: true, Ghosts: pkill2.CloseGhosts},
		},
		{[]string{"--grace=0s", "--signal", "KILL"}, pkill2.Options{Signal: syscall.SIGKILL, Via: pkill2.ViaAuto}},
	} {
		k := &killing{}
		answer := try(k, "", tt.args...)
		k.opts.Waiting, k.opts.Stopping = nil, nil
		if got, want := fmt.Sprintf("%+v", k.opts), fmt.Sprintf("%+v", tt.want); got != want || answer.code != ExitReached {
			t.Errorf("%q: %s, %+v; want %s", tt.args, got, answer, want)
		}
	}
}

func TestKillUsage(t *testing.T) {
	for _, arg := range []string{
		"--signal=9", "--signal=USR1", "--signal=", "--grace=-1s", "--grace=3", "--grace=x", "--via=docker", "--via=",
		"--dry-run=false", "--dry-run=true", "--no-dry-run", "--dry-run=",
	} {
		k := &killing{}
		got := try(k, "", "--dry-run", arg)
		if got.code != ExitUsage || k.ran || !strings.HasPrefix(got.stderr, "tool: error: ") {
			t.Errorf("%s: %+v, ran %v; want exit code %d", arg, got, k.ran, ExitUsage)
		}
	}
}

func TestKillReached(t *testing.T) {
	for outcome, want := range map[pkill2.Outcome]bool{
		pkill2.Terminated: true, pkill2.Killed: true, pkill2.Released: true, pkill2.Gone: true, pkill2.Reused: true, pkill2.Closed: true,
		pkill2.Ghost: false, pkill2.Hidden: false, pkill2.Protected: false, pkill2.Denied: false, pkill2.Refused: false,
		pkill2.Survived: false, pkill2.Interrupted: false, pkill2.WouldRefuse: false,
	} {
		r := record(t, fmt.Sprintf(`{"pkill2":{"outcome":%q}}`, outcome))
		if got := (Kill{}).Reached(r); got != want {
			t.Errorf("Reached(%s) = %v; want %v", r, got, want)
		}
		if !(Kill{DryRun: true}).Reached(r) {
			t.Errorf("Reached(%s) of a dry run = false", r)
		}
	}
	for _, line := range []string{`{}`, `{"pkill2":null}`, `{"pkill2":{}}`, `{"pkill2":{"outcome":0}}`} {
		if (Kill{}).Reached(record(t, line)) {
			t.Errorf("Reached(%s) = true", line)
		}
	}
}
