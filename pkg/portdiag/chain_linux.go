package portdiag

import (
	"os"
	"strconv"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// why follows a listener to what started it.
func why(l Listener) []Link {
	const longest = 32
	links := []Link{{Kind: LinkSocket, Name: l.Addr()}}
	terminal := ""
	for pid := l.PID; pid > 0 && len(links) < longest; {
		info, err := process.Look(pid)
		if err != nil {
			break
		}
		links = append(links, Link{Kind: LinkProcess, Name: info.Name, PID: pid})
		if pid == l.PID {
			terminal = terminalOf(pid)
		}
		pid = info.PPID
	}
	if terminal != "" {
		links = append(links, Link{Kind: LinkTerminal, Name: terminal})
	}
	if m := l.Check.ManagedBy; m != nil && m.Kind == manager.Container {
		return append(links, Link{Kind: LinkContainer, Name: m.Name})
	}
	if unit := manager.UnitOf(l.PID); unit != "" {
		links = append(links, Link{Kind: LinkUnit, Name: unit})
	}
	return links
}

func terminalOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	stat, err := procfs.ParseStat(b)
	if err != nil {
		return ""
	}
	return terminalName(stat.TTY)
}
