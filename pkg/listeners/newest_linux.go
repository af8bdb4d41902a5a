package listeners

import (
	"context"
	"time"

	"github.com/killport/killport/pkg/process"
)

// How long and how often the newest processes are looked at. A look costs 10 to
// 50 µs for each of them. Where others have the processors, a time alone is not
// enough.
const (
	newestTime  = 20 * time.Millisecond
	newestLooks = 40
	newestLimit = 250 * time.Millisecond
	newestPause = 100 * time.Microsecond
	behind      = 8 // are looked at once more: who has ended, and who has a number and is not in /proc yet (copy_process, kernel/fork.c)
)

// amongNewest looks for holders that hand a socket on to a child faster than all
// processes can be looked at: for a moment, at those that were born since the
// walk began.
func amongNewest(ctx context.Context, left []Socket, since int, named map[ID][]Listener) []Socket {
	began := time.Now()
	for looks := 0; len(left) > 0 && ctx.Err() == nil; looks++ {
		if took := time.Since(began); took > newestTime && looks > newestLooks || took > newestLimit {
			break
		}
		pids := process.Newcomers(since)
		for _, l := range Among(pids, left) {
			named[l.Socket] = append(named[l.Socket], l)
		}
		left = without(left, named)
		if len(pids) > 0 {
			since = pids[len(pids)-1] - behind
		}
		time.Sleep(newestPause)
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
	want, v := inodes(found), view{held: map[int]fds{}, passedOn: fds{}}
	for _, pid := range pids {
		if held, _ := lookAtProcesses(pid, want); len(held) > 0 {
			v.held[pid] = held
		}
	}
	named := map[ID][]Listener{}
	v.identify(found, named)
	var lines []Listener
	for _, s := range found {
		lines = append(lines, named[s.ID]...)
	}
	return lines
}
