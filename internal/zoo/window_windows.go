package main

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	user32         = windows.NewLazySystemDLL("user32.dll")
	registerClass  = user32.NewProc("RegisterClassW")
	createWindow   = user32.NewProc("CreateWindowExW")
	windowByItself = user32.NewProc("DefWindowProcW")
	getMessage     = user32.NewProc("GetMessageW")
	dispatch       = user32.NewProc("DispatchMessageW")
	postQuit       = user32.NewProc("PostQuitMessage")
)

// wndClass is WNDCLASSW: https://learn.microsoft.com/windows/win32/api/winuser/ns-winuser-wndclassw
type wndClass struct {
	style                              uint32
	proc                               uintptr
	classExtra, extra                  int32
	instance, icon, cursor, background uintptr
	menu, name                         *uint16
}

func window(c *call) error {
	runtime.LockOSThread() // a window is its thread's
	if err := openWindow(func() error { return c.mark("closed") }); err != nil {
		return err
	}
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	if err := c.announce(r); err != nil {
		return err
	}
	var msg [64]byte // a MSG takes 48
	for {
		more, _, _ := getMessage.Call(uintptr(unsafe.Pointer(&msg[0])), 0, 0, 0)
		if int32(more) <= 0 {
			return nil
		}
		_, _, _ = dispatch.Call(uintptr(unsafe.Pointer(&msg[0])))
	}
}

// openWindow has closed called, and its thread's loop of messages end, when the window is closed.
func openWindow(closed func() error) error {
	const wmClose, visible = 0x10, 0x10CF0000 // WS_VISIBLE | WS_OVERLAPPEDWINDOW of winuser.h
	name, err := windows.UTF16PtrFromString("killport zoo")
	if err != nil {
		return err
	}
	class := wndClass{name: name, proc: windows.NewCallback(func(w windows.HWND, msg uint32, a, b uintptr) uintptr {
		if msg == wmClose {
			_ = closed()
			_, _, _ = postQuit.Call(0)
			return 0
		}
		r, _, _ := windowByItself.Call(uintptr(w), uintptr(msg), a, b)
		return r
	})}
	if atom, _, err := registerClass.Call(uintptr(unsafe.Pointer(&class))); atom == 0 {
		return os.NewSyscallError("RegisterClass", err)
	}
	w, _, err := createWindow.Call(0, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(name)), visible, 0, 0, 100, 100, 0, 0, 0, 0)
	if w == 0 {
		return os.NewSyscallError("CreateWindowEx", err)
	}
	return nil
}
