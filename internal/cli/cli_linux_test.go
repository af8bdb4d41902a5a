package cli

import (
	"bufio"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/internal/ptytest"
	"github.com/killport/killport/pkg/jsonl"
)

// An interrupted is told to stop by itself, and does.
type interrupted struct {
	Format
	sig  syscall.Signal
	stop bool // when its context ends
}

func (i *interrupted) Run(s *Session) error {
	if err := syscall.Kill(os.Getpid(), i.sig); err != nil {
		return err
	}
	select {
	case <-s.Context.Done():
		i.stop = true
	case <-time.After(20 * time.Second):
	}
	r, err := jsonl.New(map[string]bool{"stopped": i.stop})
	if err != nil {
		return err
	}
	s.Emit(func(yield func(jsonl.Record, error) bool) {
		_ = yield(r, nil) && yield(jsonl.Record{}, s.Context.Err())
	}, i.Format, jsonl.Record.String, never)
	return nil
}

// What was done is put out, and the exit code says the rest.
func TestInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(sig) { // below nohup, which wants it so
			continue
		}
		got := try(&interrupted{sig: sig}, "")
		if want := (answer{ExitInterrupted, "{\"stopped\":true}\n", ""}); got != want {
			t.Errorf("%v: %+v; want %+v", sig, got, want)
		}
	}
}

// On a terminal there is text, and no reading of records from a person.
func TestTerminal(t *testing.T) {
	shown, terminal := ptytest.Open(t)
	screen := bufio.NewReader(shown)
	var stdout, stderr strings.Builder
	code := run("tool", "", &echo{}, nil, terminal, &stdout, &stderr)
	if code != ExitUsage || !strings.Contains(stderr.String(), "stdin is a terminal") {
		t.Errorf("records from a terminal: exit code %d, %q; want %d", code, stderr.String(), ExitUsage)
	}
	s := &Session{Context: t.Context(), name: "tool", stdout: terminal, stderr: terminal}
	text := func(jsonl.Record) string { return "text\n" }
	s.Emit(sequence(t, `{"a":1}`), Format{}, text, nil)
	s.Emit(sequence(t, `{"a":1}`), Format{JSON: true}, text, nil)
	s.Note("waiting for %d", 4242)
	for _, want := range []string{"text\r\n", "{\"a\":1}\r\n", "tool: note: waiting for 4242\r\n"} {
		if got, err := screen.ReadString('\n'); got != want {
			t.Errorf("the terminal shows %q, %v; want %q", got, err, want)
		}
	}
	var quiet strings.Builder
	(&Session{name: "tool", stderr: &quiet}).Note("waiting")
	if quiet.Len() > 0 {
		t.Errorf("a note to a file: %q; want none", quiet.String())
	}
}
