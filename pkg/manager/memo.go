package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/killport/killport/internal/command"
)

// Remember gives a context in which an answer of an engine, or of systemd,
// serves for all holders that are looked at within a moment: a hundred workers
// of one container are one question. One that hangs is awaited once, whatever
// it is asked, and by whom.
func Remember(ctx context.Context) context.Context {
	return context.WithValue(ctx, memoKey{}, &memo{answers: map[string]answer{}, seen: map[string]seen{}})
}

// moment is how long an answer is true enough to find out what manages a
// holder.
const moment = 2 * time.Second

type memoKey struct{}

type memo struct {
	mu      sync.Mutex
	answers map[string]answer // by command line
	seen    map[string]seen
}

// seen is what somebody has looked at, and not asked for.
type seen struct {
	at   time.Time
	what any
}

// remembered is what look finds, unless the context remembers what it has found
// under that name.
func remembered[T any](ctx context.Context, name string, look func() T) T {
	m, ok := ctx.Value(memoKey{}).(*memo)
	if !ok {
		return look()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.seen[name].what.(T)
	if !ok || time.Since(m.seen[name].at) > moment {
		known = look()
		m.seen[name] = seen{time.Now(), known}
	}
	return known
}

type answer struct {
	at  time.Time
	out []byte
	err error
}

// ask asks whom the first words name, unless the context remembers the answer,
// or they have just kept somebody waiting.
func ask(ctx context.Context, whom []string, args ...string) ([]byte, error) {
	m, ok := ctx.Value(memoKey{}).(*memo)
	if !ok {
		return silent.ask(ctx, whom, args...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := strings.Join(slices.Concat(whom, args), "\x00")
	known, ok := m.answers[key]
	if !ok || time.Since(known.at) > moment {
		out, err := silent.ask(ctx, whom, args...)
		known = answer{time.Now(), out, err}
		m.answers[key] = known
	}
	return known.out, known.err
}

// silent are those that have not answered. It is of the process, and not of a
// context: each stage of a pipe has its own.
var silent = silence{since: map[string]time.Time{}}

type silence struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// silenceHolds is for how long one that has not answered is not asked again.
const silenceHolds = time.Minute

func (s *silence) ask(ctx context.Context, whom []string, args ...string) ([]byte, error) {
	key := strings.Join(append(slices.Clone(whom), os.Getenv("PATH")), "\x00") // on which another may be found
	if s.isOf(key) {
		return nil, fmt.Errorf("%s: %w", whom[0], command.ErrNoAnswer)
	}
	out, err := command.Ask(ctx, slices.Concat(whom, args)...)
	if errors.Is(err, command.ErrNoAnswer) {
		s.mu.Lock()
		s.since[key] = time.Now()
		s.mu.Unlock()
	}
	return out, err
}

func (s *silence) isOf(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.since[key]
	return ok && time.Since(since) < silenceHolds
}
