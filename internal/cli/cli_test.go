package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// A grammar is a command for tests, which puts seq out.
type grammar struct {
	Format
	seq     jsonl.Seq
	reached func(jsonl.Record) bool
	err     error
}

func (g *grammar) Run(s *Session) error {
	if g.err != nil {
		return g.err
	}
	s.Emit(g.seq, g.Format, jsonl.Record.String, g.reached)
	return nil
}

// An answer is what a run said, and its exit code.
type answer struct {
	code           int
	stdout, stderr string
}

func try(command any, stdin string, args ...string) answer {
	var stdout, stderr strings.Builder
	code := run("tool", "The help.", command, args, strings.NewReader(stdin), &stdout, &stderr)
	return answer{code, stdout.String(), stderr.String()}
}

func record(t *testing.T, line string) jsonl.Record {
	t.Helper()
	r, err := jsonl.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sequence is of strings, which are records, and of errors.
func sequence(t *testing.T, pairs ...any) jsonl.Seq {
	t.Helper()
	return func(yield func(jsonl.Record, error) bool) {
		for _, p := range pairs {
			var r jsonl.Record
			err, bad := p.(error)
			if !bad {
				r = record(t, p.(string))
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func never(jsonl.Record) bool { return false }

func TestExitCodes(t *testing.T) {
	badLine := &jsonl.LineError{Line: 7, Err: errors.New("not JSON")}
	badLuck := errors.New("no table")
	const r = `{"a":1}`
	for _, tt := range []struct {
		name    string
		pairs   []any
		reached func(jsonl.Record) bool
		want    answer
	}{
		{"nothing", nil, never, answer{ExitReached, "", ""}},
		{"a record", []any{r}, nil, answer{ExitReached, r + "\n", ""}},
		{"not reached", []any{r}, never, answer{ExitNotReached, r + "\n", ""}},
		{
			"one of two not reached",
			[]any{`{}`, r},
			func(r jsonl.Record) bool { return r.Has("a") },
			answer{ExitNotReached, "{}\n" + r + "\n", ""},
		},
		{"a bad line", []any{badLine}, nil, answer{ExitUsage, "", "tool: error: line 7: not JSON\n"}},
		{
			"a bad line, wrapped, among others",
			[]any{r, fmt.Errorf("stage: %w", badLine), r},
			nil,
			answer{ExitUsage, r + "\n" + r + "\n", "tool: error: stage: line 7: not JSON\n"},
		},
		{"another error", []any{r, badLuck}, nil, answer{ExitFailure, r + "\n", "tool: error: no table\n"}},
		{
			"a permission",
			[]any{fmt.Errorf("open: %w", os.ErrPermission)},
			nil,
			answer{ExitFailure, "", "tool: error: open: permission denied\ntool: hint: run it as " + process.Superuser() + "\n"},
		},
		{"unsupported", []any{errors.ErrUnsupported}, nil, answer{ExitFailure, "", "tool: error: unsupported operation\n"}},
		{
			"all of it: the highest counts",
			[]any{badLuck, badLine, r},
			never,
			answer{ExitFailure, r + "\n", "tool: error: no table\ntool: error: line 7: not JSON\n"},
		},
		{"a bad line beats a goal that is not reached", []any{badLine, r}, never, answer{ExitUsage, r + "\n", "tool: error: line 7: not JSON\n"}},
	} {
		if got := try(&grammar{seq: sequence(t, tt.pairs...), reached: tt.reached}, ""); got != tt.want {
			t.Errorf("%s: %+v; want %+v", tt.name, got, tt.want)
		}
	}
}

func TestUsage(t *testing.T) {
	hint := "tool: hint: tool --help\n"
	got := try(&grammar{seq: sequence(t)}, "", "--nonsense")
	if got.code != ExitUsage || got.stdout != "" || !strings.HasPrefix(got.stderr, "tool: error: ") || !strings.HasSuffix(got.stderr, hint) {
		t.Errorf("--nonsense: %+v; want exit code %d, one error and the hint", got, ExitUsage)
	}
	got = try(&grammar{seq: sequence(t)}, "", "8000")
	if got.code != ExitUsage || got.stdout != "" {
		t.Errorf("an argument too many: %+v; want exit code %d", got, ExitUsage)
	}
	got = try(&grammar{err: errors.New("which port?")}, "")
	if want := (answer{ExitUsage, "", "tool: error: which port?\n" + hint}); got != want {
		t.Errorf("an error of the command: %+v; want %+v", got, want)
	}
}

func TestHelp(t *testing.T) {
	ran := &grammar{err: errors.New("it ran")}
	got := try(ran, "", "--help")
	if got.code != ExitReached || got.stderr != "" || !strings.Contains(got.stdout, "The help.") || !strings.Contains(got.stdout, "--json") {
		t.Errorf("--help: %+v; want the help on stdout", got)
	}
}

// A full takes so many writes, and then no more.
type full struct{ writes int }

func (f *full) Write(b []byte) (int, error) {
	if f.writes--; f.writes < 0 {
		return 0, syscall.ENOSPC
	}
	return len(b), nil
}

func TestWriteError(t *testing.T) {
	for writes := range 2 {
		var stderr strings.Builder
		pulled := 0
		seq := jsonl.Map(func(_ context.Context, r jsonl.Record) (jsonl.Record, error) {
			pulled++
			return r, nil
		})(t.Context(), sequence(t, `{}`, `{}`, `{}`))
		code := run("tool", "", &grammar{seq: seq}, nil, strings.NewReader(""), &full{writes}, &stderr)
		if code != ExitFailure || !strings.HasPrefix(stderr.String(), "tool: error: ") || pulled != writes+1 {
			t.Errorf("after %d writes: exit code %d, %q, %d records pulled; want %d", writes, code, stderr.String(), pulled, ExitFailure)
		}
	}
}

// An echo puts out what it reads.
type echo struct{ Format }

func (e *echo) Run(s *Session) error {
	in, err := s.Records()
	if err != nil {
		return err
	}
	s.Emit(in, e.Format, jsonl.Record.String, nil)
	return nil
}

func TestRecords(t *testing.T) {
	got := try(&echo{}, "{\"a\":1}\r\n\n[]\n{\"b\":2}")
	want := answer{ExitUsage, "{\"a\":1}\n{\"b\":2}\n", "tool: error: line 3: not a JSON object: \"[]\"\n"}
	if got != want {
		t.Errorf("%+v; want %+v", got, want)
	}
	if got := try(&echo{}, "", "--json"); got != (answer{}) {
		t.Errorf("empty input: %+v; want nothing", got)
	}
}

// Whoever waits for input can be interrupted.
func TestInterruptible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		defer w.Close()
		in := interruptible{ctx, r}
		type read struct {
			n   int
			err error
		}
		got := make(chan read)
		go func() {
			n, err := in.Read(make([]byte, 10))
			got <- read{n, err}
		}()
		synctest.Wait() // until it waits
		cancel()
		if r := <-got; r.n != 0 || !errors.Is(r.err, context.Canceled) {
			t.Errorf("Read = %d, %v; want that it was cancelled", r.n, r.err)
		}
	})
	in := interruptible{t.Context(), strings.NewReader("abc")}
	b, err := io.ReadAll(in)
	if err != nil || string(b) != "abc" {
		t.Errorf("ReadAll = %q, %v", b, err)
	}
}

// A listing asks for ports and lists the words for them.
type listing struct {
	Ports
	queries []listeners.Query
}

func (l *listing) Run(*Session) (err error) {
	l.queries, err = l.Queries("8000")
	return err
}

func TestPorts(t *testing.T) {
	for _, tt := range []struct {
		all  string // KILLPORT_ALL
		args []string
		want string
	}{
		{"", nil, "8000"},
		{"", []string{"3000"}, "3000"},
		{"", []string{"8000,3000", "80 81"}, "8000 3000 80 81"},
		{"", []string{"all"}, "8000 8080 3000"},
		{"9001,9002", []string{"all"}, "9001 9002"},
		{"9001", nil, "8000"},
		{"", []string{"--udp", "53"}, "--udp 53"},
	} {
		t.Setenv("KILLPORT_ALL", tt.all)
		l := &listing{}
		got := try(l, "", tt.args...)
		var words []string
		for _, q := range l.queries {
			words = append(words, q.Args()...)
		}
		if got != (answer{}) || strings.Join(words, " ") != tt.want {
			t.Errorf("KILLPORT_ALL=%q, %q: %q, %+v; want %q", tt.all, tt.args, words, got, tt.want)
		}
	}
	t.Setenv("KILLPORT_ALL", "")
	for _, port := range []string{"0", "65536", "80a", "9000-8000", "", " "} {
		l := &listing{}
		if got := try(l, "", "80", port); got.code != ExitUsage || l.queries != nil || !strings.HasPrefix(got.stderr, "tool: error: ") {
			t.Errorf("port %q: %+v, %v; want exit code %d and nothing done", port, got, l.queries, ExitUsage)
		}
	}
	t.Setenv("KILLPORT_ALL", "80a")
	if got := try(&listing{}, "", "all"); got.code != ExitUsage || !strings.Contains(got.stderr, "80a") {
		t.Errorf("KILLPORT_ALL=80a: %+v; want exit code %d", got, ExitUsage)
	}
}

// The rights of who owns the file are not for whoever starts it.
func TestBorrowed(t *testing.T) {
	for _, tt := range []struct {
		uid, euid, gid, egid int
		want                 bool
	}{
		{1000, 1000, 1000, 1000, false},
		{0, 0, 0, 0, false},
		{1000, 0, 1000, 1000, true},
		{1000, 1001, 1000, 1000, true},
		{0, 1000, 0, 0, true},
		{1000, 1000, 1000, 0, true},
		{-1, -1, -1, -1, false}, // on Windows
	} {
		if got := borrowed(tt.uid, tt.euid, tt.gid, tt.egid); got != tt.want {
			t.Errorf("borrowed(%d, %d, %d, %d) = %v; want %v", tt.uid, tt.euid, tt.gid, tt.egid, got, tt.want)
		}
	}
}

// A signal that comes on the heels of another one says the same.
func TestSameRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, signal := context.WithCancel(t.Context())
		var stopped atomic.Bool
		afterRequest(ctx, func() { stopped.Store(true) })
		signal()
		for _, tt := range []struct {
			after time.Duration
			want  bool
		}{{0, false}, {sameRequest - time.Millisecond, false}, {2 * time.Millisecond, true}} {
			time.Sleep(tt.after)
			if synctest.Wait(); stopped.Load() != tt.want {
				t.Errorf("%v later, the next one ends us at once: %v; want %v", tt.after, stopped.Load(), tt.want)
			}
		}
	})
}
