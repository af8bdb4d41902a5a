package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	user32        = windows.NewLazySystemDLL("user32.dll")
	postMessage   = user32.NewProc("PostMessageW")
	getWindow     = user32.NewProc("GetWindow")
	kernel32      = windows.NewLazySystemDLL("kernel32.dll")
	attachConsole = kernel32.NewProc("AttachConsole")
	freeConsole   = kernel32.NewProc("FreeConsole")
	onConsole     = kernel32.NewProc("GetConsoleProcessList")
	ignoreCtrlC   = kernel32.NewProc("SetConsoleCtrlHandler")
)

// terminate goes the way that the process can hear.
func (p *Pin) terminate(syscall.Signal) (string, error) {
	if err := p.mayTerminate(); err != nil {
		return "", err
	}
	if p.closeWindows() > 0 {
		return "WM_CLOSE", nil
	}
	if err := p.ctrlC(send); err != nil {
		return "", err
	}
	return "CTRL_C", nil
}

func (p *Pin) wouldSend(sig syscall.Signal) string {
	switch {
	case sig == syscall.SIGKILL:
	case len(topWindows(uint32(p.pid))) > 0:
		return "WM_CLOSE"
	case p.ctrlC(probe) == nil:
		return "CTRL_C"
	}
	return KillName()
}

// closeWindows posts WM_CLOSE to the windows of the process that a user sees,
// and returns to how many.
func (p *Pin) closeWindows() int {
	const wmClose = 0x10 // winuser.h
	closed := 0
	for _, window := range topWindows(uint32(p.pid)) {
		if ok, _, _ := postMessage.Call(uintptr(window), wmClose, 0, 0); ok != 0 {
			closed++
		}
	}
	return closed
}

// Go never frees a callback, so there is one for all.
var (
	enumMu sync.Mutex
	enumTo []windows.HWND
	enum   = sync.OnceValue(func() uintptr {
		return windows.NewCallback(func(window windows.HWND, _ uintptr) uintptr {
			enumTo = append(enumTo, window)
			return 1 // go on
		})
	})
)

func topWindows(pid uint32) []windows.HWND {
	enumMu.Lock()
	defer enumMu.Unlock()
	enumTo = nil
	_ = windows.EnumWindows(enum(), nil)
	var found []windows.HWND
	for _, window := range enumTo {
		var owner uint32
		if _, err := windows.GetWindowThreadProcessId(window, &owner); err == nil && owner == pid && asksUser(window) {
			found = append(found, window)
		}
	}
	return found
}

// asksUser reports whether the window is visible, is no other window's
// (a dialog), and no console: that is said to be of a process on it, while
// closing it ends all of them.
func asksUser(window windows.HWND) bool {
	const ownerOf = 4 // GW_OWNER of winuser.h
	if owner, _, _ := getWindow.Call(uintptr(window), ownerOf); owner != 0 || !windows.IsWindowVisible(window) {
		return false
	}
	class := make([]uint16, 256) // the longest name there can be
	n, err := windows.GetClassName(window, &class[0], int32(len(class)))
	if err != nil {
		return false
	}
	switch windows.UTF16ToString(class[:n]) {
	case "ConsoleWindowClass", "PseudoConsoleWindow":
		return false
	}
	return true
}

// helperVar makes a process that has this package in it the helper of
// another: it holds the PID to whose console CTRL_C is to be sent, and errand.
const helperVar = "KILLPORT_CTRL_C"

// errand is what the helper is to do.
type errand int

const (
	send  errand = iota
	probe        // say if it could be sent
)

// What the helper says by its exit code.
const (
	helperSent    = 10
	helperShared  = 11 // others are on the console
	helperNone    = 12 // the process has no console, or not one for us
	helperPatient = 2 * time.Second
)

// A process can be on one console only, and CTRL_C goes to all that are on it.
// So another process must attach to it: ourselves, a second time, without a
// console of its own. This is an init so that in no program that has this
// package in it the helper becomes anything else.
func init() {
	var target uint32
	var what errand
	if n, _ := fmt.Sscanf(os.Getenv(helperVar), "%d %d", &target, &what); n == 2 {
		os.Exit(help(target, what))
	}
}

// ctrlC sends CTRL_C to the console of the process if nobody is on it but the
// process and its descendants.
func (p *Pin) ctrlC(what errand) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotAsk, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), helperPatient)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", helperVar, p.pid, what))
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS, HideWindow: true}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case p.exited():
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("%w: %w", ErrCannotAsk, err)
	case exit.ExitCode() == helperSent:
		return nil
	case exit.ExitCode() == helperShared:
		return fmt.Errorf("%w: others are on its console", ErrCannotAsk)
	}
	return fmt.Errorf("%w: it has neither window nor console", ErrCannotAsk)
}

// help is what the helper does. Its parent keeps a handle open, so that the
// PID cannot become another's.
func help(target uint32, what errand) int {
	_, _, _ = freeConsole.Call()
	if ok, _, _ := attachConsole.Call(uintptr(target)); ok == 0 {
		return helperNone
	}
	if ok, _, _ := ignoreCtrlC.Call(0, 1); ok == 0 { // it comes to us as well
		return helperNone
	}
	all, err := entries()
	if err != nil {
		return helperNone
	}
	welcome := map[uint32]bool{target: true, uint32(os.Getpid()): true}
	for _, pid := range descendants(all, int(target)) {
		welcome[uint32(pid)] = true
	}
	present := consoleProcesses()
	if len(present) == 0 {
		return helperNone
	}
	for _, pid := range present {
		if !welcome[pid] {
			return helperShared
		}
	}
	if what == send && windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0) != nil {
		return helperNone
	}
	return helperSent
}

// consoleProcesses returns who is on our console, and nothing if that cannot be
// told: https://learn.microsoft.com/windows/console/getconsoleprocesslist
func consoleProcesses() []uint32 {
	for size := 64; size <= 1<<16; size *= 4 {
		pids := make([]uint32, size)
		n, _, _ := onConsole.Call(uintptr(unsafe.Pointer(&pids[0])), uintptr(size))
		if int(n) <= size {
			return pids[:n]
		}
	}
	return nil
}
