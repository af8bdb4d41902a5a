package pkill2_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/killport/killport/pkg/pkill2"
)

// named is this test binary by the name of another program.
func named(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(path, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Programs that SIGTERM does not end are asked by their own signal, unless the
// user said how.
func TestOwnManners(t *testing.T) {
	for _, program := range []string{"uwsgi", "uwsgi-core", "postgres"} {
		path := named(t, program)
		opts := pkill2.Options{Grace: 300 * time.Millisecond, Manners: pkill2.OwnManners, DryRun: true}
		in := startAs(t, path, "ignore").records(t)[0]
		if got := one(t, opts, in); got.outcome != "would_terminate" || got.signals != "SIGINT" {
			t.Errorf("%s, in a dry run: %v; want SIGINT", program, got)
		}
		opts.DryRun = false
		if got := one(t, opts, in); got.outcome != "terminated" || got.signals != "SIGINT" {
			t.Errorf("%s: %v; want it terminated by SIGINT", program, got)
		}
		opts.Manners = pkill2.OneManner
		if got := one(t, opts, startAs(t, path, "ignore").records(t)[0]); got.outcome != "killed" || got.signals != "SIGTERM SIGKILL" {
			t.Errorf("%s, as all others: %v; want it killed", program, got)
		}
	}
	opts := pkill2.Options{Grace: time.Minute, Manners: pkill2.OwnManners}
	if got := one(t, opts, startAs(t, named(t, "postgresql"), "plain").records(t)[0]); got.signals != "SIGTERM" {
		t.Errorf("another program: %v; want SIGTERM", got)
	}
}

// One with a grace period of its own has it, and delays nobody.
func TestOwnGrace(t *testing.T) {
	const grace = 300 * time.Millisecond
	patient, other := startAs(t, named(t, "postgres"), "deaf"), start(t, "deaf")
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	var took time.Duration
	go func() {
		other.signalled(t)
		took = time.Since(began)
		time.Sleep(grace) // in which the patient one would be killed, too
		cancel()
	}()
	var left []time.Duration
	opts := pkill2.Options{Grace: grace + 100*time.Millisecond, Manners: pkill2.OwnManners, Waiting: func(_ []int, d time.Duration) { left = append(left, d) }}
	out, errs := run(t, ctx, opts, slices.Concat(patient.records(t), other.records(t))...)
	if len(out) != 2 || len(errs) > 0 || out[0].outcome != "interrupted" || out[0].signals != "SIGINT" || out[1].outcome != "killed" {
		t.Fatalf("Stage = %v, %v; want the first asked only, and the other killed", out, errs)
	}
	if !patient.lives() || took > 10*grace {
		t.Errorf("the other was killed after %v; the patient one lives: %v", took, patient.lives())
	}
	if len(left) != 2 || left[0] > grace || left[1] < 20*time.Second {
		t.Errorf("time left for them: %v; want little, and half a minute", left)
	}
}
