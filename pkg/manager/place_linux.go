package manager

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/listeners"
)

func unitOf(pid int) string {
	groups, err := readCgroups(strconv.Itoa(pid))
	u, ok := groups.unit()
	if err != nil || !ok {
		return ""
	}
	return u.name
}

func socketUnitOf(ctx context.Context, l listeners.Listener) *Manager {
	b, err := busOf(unit{})
	if err != nil {
		return nil
	}
	return b.socketUnit(ctx, l)
}

// inFirstNetwork reports whether a socket is in the network namespace of PID 1,
// where systemd and the engines listen. Who may see PID 1 may read its table
// (get_proc_task_net, fs/proc/proc_net.c).
func inFirstNetwork(s listeners.Socket) (found bool) {
	table := "/proc/1/net/" + strings.ToLower(string(s.Proto))
	for _, name := range []string{table, table + "6"} {
		f, err := os.Open(name)
		if err != nil {
			continue // there is no IPv6, or no PID 1 for us
		}
		_ = procfs.ParseNet(f, func(other procfs.NetSocket) { found = found || other.Inode == s.ID.Inode })
		f.Close()
	}
	return found
}
