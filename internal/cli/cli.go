// Package cli is what the commands have in common: flags, streams, signals,
// exit codes, and the voice of errors. It is the only package that knows kong.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// The exit codes, the same for every tool. Where several apply, the highest
// one counts.
const (
	ExitReached     = 0   // the goal holds
	ExitNotReached  = 1   // it does not
	ExitUsage       = 2   // usage, or input that is not a record
	ExitFailure     = 3   // could not look, or could not write
	ExitInterrupted = 130 // by a signal
)

// garbage is how much of it there may be, in percent of what is kept. That is
// bounded ([jsonl.MaxKept]), and so both are.
const garbage = 50

// Main runs a command on the streams of this process, and returns the exit
// code. The grammar is a struct as kong reads it, whose
// commands have a method Run(*Session) error; the error is one of usage.
func Main(name, help string, grammar any, args ...string) int {
	debug.SetGCPercent(garbage)
	return run(name, help, grammar, args, os.Stdin, os.Stdout, os.Stderr)
}

func run(name, help string, grammar any, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := &Session{name: name, stdin: stdin, stdout: stdout, stderr: stderr}
	if borrowed(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid()) {
		s.Error(errors.New("not setuid: use sudo"))
		return ExitFailure
	}
	ctx, stop := interruption()
	defer stop()
	afterRequest(ctx, stop) // one more signal ends us at once then
	s.Context = ctx
	err := s.parse(grammar, help, args)
	var exit exitError
	if errors.As(err, &exit) {
		return int(exit)
	}
	if err != nil {
		s.Error(err)
		s.Hint("%s --help", name)
		return ExitUsage
	}
	if ctx.Err() != nil {
		return ExitInterrupted
	}
	return s.code
}

// sameRequest is for how long after a signal another one says the same: timeout(1)
// signals its child and then the group that this is in, npm passes on a Ctrl-C
// that its child has had already.
const sameRequest = 100 * time.Millisecond

// afterRequest calls stop, after which one more signal ends us: not while somebody
// is held, who would stay so.
func afterRequest(ctx context.Context, stop func()) {
	context.AfterFunc(ctx, func() {
		time.Sleep(sameRequest)
		for process.Holding() {
			time.Sleep(time.Millisecond)
		}
		stop()
	})
}

// borrowed reports whether we have the rights of another user or group than who
// started us: the owner's of a setuid file. What is run is looked up on PATH, and
// may be whatever that user likes. (Capabilities of a file, by setcap, are not
// passed on to what is run: capabilities(7).)
func borrowed(uid, euid, gid, egid int) bool { return uid != euid || gid != egid }

// interruption is a context that ends at the first signal, but for those that
// whoever started us has us ignore: nohup, or a shell in the background. With
// nothing to wait for, NotifyContext would take all signals.
func interruption() (context.Context, context.CancelFunc) {
	signals := slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	if len(signals) == 0 {
		return context.WithCancel(context.Background())
	}
	return signal.NotifyContext(context.Background(), signals...)
}

// exitError carries the exit code of --help out of kong, which goes on parsing
// if its Exit returns.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func (s *Session) parse(grammar any, help string, args []string) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exitError:
			err = r
		default:
			panic(r)
		}
	}()
	parser, err := kong.New(grammar, kong.Name(s.name), kong.Description(help),
		kong.Writers(s.stdout, s.stderr),
		kong.Exit(func(code int) { panic(exitError(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Vars{"all": listeners.DefaultAll})
	if err != nil {
		panic(err) // the grammar is wrong, not the arguments
	}
	command, err := parser.Parse(args)
	if err != nil {
		return err
	}
	return command.Run(s)
}

// Session is one run of a command.
type Session struct {
	Context context.Context // ends at the first signal

	name   string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	code   int
}

// Ports are the ports of a command line.
type Ports struct {
	Ports []string `arg:"" optional:"" name:"port" help:"8000, :8000, 8000-8010, 8000,3000, 127.0.0.1:8000, or all (${all}; KILLPORT_ALL changes it)."`
	UDP   bool     `help:"UDP instead of TCP."`
}

// Queries reads the ports; standard is what no argument at all means.
func (p Ports) Queries(standard ...string) ([]listeners.Query, error) {
	words := p.Ports
	if len(words) == 0 {
		words = standard
	}
	all := listeners.DefaultAll
	if set := os.Getenv("KILLPORT_ALL"); set != "" {
		all = set
	}
	return listeners.ParsePorts(p.Proto(), all, words...)
}

// Words are the arguments that ask for the same again.
func (p Ports) Words() []string {
	if p.UDP {
		return append([]string{"--udp"}, p.Ports...)
	}
	return p.Ports
}

// Proto is the protocol that is asked for.
func (p Ports) Proto() listeners.Proto {
	if p.UDP {
		return listeners.UDP
	}
	return listeners.TCP
}

// Format is how a command puts out its records.
type Format struct {
	JSON bool `name:"json" help:"JSON Lines on a terminal too."`
}

// Records are those on stdin. A person who types the command alone is told
// what it waits for.
func (s *Session) Records() (jsonl.Seq, error) {
	if isTerminal(s.stdin) {
		return nil, fmt.Errorf("reads records from a pipe, and stdin is a terminal: listeners 8000 | %s", s.name)
	}
	ctx := lastWords(s.Context)
	return jsonl.Read(interruptible{ctx, s.stdin})(ctx), nil
}

// lastWords is a context that ends a while after another one: Ctrl-C is for
// all in a pipe, and who stands before us says then what it has done.
func lastWords(ctx context.Context) context.Context {
	const while = 250 * time.Millisecond
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(while, cancel) })
	return late
}

// Shows reports whether records are put out as text, to a person.
func (s *Session) Shows(f Format) bool { return isTerminal(s.stdout) && !f.JSON }

// Finish makes the command finish what it was asked for when nobody reads its
// output any more; a command that only reads dies of SIGPIPE as usual.
func (s *Session) Finish() { signal.Ignore(syscall.SIGPIPE) }

// Emit puts out the records of seq, as text on a terminal and as JSON Lines
// elsewhere, and its errors on stderr. The goal of the command holds if it
// holds for each record; nil means that it always does. It returns whether there
// was something: a record, or an error.
func (s *Session) Emit(seq jsonl.Seq, f Format, text func(jsonl.Record) string, reached func(jsonl.Record) bool) (some bool) {
	out := jsonl.Map(func(_ context.Context, r jsonl.Record) (jsonl.Record, error) {
		some = true
		if reached != nil && !reached(r) {
			s.fail(ExitNotReached)
		}
		return r, nil
	})(s.Context, seq)
	write, stdout := jsonl.Write, lines(s.stdout)
	if s.Shows(f) {
		write = func(w io.Writer, seq jsonl.Seq, report func(error)) error {
			return writeText(w, seq, text, report)
		}
	}
	report := func(err error) {
		some = true
		s.report(err)
	}
	if err := write(stdout, out, report); err != nil {
		s.Error(err)
		s.fail(ExitFailure)
	}
	return some
}

// Print puts out what is no record.
func (s *Session) Print(write func(io.Writer) error) error {
	if err := write(s.stdout); err != nil {
		s.Error(err)
		s.fail(ExitFailure)
	}
	return nil
}

func writeText(w io.Writer, seq jsonl.Seq, text func(jsonl.Record) string, report func(error)) error {
	for r, err := range seq {
		if err != nil {
			report(err)
			continue
		}
		if _, err := io.WriteString(w, text(r)); err != nil {
			return err
		}
	}
	return nil
}

// report says an error of a sequence, and remembers its exit code.
func (s *Session) report(err error) {
	if s.Context.Err() != nil && errors.Is(err, s.Context.Err()) {
		return // the exit code says it
	}
	s.Error(err)
	var bad *jsonl.LineError
	if errors.As(err, &bad) {
		s.fail(ExitUsage)
		return
	}
	s.fail(ExitFailure)
	if errors.Is(err, os.ErrPermission) {
		s.Hint("run it as %s", process.Superuser())
	}
}

func (s *Session) fail(code int) { s.code = max(s.code, code) }

// Error and Hint are the voice: one line on stderr.
func (s *Session) Error(err error) { s.say("error", err.Error()) }

// Hint says what helps.
func (s *Session) Hint(format string, args ...any) { s.say("hint", fmt.Sprintf(format, args...)) }

// Note says what is going on, to a person who waits.
func (s *Session) Note(format string, args ...any) {
	if isTerminal(s.stderr) {
		s.say("note", fmt.Sprintf(format, args...))
	}
}

// Notice is a note that is for everybody, a script's log among them.
func (s *Session) Notice(format string, args ...any) { s.say("note", fmt.Sprintf(format, args...)) }

// say lets nothing through that could move a cursor: names, engines' answers and
// arguments are in there, which others may have chosen.
func (s *Session) say(kind, words string) {
	fmt.Fprintf(s.stderr, "%s: %s: %s\n", s.name, kind, text.Line(strings.TrimSpace(words)))
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// interruptible is a reader that gives up waiting when its context ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(b []byte) (n int, err error) {
	done := make(chan struct{})
	buf := make([]byte, len(b)) // b is not ours any more once we return
	go func() {
		n, err = i.r.Read(buf)
		close(done)
	}()
	select {
	case <-done:
		return copy(b, buf[:n]), err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}
