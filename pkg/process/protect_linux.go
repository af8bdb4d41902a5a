package process

import (
	"errors"
	"os"
	"strings"

	"github.com/killport/killport/internal/procfs"
)

func protect(p *Pin, info Info) (Protection, error) {
	switch {
	case visible() != nil:
		return ProtectedNamespace, nil
	case p.pid <= 1:
		return ProtectedInit, nil
	case info.Kernel:
		return ProtectedKernel, nil
	case p.pid == os.Getpid():
		return ProtectedSelf, nil
	}
	if neighbour, err := inPipeline(p.pid, info.Group); err != nil || neighbour {
		return ProtectedPipeline, err
	}
	if ancestor, err := isAncestor(p.pid); err != nil || ancestor {
		return ProtectedAncestor, err
	}
	if info.servesMany() {
		return ProtectedShared, nil
	}
	return "", nil
}

// isAncestor reports whether pid is our parent, or its parent, and so on.
func isAncestor(pid int) (bool, error) {
	for at := os.Getppid(); at > 0; {
		if at == pid {
			return true, nil
		}
		stat, err := readStat(at)
		// It ended just now, or it is hidden from us (hidepid, proc(5)), as is
		// every other user's: that is the end of the line, too.
		if err == ErrGone || errors.Is(err, ErrDenied) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		at = stat.PPID
	}
	return false, nil
}

func readStat(pid int) (procfs.Stat, error) {
	return (&Pin{pid: pid}).stat()
}

// inPipeline reports whether pid, of the given process group, feeds our stdin
// or reads our stdout, at first hand or through others. The members of a
// pipeline have one process group, but so have all the processes of a script,
// and what they print may go down the same pipe as ours: only who stands
// before or behind us in it is a neighbour.
func inPipeline(pid, group int) (bool, error) {
	if readPipeEnds(os.Getpid()) == (pipeEnds{}) {
		return false, nil
	}
	self, err := readStat(os.Getpid())
	if err != nil || group != self.PGRP {
		return false, err
	}
	ends := map[int]pipeEnds{}
	for _, member := range groupMembers(group) {
		ends[member] = readPipeEnds(member)
	}
	before := func(at, other pipeEnds) bool { return at.in != "" && at.in == other.out }
	behind := func(at, other pipeEnds) bool { return at.out != "" && at.out == other.in }
	return reaches(ends, self.PID, pid, before) || reaches(ends, self.PID, pid, behind), nil
}

// reaches reports whether a row of processes, each related to the one before
// it, leads from one to another.
func reaches(ends map[int]pipeEnds, from, to int, related func(at, other pipeEnds) bool) bool {
	seen := map[int]bool{from: true}
	for next := []int{from}; len(next) > 0; next = next[1:] {
		for other := range ends {
			if !seen[other] && related(ends[next[0]], ends[other]) {
				seen[other] = true
				next = append(next, other)
			}
		}
	}
	return seen[to]
}

func groupMembers(group int) []int {
	all, _ := all()
	var pids []int
	for _, pid := range all {
		if stat, err := readStat(pid); err == nil && stat.PGRP == group {
			pids = append(pids, pid)
		}
	}
	return pids
}

// pipeEnds are the pipes that a process reads from as its stdin and writes to
// as its stdout: "pipe:[1234]" (pipe(7)).
type pipeEnds struct{ in, out string }

func readPipeEnds(pid int) pipeEnds {
	return pipeEnds{in: pipeName(pid, "0"), out: pipeName(pid, "1")}
}

func pipeName(pid int, fd string) string {
	name, err := os.Readlink((&Pin{pid: pid}).path("fd/" + fd))
	if err != nil || !strings.HasPrefix(name, "pipe:") {
		return ""
	}
	return name
}
