package process

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// entry is what the kernel tells everybody of a process.
type entry struct {
	pid     int
	ppid    int // of who created it, which may have ended: see parentOf
	name    string
	created uint64
}

// entries asks for SystemProcessInformation, which takes no rights:
// https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntquerysysteminformation
func entries() (map[int]entry, error) {
	buf, err := systemInformation(windows.SystemProcessInformation)
	if err != nil {
		return nil, err
	}
	all := map[int]entry{}
	for at := uint32(0); int(at)+int(unsafe.Sizeof(windows.SYSTEM_PROCESS_INFORMATION{})) <= len(buf); {
		p := (*windows.SYSTEM_PROCESS_INFORMATION)(unsafe.Pointer(&buf[at]))
		e := entry{
			pid: int(p.UniqueProcessID), ppid: int(p.InheritedFromUniqueProcessID),
			created: uint64(p.CreateTime),
		}
		if p.ImageName.Buffer != nil {
			e.name = p.ImageName.String()
		}
		all[e.pid] = e
		if p.NextEntryOffset == 0 {
			break
		}
		at += p.NextEntryOffset
	}
	return all, nil
}

// systemInformation asks until the buffer is large enough. What has not grown
// beyond the limit by then is no table of this world.
func systemInformation(class int32) ([]byte, error) {
	const limit = 1 << 28
	for size := uint32(1 << 18); size <= limit; {
		buf := make([]byte, size)
		var need uint32
		err := windows.NtQuerySystemInformation(class, unsafe.Pointer(&buf[0]), size, &need)
		if err == nil {
			return buf[:min(max(need, 1), size)], nil
		}
		if !errors.Is(err, windows.STATUS_INFO_LENGTH_MISMATCH) {
			return nil, fmt.Errorf("NtQuerySystemInformation %d: %w", class, err)
		}
		size = max(2*size, need+need/4)
	}
	return nil, fmt.Errorf("NtQuerySystemInformation %d: more than %d bytes", class, limit)
}

// entryOf says ErrGone if there is no such process.
func entryOf(pid int) (entry, error) {
	all, err := entries()
	if err != nil {
		return entry{}, err
	}
	e, ok := all[pid]
	if !ok {
		return e, ErrGone
	}
	return e, nil
}

// parentOf returns the process that created e, if it is still there: a process
// that is younger than its child only has the PID of the parent.
func parentOf(all map[int]entry, e entry) (entry, bool) {
	parent, ok := all[e.ppid]
	return parent, ok && parent.pid != e.pid && parent.created <= e.created
}

func (p *Pin) inspect() (Info, error) {
	all, err := entries()
	if err != nil {
		return Info{}, err
	}
	e, ok := all[p.pid]
	if !ok || e.created != p.created || p.exited() {
		return Info{}, ErrGone
	}
	info := Info{PID: p.pid, Name: e.name, Exe: p.exe(), Started: fileTime(p.created), Kernel: p.pid == systemPID}
	if parent, ok := parentOf(all, e); ok {
		info.PPID = parent.pid
	}
	if info.Name == "" && info.Exe != "" {
		info.Name = path.Base(strings.ReplaceAll(info.Exe, `\`, "/"))
	}
	info.Argv, info.Truncated = p.argv()
	return info, nil
}

// argv reads the command line, since Windows 8.1 without reading in the memory
// of the process (ProcessCommandLineInformation).
func (p *Pin) argv() ([]string, bool) {
	if p.handle == 0 {
		return nil, false
	}
	buf := make([]byte, int(unsafe.Sizeof(windows.NTUnicodeString{}))+1<<16+2) // the longest that there can be
	var n uint32
	err := windows.NtQueryInformationProcess(p.handle, windows.ProcessCommandLineInformation, unsafe.Pointer(&buf[0]), uint32(len(buf)), &n)
	line := (*windows.NTUnicodeString)(unsafe.Pointer(&buf[0]))
	if err != nil || line.Buffer == nil || line.Length == 0 {
		return nil, false
	}
	argv, err := windows.DecomposeCommandLine(line.String())
	if err != nil {
		return nil, false
	}
	size := 0
	for i, arg := range argv {
		if size += len(arg) + 1; size > MaxArgv {
			return argv[:i], true
		}
	}
	return argv, false
}

func fileTime(t uint64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	ft := windows.Filetime{LowDateTime: uint32(t), HighDateTime: uint32(t >> 32)}
	return time.Unix(0, ft.Nanoseconds()).UTC()
}

// visible: there is one world of PIDs.
func visible() error { return nil }

func all() ([]int, error) {
	known, err := entries()
	var pids []int
	for pid := range known {
		pids = append(pids, pid)
	}
	return pids, err
}

func mayTraceAll() bool { return windows.GetCurrentProcessToken().IsElevated() && mayDebug() }

func kin(pid int, since time.Time) ([]int, error) {
	all, err := entries()
	if err != nil {
		return nil, err
	}
	return kinAmong(all, pid, since), nil
}

func born(parents []int, since Moment) []int {
	all, err := entries()
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range all {
		if slices.Contains(parents, e.ppid) && Moment(e.created) >= since {
			pids = append(pids, e.pid)
		}
	}
	return pids
}

func now() Moment {
	var t windows.Filetime
	windows.GetSystemTimeAsFileTime(&t)
	return Moment(t.HighDateTime)<<32 | Moment(t.LowDateTime)
}

func bootID() (string, error) { return "", errors.ErrUnsupported }

// newest: Windows gives PIDs away in no order.
func newest() int { return 0 }

// hold is not needed: Windows knows no fork, and what starts others takes longer than
// a look at all processes.
func (p *Pin) hold(time.Duration) error { return errors.ErrUnsupported }
func (p *Pin) resume() error            { return nil }

func outermost() bool { return true }

func isolated() []string { return nil }
