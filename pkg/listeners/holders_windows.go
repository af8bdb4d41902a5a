package listeners

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/killport/killport/pkg/process"
)

// holders believes the table, which names one process a socket, if that
// process can be it. Else the socket is a ghost: its holders, if there are any,
// have inherited it.
func holders(ctx context.Context, found []Socket) ([]Listener, error) {
	lines := make([]Listener, len(found))
	var ghosts []int
	for i, s := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l := s.Listener()
		l.PID, l.UID, l.User = int(s.PID), nil, "" // a socket is no user's, but its holder is
		owner, err := ownerOf(s)
		switch {
		case errors.Is(err, process.ErrGone):
			l.Owner = OwnerNone
			ghosts = append(ghosts, i)
		default: // on another error it is listed without a birth, and never killed
			l.Birth, l.User = owner.birth, owner.account
		}
		lines[i] = l
	}
	if len(ghosts) == 0 {
		return lines, nil
	}
	haunt(ctx, found, lines, ghosts)
	return settled(ctx, lines)
}

// lingerTime is how long a row may outlive the process that made it, and that
// nobody has inherited from.
const lingerTime = 500 * time.Millisecond

// settled leaves out what nobody has and goes by itself.
func settled(ctx context.Context, lines []Listener) ([]Listener, error) {
	lonely := func(l Listener) bool { return l.Owner == OwnerNone && len(l.Heirs) == 0 }
	for end := time.Now().Add(lingerTime); slices.ContainsFunc(lines, lonely) && time.Now().Before(end); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var queries []Query
		for _, l := range lines {
			queries = append(queries, l.Query())
		}
		now, err := Sockets(ctx, queries...)
		if err != nil {
			return nil, err
		}
		lines = slices.DeleteFunc(lines, func(l Listener) bool {
			return lonely(l) && !slices.ContainsFunc(now, func(s Socket) bool { return s.ID.Same(l.Socket) })
		})
	}
	return lines, nil
}

// owner is the process that the table names.
type owner struct {
	birth   process.Birth
	account string
}

// ownerOf says ErrGone if the process cannot have made the socket.
func ownerOf(s Socket) (o owner, err error) {
	if s.PID == 0 {
		return o, process.ErrGone
	}
	p, err := process.Open(int(s.PID))
	if err != nil {
		return o, err
	}
	defer p.Close()
	if err := mayHaveMade(p, s); err != nil {
		return o, err
	}
	o.account = p.Account()
	o.birth, err = p.Birth()
	return o, err
}

// mayHaveMade says ErrGone if the process was created after the bind: its PID
// was another's then. A time that is unknown says nothing; and the clock may have
// been set back between the two, so that a process which has the socket is its
// holder all the same.
func mayHaveMade(p *process.Pin, s Socket) error {
	info, err := p.Inspect()
	if err != nil {
		return err
	}
	bound := s.ID.boundAt().Time()
	if p.PID() == systemPID || bound.IsZero() || info.Started.IsZero() || !info.Started.After(bound) {
		return nil
	}
	if has, err := hasOpen(p, s); has && err == nil {
		return nil
	}
	return process.ErrGone
}

// systemPID is the kernel's, with http.sys, which no process has after it.
const systemPID = 4

// holds: a process has the socket if the table says so; and that of a ghost,
// if one of its handles leads to it.
func holds(p *process.Pin, l Listener) (bool, error) {
	now, err := Sockets(context.Background(), l.Query())
	if err != nil {
		return false, err
	}
	at := slices.IndexFunc(now, func(s Socket) bool { return s.ID.Same(l.Socket) })
	if at < 0 {
		return false, nil
	}
	_, err = ownerOf(now[at])
	switch {
	case errors.Is(err, process.ErrGone):
		return hasOpen(p, now[at])
	case err != nil:
		return false, err
	}
	return int(now[at].PID) == p.PID(), nil
}

// heldBy goes by the table.
func heldBy(p *process.Pin, among []Socket) ([]Socket, error) {
	var held []Socket
	for _, s := range among {
		if int(s.PID) == p.PID() {
			held = append(held, s)
		}
	}
	return held, nil
}

// unhide: the table hides nobody, but an administrator sees more of them.
func unhide(_ HiddenBy, command string) string { return "run it as administrator: " + command }

// showsBound: the tables of Windows have none of them.
func showsBound(context.Context) bool { return false }
