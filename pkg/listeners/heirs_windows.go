package listeners

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/killport/killport/pkg/process"
)

// The search for heirs is bounded, as a whole and in each process, and so is the
// look into the one that is to be ended.
const (
	heirsWait   = 2 * time.Second
	handlesWait = 500 * time.Millisecond
	verifyWait  = 5 * time.Second
)

// haunt names the heirs of the ghosts among lines.
func haunt(ctx context.Context, found []Socket, lines []Listener, ghosts []int) {
	ctx, cancel := context.WithTimeout(ctx, heirsWait)
	defer cancel()
	table, err := readHandles()
	if err != nil {
		return
	}
	seen := map[int][]openSocket{} // by PID
	for _, i := range ghosts {
		for _, candidates := range [][]int{kin(found[i]), everybody()} {
			for _, pid := range candidates {
				if _, known := seen[pid]; !known && ctx.Err() == nil {
					seen[pid] = table.socketsSoon(ctx, pid)
				}
				if leads(seen[pid], found[i]) && !listensItself(pid, lines, found[i].Local.Port()) {
					lines[i].Heirs = append(lines[i].Heirs, heir(pid))
				}
			}
			if len(lines[i].Heirs) > 0 {
				break
			}
		}
	}
}

// listensItself reports whether the process has made a listener of its own on
// the port: then that, on IPv6 for one, may be what was found.
func listensItself(pid int, lines []Listener, port uint16) bool {
	return slices.ContainsFunc(lines, func(l Listener) bool {
		return l.Owner == "" && l.PID == pid && l.LocalPort == port
	})
}

// kin are those that can have inherited the socket from the process in the
// table. Nobody but a child inherits; but where its own parent has ended, a
// grandchild cannot be told from a stranger.
func kin(s Socket) []int {
	if s.PID == 0 {
		return nil
	}
	pids, _ := process.Kin(int(s.PID), s.ID.boundAt().Time())
	return pids
}

func everybody() []int {
	pids, _ := process.All()
	slices.Sort(pids)
	return slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() || pid <= systemPID })
}

func heir(pid int) Heir {
	h := Heir{PID: pid}
	p, err := process.Open(pid)
	if err != nil {
		return h
	}
	defer p.Close()
	info, _ := p.Inspect()
	h.Name = info.Name
	h.Birth, _ = p.Birth()
	return h
}

// hasOpen reports whether one of the process's handles leads to the socket.
func hasOpen(p *process.Pin, s Socket) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), verifyWait)
	defer cancel()
	table, err := readHandles()
	if err != nil {
		return false, err
	}
	open, err := table.sockets(ctx, p.PID())
	switch {
	case p.Exited():
		return false, process.ErrGone
	case leads(open, s):
		return true, nil
	}
	return false, err
}

// leads reports whether one of the open sockets is s: a connection that was
// accepted has the address of its listener, and a UDP socket may have that of a
// TCP one. No zone is told; and what listens on IPv6 may be in the table of IPv4
// as well.
func leads(open []openSocket, s Socket) bool {
	want := s.Local.Addr().WithZone("").Unmap()
	return slices.ContainsFunc(open, func(o openSocket) bool {
		at := o.local.Addr().Unmap()
		both := at.IsUnspecified() && want.IsUnspecified()
		return o.is(s.Proto) && o.local.Port() == s.Local.Port() && (both || at == want)
	})
}
