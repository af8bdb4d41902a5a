package listeners

import (
	"context"
	"time"

	"github.com/killport/killport/pkg/process"
)

// How often and for how long the newest processes are looked at. One costs 10 to
// 50 µs.
const (
	newestPause = 100 * time.Microsecond
	newestTime  = 20 * time.Millisecond
	behind      = 8 // are looked at once more: who has ended, and who was just born
)

// amongNewest looks for holders that hand a socket on to a child faster than all
// processes can be looked at: for a moment, at those that were born since the
// walk began.
func amongNewest(ctx context.Context, left []Socket, since int, named map[ID][]Listener) []Socket {
	for end := time.Now().Add(newestTime); len(left) > 0 && time.Now().Before(end) && ctx.Err() == nil; time.Sleep(newestPause) {
		pids := process.Newcomers(since)
		for _, l := range Among(pids, left) {
			named[l.Socket] = append(named[l.Socket], l)
		}
		left = without(left, named)
		if len(pids) > 0 {
			since = pids[len(pids)-1] - behind
		}
	}
	return left
}

// without returns the sockets that have no holder.
func without(found []Socket, named map[ID][]Listener) []Socket {
	var left []Socket
	for _, s := range found {
		if len(named[s.ID]) == 0 {
			left = append(left, s)
		}
	}
	return left
}

func among(pids []int, found []Socket) []Listener {
	want, seen := inodes(found), map[int]fds{}
	for _, pid := range pids {
		if held, _ := lookAtProcesses(pid, want); len(held) > 0 {
			seen[pid] = held
		}
	}
	named := map[ID][]Listener{}
	identify(found, seen, named)
	var lines []Listener
	for _, s := range found {
		lines = append(lines, named[s.ID]...)
	}
	return lines
}
