package cli

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/killport/killport/internal/ptytest"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/process"
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

// Whatever is in them, the words for people move no cursor, on a terminal and in
// a file: names of containers, of programs, of what was typed.
func TestNothingRaw(t *testing.T) {
	const hostile = "\x1b]0;x\a\u009b2J\u202egnp\r\n\x9b\x7f"
	shown, terminal := ptytest.Open(t)
	screen := bufio.NewReader(shown)
	s := &Session{Context: t.Context(), name: "tool", stdout: terminal, stderr: terminal}
	for kind, say := range map[string]func(){
		"error":  func() { s.Error(errors.New(hostile)) },
		"hint":   func() { s.Hint("stop %s", hostile) },
		"note":   func() { s.Note("stopping %s", hostile) },
		"notice": func() { s.Notice("taking %s", hostile) },
		"JSON": func() {
			s.Emit(sequence(t, `{"a": "\u001b `+"\u009b\u202e\x7f"+`",	"b":"東京"}`), Format{JSON: true}, jsonl.Record.String, nil)
		},
	} {
		say()
		line, err := screen.ReadString('\n')
		line = strings.TrimSuffix(line, "\r\n") // the CR is the terminal's
		if i := strings.IndexFunc(line, func(c rune) bool { return !unicode.IsPrint(c) && c != ' ' }); err != nil || i >= 0 && kind != "JSON" || line == "" {
			t.Errorf("%s: the terminal gets %q, %v", kind, line, err)
		}
		if want := `{"a": "\u001b \u009b\u202e\u007f"`; kind == "JSON" && (!strings.HasPrefix(line, want) || !strings.HasSuffix(line, `"b":"東京"}`)) {
			t.Errorf("JSON on a terminal is %q; want %s", line, want)
		}
	}
	for _, args := range [][]string{{"--" + hostile}, {hostile}, {"--json=" + hostile}, {"-" + hostile}, {"--json", hostile}} {
		got := try(&grammar{seq: sequence(t)}, "", args...)
		said := strings.TrimSuffix(got.stderr, "\n")
		if i := strings.IndexFunc(said, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' }); i >= 0 || got.code != ExitUsage || strings.Count(said, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q", args, got.code, got.stderr)
		}
	}
	for _, said := range []string{try(&killing{}, "", "--signal="+hostile).stderr, try(&killing{}, "", "--grace="+hostile).stderr, try(&killing{}, "", "--via="+hostile).stderr, try(&listing{}, "", hostile).stderr} {
		if i := strings.IndexFunc(said, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' }); i >= 0 || strings.Count(said, "\n") != 2 {
			t.Errorf("%q", said)
		}
	}
}

// While somebody is held by SIGSTOP, one more signal does not end us.
func TestEndsWithNobodyHeld(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	pin, err := process.Open(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pin.Close()
	if err := pin.Hold(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	afterRequest(ctx, func() { close(stopped) })
	cancel()
	select {
	case <-stopped:
		t.Error("one more signal ends us, and leaves somebody stopped")
	case <-time.After(2 * sameRequest):
	}
	if err := pin.Resume(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Error("nobody is held, and no signal ends us")
	}
}
