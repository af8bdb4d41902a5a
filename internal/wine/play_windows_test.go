package wine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// roleVar names the role that this binary plays instead of running tests, and
// markVar a file for it to write to when it was asked to end.
const (
	roleVar = "KILLPORT_TEST_ROLE"
	addrVar = "KILLPORT_TEST_ADDR"
	markVar = "KILLPORT_TEST_MARK"
	runVar  = "KILLPORT_TEST_RUN" // a command for a role to run
)

var roles = map[string]func(){
	"serve":    func() { announce(listen()); select {} },
	"stubborn": func() { signal.Notify(make(chan os.Signal, 1), os.Interrupt); announce(listen()); select {} },
	"polite":   polite,
	"denied":   func() { denyAll(); announce(listen()); select {} },
	"window":   window,
	"parent":   parent,
	"heir":     func() { select {} },
	"service":  service,
	"runner":   runner,
	"pair":     pair,
	"udp":      datagrams,
}

func TestMain(m *testing.M) {
	play, ok := roles[os.Getenv(roleVar)]
	if !ok && len(os.Args) == 3 && os.Args[1] == "service" { // as the service control manager starts it
		os.Setenv(markVar, os.Args[2])
		play, ok = service, true
	}
	if !ok {
		os.Exit(m.Run())
	}
	time.AfterFunc(time.Minute, func() { os.Exit(0) })
	play()
}

// ready is the line that a role prints when it listens.
type ready struct {
	PID   int    `json:"pid"`
	Port  int    `json:"port"`
	Addr  string `json:"addr"`
	Heir  int    `json:"heir,omitempty"`  // or another child
	Child int    `json:"child,omitempty"` // the port of that
}

func listen() *net.TCPListener {
	addr := os.Getenv(addrVar)
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		fail(err)
	}
	// Wine's table names the owner of a listener only after this.
	control(l.(*net.TCPListener), func(s syscall.Handle) {
		_, _ = syscall.GetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	})
	return l.(*net.TCPListener)
}

func control(l *net.TCPListener, f func(syscall.Handle)) {
	c, err := l.SyscallConn()
	if err == nil {
		err = c.Control(func(s uintptr) { f(syscall.Handle(s)) })
	}
	if err != nil {
		fail(err)
	}
}

// kept holds listeners that the garbage collector would close.
var kept []net.Listener

func announce(l *net.TCPListener, heir ...int) {
	kept = append(kept, l)
	r := ready{PID: os.Getpid(), Port: l.Addr().(*net.TCPAddr).Port, Addr: l.Addr().String()}
	if len(heir) > 0 {
		r.Heir = heir[0]
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		fail(err)
	}
}

func mark(word string) {
	if file := os.Getenv(markVar); file != "" {
		if err := os.WriteFile(file, []byte(word), 0o600); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// polite ends when it is interrupted.
func polite() {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	announce(listen())
	<-interrupted
	mark("interrupted")
}

// pair listens and has a child that does, both polite, both on one console.
func pair() {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), roleVar+"=polite", markVar+"="+os.Getenv(markVar)+".child")
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	var r ready
	if err == nil {
		err = json.NewDecoder(out).Decode(&r)
	}
	if err != nil {
		fail(err)
	}
	l := listen()
	kept = append(kept, l)
	r = ready{PID: os.Getpid(), Port: l.Addr().(*net.TCPAddr).Port, Heir: r.PID, Child: r.Port}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		fail(err)
	}
	<-interrupted
	mark("interrupted")
	_ = child.Wait()
}

// runner has pkill2 look at the records that it is given in a file.
func runner() {
	announce(listen())
	in := os.Getenv(markVar) + ".in"
	var b []byte
	for len(b) == 0 {
		time.Sleep(10 * time.Millisecond)
		b, _ = os.ReadFile(in)
	}
	cmd := exec.Command(os.Getenv(runVar))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), os.Stderr
	out, err := cmd.Output()
	if len(out) == 0 {
		fail(err)
	}
	mark(string(out))
	select {}
}

// denyAll takes all rights on this process from everybody.
func denyAll() {
	nothing, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{{
		AccessPermissions: windows.SYNCHRONIZE, AccessMode: windows.GRANT_ACCESS,
		Trustee: windows.TRUSTEE{
			TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeType: windows.TRUSTEE_IS_USER,
			TrusteeValue: windows.TrusteeValueFromSID(nobody()),
		},
	}}, nil)
	if err == nil {
		err = windows.SetSecurityInfo(windows.CurrentProcess(), windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, nothing, nil)
	}
	if err != nil {
		fail(err)
	}
}

func nobody() *windows.SID {
	sid, err := windows.CreateWellKnownSid(windows.WinNullSid)
	if err != nil {
		fail(err)
	}
	return sid
}

// parent leaves its listener to a child that does nothing with it.
func parent() {
	l := listen()
	exe, err := os.Executable()
	if err != nil {
		fail(err)
	}
	heir := exec.Command(exe)
	heir.Env = append(os.Environ(), roleVar+"=heir")
	control(l, func(s syscall.Handle) {
		if err := windows.SetHandleInformation(windows.Handle(s), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
			fail(err)
		}
		heir.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: []syscall.Handle{s}}
	})
	if err := heir.Start(); err != nil {
		fail(err)
	}
	announce(l, heir.Process.Pid)
	os.Exit(0)
}

// window has a window, and ends when that is closed.
func window() {
	runtime.LockOSThread()
	user32 := windows.NewLazySystemDLL("user32.dll")
	def, quit := user32.NewProc("DefWindowProcW"), user32.NewProc("PostQuitMessage")
	const wmClose, visible = 0x10, 0x10CF0000 // WS_VISIBLE | WS_OVERLAPPEDWINDOW
	class, err := windows.UTF16PtrFromString("killport test")
	if err != nil {
		fail(err)
	}
	wndClass := struct {
		style                              uint32
		proc                               uintptr
		classExtra, extra                  int32
		instance, icon, cursor, background uintptr
		menu, name                         *uint16
	}{name: class, proc: windows.NewCallback(func(w windows.HWND, msg uint32, a, b uintptr) uintptr {
		if msg == wmClose {
			mark("closed")
			_, _, _ = quit.Call(0)
			return 0
		}
		r, _, _ := def.Call(uintptr(w), uintptr(msg), a, b)
		return r
	})}
	if atom, _, err := user32.NewProc("RegisterClassW").Call(uintptr(unsafe.Pointer(&wndClass))); atom == 0 {
		fail(err)
	}
	w, _, err := user32.NewProc("CreateWindowExW").Call(0, uintptr(unsafe.Pointer(class)), uintptr(unsafe.Pointer(class)),
		visible, 0, 0, 100, 100, 0, 0, 0, 0)
	if w == 0 {
		fail(err)
	}
	announce(listen())
	var msg [64]byte
	for {
		more, _, _ := user32.NewProc("GetMessageW").Call(uintptr(unsafe.Pointer(&msg[0])), 0, 0, 0)
		if int32(more) <= 0 {
			return
		}
		_, _, _ = user32.NewProc("DispatchMessageW").Call(uintptr(unsafe.Pointer(&msg[0])))
	}
}

// service is run by the service control manager, which gives it no stdout: the
// line goes to the file that is its argument.
func service() {
	if err := svc.Run("", stoppable{}); err != nil {
		fail(err)
	}
}

type stoppable struct{}

func (stoppable) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (bool, uint32) {
	l := listen()
	kept = append(kept, l)
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop}
	mark(fmt.Sprintf(`{"pid":%d,"port":%d}`, os.Getpid(), l.Addr().(*net.TCPAddr).Port))
	for r := range requests {
		switch r.Cmd {
		case svc.Interrogate:
			status <- r.CurrentStatus
		case svc.Stop:
			mark("stopped")
			status <- svc.Status{State: svc.StopPending}
			return false, 0
		}
	}
	return false, 0
}

// A cast is a process that plays a role.
type cast struct {
	ready
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	mark string
}

// start has a role played, until the test ends at the latest. With a console
// of its own if flags say so.
func start(t *testing.T, role string, flags uint32, env ...string) *cast {
	t.Helper()
	return startAs(t, os.Args[0], role, flags, env...)
}

// startAs is start for a copy of this program.
func startAs(t *testing.T, exe, role string, flags uint32, env ...string) *cast {
	t.Helper()
	c := &cast{done: make(chan struct{}), mark: filepath.Join(tempDir(t), "mark")}
	var err error
	for range 3 { // Wine: ERROR_INTERNAL_ERROR, once in a thousand
		c.cmd = exec.Command(exe)
		c.cmd.Env = append(append(os.Environ(), roleVar+"="+role, markVar+"="+c.mark), env...)
		c.cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags, HideWindow: true}
		out, perr := c.cmd.StdoutPipe()
		if perr != nil {
			t.Fatal(perr)
		}
		if err = c.cmd.Start(); err != nil {
			continue
		}
		if err = json.NewDecoder(out).Decode(&c.ready); err == nil {
			break
		}
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // its own child, by the handle that it has since its birth
		<-c.done
		endHeir(c.Heir)
	})
	return c
}

// endHeir ends the child of one of ours, unless it has ended.
func endHeir(pid int) {
	if pid == 0 {
		return
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		_ = p.Kill()
		_, _ = p.Wait()
	}
}

// tempDir: what is in t.TempDir cannot always be removed under Wine.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "killport")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// said is what the role wrote to its mark.
func (c *cast) said(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(c.mark)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// ended waits for the process to end.
func (c *cast) ended(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		t.Fatalf("PID %d is still there", c.PID)
	}
}

// mayDoAll skips a test of what is denied on a Windows that denies us nothing.
func mayDoAll(t *testing.T) {
	t.Helper()
	wine := windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
	if !wine && windows.GetCurrentProcessToken().IsElevated() {
		t.Skip("an administrator is denied nothing")
	}
}

// lives fails the test if the process has ended.
func (c *cast) lives(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
		t.Errorf("PID %d has ended: %v", c.PID, c.cmd.ProcessState)
	default:
	}
}

const serviceName = "killport-test"

// startService has this binary installed and started as a service.
func startService(t *testing.T) *cast {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m, err := mgr.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Disconnect() })
	c := &cast{mark: filepath.Join(tempDir(t), "mark")}
	s, err := m.CreateService(serviceName, exe, mgr.Config{}, "service", c.mark)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = s.Control(svc.Stop)
		if err := s.Delete(); err != nil {
			t.Error(err)
		}
		_ = s.Close()
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if json.Unmarshal([]byte(c.said(t)), &c.ready) == nil {
			return c
		}
	}
	t.Fatal("the service does not start")
	return nil
}

// datagrams has a UDP socket, made without package net, whose way Wine does not
// know.
func datagrams() {
	s, err := windows.Socket(windows.AF_INET, windows.SOCK_DGRAM, 0)
	if err == nil {
		err = windows.Bind(s, &windows.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		fail(err)
	}
	_, _ = windows.GetsockoptInt(s, windows.SOL_SOCKET, windows.SO_KEEPALIVE)
	name, err := windows.Getsockname(s)
	if err != nil {
		fail(err)
	}
	r := ready{PID: os.Getpid(), Port: name.(*windows.SockaddrInet4).Port}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		fail(err)
	}
	select {}
}
