package process

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// isAncestor reports whether pid is our parent, or its parent, and so on.
// Where the line is cut, what pid has started tells, as far as we see it.
func isAncestor(pid int) (bool, error) {
	line, cut, err := ancestors()
	switch {
	case err != nil:
		return false, err
	case slices.Contains(line, pid):
		return true, nil
	case cut == 0:
		return false, nil
	}
	return leadsTo(pid, cut)
}

// ancestors are our parent, its parent, and so on. If nobody tells us who the
// parent of one is, the line ends with that one, which is cut then; else cut is 0.
func ancestors() (line []int, cut int, err error) {
	const looks = 10 // one that ends meanwhile leaves its children to another
	for range looks {
		if line, cut, err = lookUp(); !errors.Is(err, ErrGone) {
			return line, cut, err
		}
	}
	return nil, 0, errors.New("our ancestors end faster than they can be looked at")
}

func lookUp() (line []int, cut int, err error) {
	for at := os.Getppid(); at > 0; {
		if slices.Contains(line, at) { // its PID has changed hands meanwhile
			return nil, 0, ErrGone
		}
		line = append(line, at)
		if at == 1 {
			break
		}
		parent, err := parentOf(at)
		if errors.Is(err, ErrDenied) {
			return line, at, nil
		}
		if err != nil {
			return nil, 0, err
		}
		at = parent
	}
	return line, 0, nil
}

// parentOf reads who started a process. Of one that /proc hides (hidepid,
// proc(5)) the kernel tells it by a pidfd, from 6.13 on; before that, it is
// [ErrDenied].
func parentOf(pid int) (int, error) {
	stat, err := readStat(pid)
	if err == nil || err != ErrGone && !errors.Is(err, ErrDenied) {
		return stat.PPID, err
	}
	p, err := open(pid)
	if err != nil {
		return 0, err
	}
	defer p.close()
	return p.parent()
}

// parent asks by PIDFD_GET_INFO (include/uapi/linux/pidfd.h, Linux 6.13), which
// takes no permission and gives the PID as our namespace has it. It is ESRCH of
// one whose parent is outside of that (pidfd_info of fs/pidfs.c).
func (p *Pin) parent() (ppid int, err error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID}
	cerr := p.conn.Control(func(fd uintptr) {
		_, err = retry(func() (int, error) { return 0, unix.IoctlPidfdInfo(int(fd), &info) })
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case p.exited():
		return 0, ErrGone
	case err != nil || info.Mask&unix.PIDFD_INFO_PID == 0:
		return 0, fmt.Errorf("parent of %d: %w", p.pid, ErrDenied)
	}
	return int(info.Ppid), nil
}

// leadsTo reports whether a process has started one that is hidden from us, at
// first hand or through others. Through others that are hidden as well, it
// cannot be told.
func leadsTo(pid, hidden int) (bool, error) {
	told := true
	for next, seen := []int{pid}, map[int]bool{pid: true}; len(next) > 0; next = next[1:] {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%[1]d/children", next[0])); err != nil {
			told = false // it is hidden, or the kernel keeps no such lists
		}
		for _, child := range children(next[0]) {
			if child == hidden {
				return true, nil
			}
			if !seen[child] {
				seen[child] = true
				next = append(next, child)
			}
		}
	}
	if !told {
		return false, ErrCutOff
	}
	return false, nil
}
