package process

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The PIDs of the kernel.
const systemPID = 4

// system are the programs without which Windows stops, all in System32.
var system = []string{"csrss.exe", "lsass.exe", "services.exe", "smss.exe", "wininit.exe"}

func protect(p *Pin, info Info) (Protection, error) {
	switch {
	case p.pid <= systemPID || info.Kernel:
		return ProtectedKernel, nil
	case p.pid == os.Getpid():
		return ProtectedSelf, nil
	case isSystem(info) || p.critical() || hostsMany(info, services):
		return ProtectedSystem, nil
	}
	if ancestor, err := isAncestor(p.pid); err != nil || ancestor {
		return ProtectedAncestor, err
	}
	if info.servesMany() {
		return ProtectedShared, nil
	}
	return "", nil
}

func inPipeline(int) (bool, error) { return false, nil }

// isSystem goes by the full path; by the name if we may not see the path.
func isSystem(info Info) bool {
	name := strings.ToLower(info.Name)
	if !slices.Contains(system, name) {
		return false
	}
	return info.Exe == "" || strings.EqualFold(info.Exe, system32(name))
}

// hostsMany reports whether the process is a svchost with more than one
// service, or with as many as we may not know: in a session that is not
// interactive it takes an administrator to list them.
func hostsMany(info Info, services func(pid int) ([]Service, error)) bool {
	if info.Program() != "svchost" {
		return false
	}
	hosted, err := services(info.PID)
	return err != nil || len(hosted) > 1
}

var isProcessCritical = windows.NewLazySystemDLL("kernel32.dll").NewProc("IsProcessCritical")

// critical reports whether Windows stops when the process ends (since 8.1):
// https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-isprocesscritical
func (p *Pin) critical() bool {
	if p.handle == 0 || isProcessCritical.Find() != nil {
		return false
	}
	var critical int32
	ok, _, _ := isProcessCritical.Call(uintptr(p.handle), uintptr(unsafe.Pointer(&critical)))
	return ok != 0 && critical != 0
}

func isAncestor(pid int) (bool, error) {
	all, err := entries()
	if err != nil {
		return false, err
	}
	return isAncestorOf(all, pid, os.Getpid()), nil
}

func isAncestorOf(all map[int]entry, pid, child int) bool {
	at := all[child]
	for range len(all) { // a circle cannot be, and would be the kernel's fault
		parent, ok := parentOf(all, at)
		if !ok || parent.pid == pid {
			return ok
		}
		at = parent
	}
	return false
}

// descendants are the kin of a process that lives: who is older than it was
// created by another that had its PID.
func descendants(all map[int]entry, pid int) []int {
	e, ok := all[pid]
	if !ok {
		return []int{}
	}
	return kinAmong(all, pid, fileTime(e.created))
}

// kinAmong is kin among all processes.
func kinAmong(all map[int]entry, pid int, since time.Time) []int {
	var found []entry
	line := map[int]bool{}
	byBirth := func(a, b entry) int { return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.pid, b.pid)) }
	var everybody []entry
	for _, e := range all {
		everybody = append(everybody, e)
	}
	slices.SortFunc(everybody, byBirth)
	for _, e := range everybody {
		_, hasParent := parentOf(all, e)
		orphan := e.ppid == pid && e.pid != pid && !fileTime(e.created).Before(since)
		if orphan || hasParent && line[e.ppid] {
			line[e.pid] = true
			found = append(found, e)
		}
	}
	pids := []int{}
	for _, e := range found {
		pids = append(pids, e.pid)
	}
	return pids
}
