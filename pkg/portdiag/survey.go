package portdiag

import (
	"context"
	"slices"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// A Survey explains ports, one after another. What does not depend on the port
// it looks up once.
type Survey struct {
	flags     []string // of killport, in what it is asked by
	low, high uint16   // between which all the ports are
	table     []listeners.Socket
	known     map[holder][]string // what they listen on
	host
}

// NewSurvey is for explaining what the queries ask about. The flags are those by
// which killport is asked in remedies.
func NewSurvey(flags []string, queries ...listeners.Query) *Survey {
	s := Survey{flags: flags}
	for i, q := range queries {
		if i == 0 {
			s.low = q.Port
		}
		s.low, s.high = min(s.low, q.Port), max(s.high, q.Port)
	}
	return &s
}

// names are those of all that the holder of l listens on, which is read once for
// each holder; what cannot be read is not told.
func (s *Survey) names(ctx context.Context, l listeners.Listener) []string {
	who := holder{l.PID, l.Birth}
	if names, ok := s.known[who]; ok {
		return names
	}
	if s.known == nil {
		s.known = map[holder][]string{}
		s.table, _ = listeners.Sockets(ctx)
	}
	if p, err := process.Open(l.PID); err == nil {
		s.known[who] = pidcheck.Names(p, s.table)
		p.Close()
	}
	return s.known[who]
}

// holder is a process.
type holder struct {
	pid   int
	birth process.Birth
}

// question is how one asks about a port.
type question struct {
	listeners.Query
	flags []string
}

func (q question) killport(flags ...string) []string {
	return slices.Concat([]string{"killport"}, flags, q.flags, q.Args())
}

func (q question) portdiag() []string { return append([]string{"portdiag"}, q.Args()...) }

// about is how one asks about a listener, no wider than the question was: by its
// own address where one was asked for, or where others have the port at others.
func (s *Survey) about(l listeners.Listener, q listeners.Query, all []listeners.Listener) question {
	alone := l.Alone()
	if q.Addr.IsValid() && !alone.Addr.IsValid() || !q.Addr.IsValid() && !differ(all) {
		return question{q, s.flags}
	}
	return question{alone, s.flags}
}

// differ reports whether there are listeners at several addresses, and several
// holders.
func differ(all []listeners.Listener) bool {
	addrs, pids := map[string]bool{}, map[int]bool{}
	for _, l := range all {
		addrs[l.LocalAddr], pids[l.PID] = true, true
	}
	return len(addrs) > 1 && len(pids) > 1
}
