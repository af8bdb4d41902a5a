package suite_test

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// soft and hard are what records say of terminating, where it goes by the
// console, and of killing.
const soft, hard = "CTRL_C", "TerminateProcess"

// errNoProcess is what pinned says of a PID that is nobody's.
var errNoProcess error = windows.ERROR_INVALID_PARAMETER

// console: each of the zoo has one of its own, so that Ctrl+C reaches nobody
// else.
var console = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_CONSOLE, HideWindow: true}

// pin is a handle: whatever becomes of the PID, it stays the process.
type pin windows.Handle

// pinned gives a pin without the right to kill where that is denied.
func pinned(pid int) (pin, error) {
	handle, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err == windows.ERROR_ACCESS_DENIED {
		handle, err = windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	}
	return pin(handle), err
}

func (p pin) ended() bool {
	event, err := windows.WaitForSingleObject(windows.Handle(p), 0)
	return event == windows.WAIT_OBJECT_0 && err == nil
}

// wake: no process is stopped here.
func (p pin) wake()  {}
func (p pin) kill()  { _ = windows.TerminateProcess(windows.Handle(p), 1) }
func (p pin) close() { windows.CloseHandle(windows.Handle(p)) }
