package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// MaxPID is the highest PID that there can be: a DWORD.
const MaxPID = 1<<32 - 1

// sys is a handle. As long as it is open Windows gives the PID to nobody else.
type sys struct {
	handle  windows.Handle // 0: access denied; then the process is known by its creation time alone
	rights  uint32
	created uint64 // FILETIME: 100 ns since 1601, UTC
}

const (
	inspectRights = windows.PROCESS_QUERY_LIMITED_INFORMATION
	waitRights    = inspectRights | windows.SYNCHRONIZE
	endRights     = waitRights | windows.PROCESS_TERMINATE
)

// open opens the one handle by which all is done, with as many rights as we
// may have.
func open(pid int) (*Pin, error) {
	if pid < 1 || uint64(pid) > MaxPID {
		return nil, fmt.Errorf("pid %d is not from 1 to %d", pid, uint64(MaxPID))
	}
	for _, rights := range []uint32{endRights, waitRights, inspectRights} {
		handle, err := openProcess(rights, uint32(pid))
		switch {
		case err == nil:
			return pinned(pid, sys{handle: handle, rights: rights})
		case errors.Is(err, windows.ERROR_INVALID_PARAMETER):
			return nil, ErrGone
		case !errors.Is(err, windows.ERROR_ACCESS_DENIED):
			return nil, fmt.Errorf("OpenProcess %d: %w", pid, err)
		}
	}
	entry, err := entryOf(pid)
	if err != nil {
		return nil, err
	}
	return &Pin{pid: pid, sys: sys{created: entry.created}}, nil
}

// openProcess uses the privilege of administrators if it takes that.
func openProcess(rights, pid uint32) (windows.Handle, error) {
	handle, err := windows.OpenProcess(rights, false, pid)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) && mayDebug() {
		return windows.OpenProcess(rights, false, pid)
	}
	return handle, err
}

// mayDebug enables SeDebugPrivilege, which an administrator has and which is
// not enabled at first: without it the processes of other users stay closed to
// administrators too.
var mayDebug = sync.OnceValue(func() bool {
	var token windows.Token
	err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ADJUST_PRIVILEGES|windows.TOKEN_QUERY, &token)
	if err != nil {
		return false
	}
	defer token.Close()
	return enable(token, "SeDebugPrivilege")
})

// enable reports whether the token has the privilege, which it enables. That a
// token has not got it is no error to Windows (ERROR_NOT_ALL_ASSIGNED with
// success), so the token is asked afterwards:
// https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-adjusttokenprivileges
func enable(token windows.Token, privilege string) bool {
	want := windows.Tokenprivileges{PrivilegeCount: 1}
	want.Privileges[0].Attributes = windows.SE_PRIVILEGE_ENABLED
	if windows.LookupPrivilegeValue(nil, windows.StringToUTF16Ptr(privilege), &want.Privileges[0].Luid) != nil ||
		windows.AdjustTokenPrivileges(token, false, &want, 0, nil, nil) != nil {
		return false
	}
	buf := make([]uint32, 1<<10) // there are less than 40, of 12 bytes each
	var n uint32
	if windows.GetTokenInformation(token, windows.TokenPrivileges, (*byte)(unsafe.Pointer(&buf[0])), uint32(4*len(buf)), &n) != nil {
		return false
	}
	has := (*windows.Tokenprivileges)(unsafe.Pointer(&buf[0])).AllPrivileges()
	return slices.ContainsFunc(has, func(p windows.LUIDAndAttributes) bool {
		return p.Luid == want.Privileges[0].Luid && p.Attributes&windows.SE_PRIVILEGE_ENABLED != 0
	})
}

func pinned(pid int, s sys) (*Pin, error) {
	// Windows ignores the lower two bits of a PID: 4243 opens 4240.
	id, err := windows.GetProcessId(s.handle)
	if err == nil && id != uint32(pid) {
		err = ErrGone
	}
	if err == nil {
		s.created, _, err = times(s.handle)
	}
	if err != nil {
		windows.CloseHandle(s.handle)
		return nil, err
	}
	return &Pin{pid: pid, sys: s}, nil
}

// times returns when a process was created and when it exited, 0 if it has not.
func times(handle windows.Handle) (created, exited uint64, err error) {
	var c, e, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(handle, &c, &e, &kernel, &user); err != nil {
		return 0, 0, os.NewSyscallError("GetProcessTimes", err)
	}
	number := func(t windows.Filetime) uint64 { return uint64(t.HighDateTime)<<32 | uint64(t.LowDateTime) }
	return number(c), number(e), nil
}

func (p *Pin) close() error {
	if p.handle == 0 {
		return nil
	}
	return windows.CloseHandle(p.handle)
}

func (p *Pin) exited() bool {
	switch {
	case p.rights&windows.SYNCHRONIZE != 0:
		event, err := windows.WaitForSingleObject(p.handle, 0)
		return err == nil && event == windows.WAIT_OBJECT_0
	case p.handle != 0:
		_, exited, err := times(p.handle)
		return err == nil && exited != 0
	}
	entry, err := entryOf(p.pid)
	return errors.Is(err, ErrGone) || err == nil && entry.created != p.created
}

func (p *Pin) exiting() bool { return p.exited() }

func (p *Pin) wait(ctx context.Context) error {
	if p.rights&windows.SYNCHRONIZE == 0 {
		return p.poll(ctx)
	}
	interrupted, err := windows.CreateEvent(nil, 1, 0, nil) // stays set once it is
	if err != nil {
		return os.NewSyscallError("CreateEvent", err)
	}
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = windows.SetEvent(interrupted)
		close(set)
	})
	event, err := windows.WaitForMultipleObjects([]windows.Handle{p.handle, interrupted}, false, windows.INFINITE)
	if !stop() {
		<-set
	}
	windows.CloseHandle(interrupted)
	switch {
	case err != nil:
		return os.NewSyscallError("WaitForMultipleObjects", err)
	case event == windows.WAIT_OBJECT_0:
		return nil
	}
	return context.Cause(ctx)
}

// poll is wait for a process on which we may not wait.
func (p *Pin) poll(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !p.exited() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// bornAt begins a birth of Windows. Its unit is 100 ns, but the kernel takes the
// time of creation from a clock that moves on with its tick, 0.5 to 15.6 ms
// (KeQuerySystemTime): one that gets the PID of another within the tick of that
// one's creation looks the same. As long as a handle is open nobody gets it.
// https://learn.microsoft.com/windows-hardware/drivers/ddi/wdm/nf-wdm-kequerysystemtime-r1
const bornAt = "filetime:"

func (p *Pin) birth() (Birth, error) {
	if p.exited() {
		return "", ErrGone
	}
	return Birth(bornAt + strconv.FormatUint(p.created, 10)), nil
}

func (p *Pin) mayTerminate() error {
	switch {
	case p.exited():
		return ErrGone
	case p.rights&windows.PROCESS_TERMINATE == 0:
		return ErrDenied
	}
	return nil
}

// exitCode is that of a process which was ended.
const exitCode = 1

func (p *Pin) kill() (string, error) {
	if err := p.mayTerminate(); err != nil {
		return "", err
	}
	if err := windows.TerminateProcess(p.handle, exitCode); err != nil {
		if p.exited() { // then Windows says that access is denied
			return "", ErrGone
		}
		return "", os.NewSyscallError("TerminateProcess", err)
	}
	return KillName(), nil
}

func (p *Pin) obstacle() Obstacle { return Obstacle{} }

// exe returns the path of the program, "" if we may not see it.
func (p *Pin) exe() string {
	buf := make([]uint16, windows.MAX_LONG_PATH)
	n := uint32(len(buf))
	if p.handle == 0 || windows.QueryFullProcessImageName(p.handle, 0, &buf[0], &n) != nil {
		return ""
	}
	return windows.UTF16ToString(buf[:n])
}

// system32 returns the path of a program of Windows, in lower case.
func system32(name string) string {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		dir = `C:\Windows\System32`
	}
	return strings.ToLower(dir + `\` + name)
}
