// Package command runs the command lines of other programs, with limits: to
// the time, to what is kept of what they say, and to what they have of ours.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Limits on what is run.
const (
	patience  = 3 * time.Second // for an answer to Ask
	maxOutput = 8 << 20         // bytes: a host with a thousand containers
	maxWords  = 16 << 10        // bytes of an error
)

// ErrNoAnswer says that Ask has waited in vain.
var ErrNoAnswer = fmt.Errorf("no answer within %v", patience)

// Here reports whether there is such a program on PATH.
func Here(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// Ask runs a command that changes nothing, and returns what it prints.
func Ask(ctx context.Context, argv ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrNoAnswer)
	defer cancel()
	return Run(ctx, argv...)
}

// Run returns what the command prints; its error begins with the program's
// name and has its first line of words.
func Run(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	stdout, stderr := bounded{limit: maxOutput}, bounded{limit: maxWords}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a child of its own may keep the pipes
	alone(cmd)
	err := run(cmd)
	switch {
	case err == nil && stdout.full:
		return nil, fmt.Errorf("%s: more than %d bytes", argv[0], maxOutput)
	case err == nil:
		return stdout.kept.Bytes(), nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%s is not here", argv[0])
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", argv[0], context.Cause(ctx))
	}
	words := FirstLine(stderr.kept.String())
	if words == "" {
		words = err.Error()
	}
	return nil, &runError{name: argv[0], words: words, err: err}
}

// run starts a command that inherits nothing but its environment, limits and
// mask; one that runs as another user has no folder of ours either.
func run(cmd *exec.Cmd) error {
	if err := keepFiles(); err != nil {
		return err
	}
	if cmd.Args[0] != another {
		return cmd.Run()
	}
	cmd.Dir = "/"
	if err := startWithoutKeys(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// another is the program by which commands run as another user: setpriv(1).
const another = "setpriv"

// runError is a command that failed.
type runError struct {
	name, words string
	err         error
}

func (e *runError) Error() string {
	if strings.HasPrefix(e.words, e.name+":") {
		return e.words
	}
	return e.name + ": " + e.words
}

func (e *runError) Unwrap() error { return e.err }

// ExitCode is -1 for an error that is none.
func ExitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// bounded keeps so many bytes and drops the rest.
type bounded struct {
	kept  bytes.Buffer // not embedded: its ReadFrom knows no limit
	limit int
	full  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := min(len(p), b.limit-b.kept.Len())
	b.full = b.full || room < len(p)
	b.kept.Write(p[:room])
	return len(p), nil
}

// FirstLine is the first line of s, of a bounded length and valid UTF-8.
func FirstLine(s string) string {
	const width = 300
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if len(line) > width {
		line = line[:width] + "…"
	}
	return strings.ToValidUTF8(line, "\ufffd")
}
