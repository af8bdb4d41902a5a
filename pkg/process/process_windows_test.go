package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// TestMain: with this variable the test binary is a child that waits.
func TestMain(m *testing.M) {
	if os.Getenv("KILLPORT_TEST_CHILD") != "" {
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KILLPORT_TEST_CHILD=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func open1(t *testing.T, pid int) *Pin {
	t.Helper()
	p, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestLife(t *testing.T) {
	cmd := child(t)
	pid := cmd.Process.Pid
	p := open1(t, pid)
	birth, err := p.Birth()
	if err != nil || birth.Weak() || !strings.HasPrefix(string(birth), bornAt) {
		t.Errorf("Birth() = %q, %v", birth, err)
	}
	if again, err := open1(t, pid).Birth(); again != birth || err != nil {
		t.Errorf("Birth() by another pin = %q, %v; want %q", again, err, birth)
	}
	info, err := p.Inspect()
	if err != nil || info.PPID != os.Getpid() || info.Exe == "" || !strings.HasSuffix(strings.ToLower(info.Exe), strings.ToLower(info.Name)) || time.Since(info.Started) > time.Minute {
		t.Errorf("Inspect() = %+v, %v", info, err)
	}
	if protected, err := Protect(p, info); protected != "" || err != nil {
		t.Errorf("Protect() = %q, %v; want nothing", protected, err)
	}
	if err := p.MayTerminate(); err != nil {
		t.Errorf("MayTerminate() = %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) || p.Exited() {
		t.Errorf("Wait() = %v, and Exited() = %v; want to be interrupted", err, p.Exited())
	}
	if err := p.Kill(); err != nil || !slices.Equal(p.Sent(), []string{"TerminateProcess"}) {
		t.Errorf("Kill() = %v; Sent() = %q", err, p.Sent())
	}
	if err := p.Wait(t.Context()); err != nil || !p.Exited() || !p.Exiting() {
		t.Errorf("Wait() = %v; Exited() = %v", err, p.Exited())
	}
	for name, err := range map[string]error{
		"Kill": p.Kill(), "Terminate": p.Terminate(0), "MayTerminate": p.MayTerminate(),
		"Birth": second(p.Birth()), "Inspect": second(p.Inspect()),
	} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("%s() of a process that has ended = %v; want %v", name, err, ErrGone)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestWaitWithoutTheRightTo(t *testing.T) {
	cmd := child(t)
	p := open1(t, cmd.Process.Pid)
	weak := &Pin{pid: p.pid, sys: sys{created: p.created}}
	if weak.Exited() || !errors.Is(weak.MayTerminate(), ErrDenied) || !errors.Is(weak.Kill(), ErrDenied) {
		t.Errorf("without a handle: Exited() = %v, MayTerminate() = %v", weak.Exited(), weak.MayTerminate())
	}
	if birth, err := weak.Birth(); birth != Birth(bornAt+strconv.FormatUint(p.created, 10)) || err != nil {
		t.Errorf("Birth() = %q, %v", birth, err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := weak.Wait(t.Context()); err != nil || !weak.Exited() {
		t.Errorf("Wait() = %v; Exited() = %v", err, weak.Exited())
	}
}

func TestOpenOddPIDs(t *testing.T) {
	pid := child(t).Process.Pid
	for _, odd := range []int{-1, 0, 1 << 33, pid + 1, pid + 2, pid + 3, 1<<32 - 4} {
		if p, err := Open(odd); err == nil {
			p.Close()
			t.Errorf("Open(%d) = %d; want an error", odd, p.PID())
		}
	}
}

func TestProtect(t *testing.T) {
	self := open1(t, os.Getpid())
	for _, tt := range []struct {
		p    *Pin
		info Info
		want Protection
	}{
		{self, Info{}, ProtectedSelf},
		{&Pin{pid: 4}, Info{Name: "System"}, ProtectedKernel},
		{&Pin{pid: 4096}, Info{Name: "csrss.exe", Exe: strings.ToUpper(system32("csrss.exe"))}, ProtectedSystem},
		{&Pin{pid: 4096}, Info{Name: "LSASS.exe"}, ProtectedSystem},
		{&Pin{pid: 4096}, Info{Name: "csrss.exe", Exe: `C:\Users\ann\csrss.exe`}, ""},
		{&Pin{pid: 4096}, Info{Name: "svchost.exe", Exe: system32("svchost.exe")}, ProtectedShared},
		{&Pin{pid: 4096}, Info{Name: "com.docker.backend.exe"}, ProtectedShared},
		{&Pin{pid: 4096}, Info{Name: "wslrelay.exe"}, ProtectedShared},
		{&Pin{pid: 4096}, Info{Name: "explorer.exe", Exe: `C:\Windows\explorer.exe`}, ProtectedShared},
		{&Pin{pid: 4096}, Info{Name: "node.exe"}, ""},
	} {
		if got, err := Protect(tt.p, tt.info); got != tt.want || err != nil {
			t.Errorf("Protect(PID %d, %+v) = %q, %v; want %q", tt.p.pid, tt.info, got, err, tt.want)
		}
	}
}

func TestKin(t *testing.T) {
	at := func(seconds uint64) uint64 { return 134_000_000_000_000_000 + seconds*10_000_000 }
	all := map[int]entry{}
	for _, e := range []entry{
		{pid: 100, created: at(50)},            // has the PID of the parent, and is no relative
		{pid: 200, ppid: 100, created: at(10)}, // born before the bind
		{pid: 204, ppid: 100, created: at(20)}, // an heir
		{pid: 208, ppid: 204, created: at(21)}, // of the heir
		{pid: 212, ppid: 204, created: at(19)}, // its parent's PID is another's now
		{pid: 216, ppid: 208, created: at(30)},
		{pid: 220, ppid: 4, created: at(30)},
	} {
		all[e.pid] = e
	}
	if got, want := kinAmong(all, 100, fileTime(at(15))), []int{204, 208, 216}; !slices.Equal(got, want) {
		t.Errorf("kin(100, since the bind) = %v; want %v", got, want)
	}
	if got, want := kinAmong(all, 100, time.Time{}), []int{200, 204, 208, 216}; !slices.Equal(got, want) {
		t.Errorf("kin(100, of whichever process has had that PID) = %v; want %v", got, want)
	}
	for pid, want := range map[int][]int{100: {}, 200: {}, 204: {208, 216}, 208: {216}, 999: {}} {
		if got := descendants(all, pid); !slices.Equal(got, want) {
			t.Errorf("descendants(%d) = %v; want %v", pid, got, want)
		}
	}
	for pid, want := range map[int]bool{208: true, 204: true, 100: false, 216: false, 4: false} {
		if got := isAncestorOf(all, pid, 216); got != want {
			t.Errorf("isAncestorOf(%d, 216) = %v; want %v", pid, got, want)
		}
	}
	if parent, ok := parentOf(all, all[204]); ok {
		t.Errorf("parentOf(204) = %d, which is younger", parent.pid)
	}
}

func TestServices(t *testing.T) {
	if found, err := Services(os.Getpid()); len(found) != 0 || err != nil {
		t.Errorf("Services(ourselves) = %v, %v; want none", found, err)
	}
	for kind, want := range map[uint32]bool{
		windows.SERVICE_WIN32_OWN_PROCESS:                                       true,
		windows.SERVICE_WIN32_OWN_PROCESS | windows.SERVICE_INTERACTIVE_PROCESS: true,
		windows.SERVICE_WIN32_SHARE_PROCESS:                                     false,
		windows.SERVICE_WIN32:                                                   false,
	} {
		if got := isOwn(kind); got != want {
			t.Errorf("isOwn(%#x) = %v; want %v", kind, got, want)
		}
	}
}

// The table of services comes in pages; what comes twice, since the table has
// changed meanwhile, counts once.
func TestServicesInPages(t *testing.T) {
	const pid = 42
	entry := func(name string, pid uint32) windows.ENUM_SERVICE_STATUS_PROCESS {
		wide, err := windows.UTF16PtrFromString(name)
		if err != nil {
			t.Fatal(err)
		}
		return windows.ENUM_SERVICE_STATUS_PROCESS{
			ServiceName:          wide,
			ServiceStatusProcess: windows.SERVICE_STATUS_PROCESS{ProcessId: pid, ServiceType: windows.SERVICE_WIN32_OWN_PROCESS},
		}
	}
	pages := [][]windows.ENUM_SERVICE_STATUS_PROCESS{
		{entry("web", pid), entry("other", pid+1)},
		{entry("web", pid)},
		{entry("db", pid), entry("another", pid+1)},
	}
	reader := func(pages [][]windows.ENUM_SERVICE_STATUS_PROCESS, end error) readPage {
		return func(page []uint64, resume *uint32) (uint32, error) {
			if size := 8 * len(page); size > 256<<10 {
				t.Errorf("asked for %d bytes; want 256 KiB at most", size)
			}
			n := copy(unsafe.Slice((*windows.ENUM_SERVICE_STATUS_PROCESS)(unsafe.Pointer(&page[0])), 2), pages[*resume])
			if *resume++; int(*resume) < len(pages) {
				return uint32(n), windows.ERROR_MORE_DATA
			}
			return uint32(n), end
		}
	}
	got, err := servicesIn(pid, reader(pages, nil))
	runtime.KeepAlive(pages) // a page does not keep the names
	if want := []Service{{"db", true}, {"web", true}}; !slices.Equal(got, want) || err != nil {
		t.Errorf("servicesIn() = %v, %v; want %v", got, err, want)
	}
	if got, err := servicesIn(pid, reader(pages, windows.ERROR_ACCESS_DENIED)); got != nil || !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		t.Errorf("servicesIn(half of the table) = %v, %v; want %v", got, err, windows.ERROR_ACCESS_DENIED)
	}
	endless := func([]uint64, *uint32) (uint32, error) { return 0, windows.ERROR_MORE_DATA }
	if got, err := servicesIn(pid, endless); got != nil || err == nil {
		t.Errorf("servicesIn(a table without an end) = %v, %v; want an error", got, err)
	}
}

// A svchost of which nobody tells what it hosts is left alone.
func TestHostsMany(t *testing.T) {
	svchost := Info{Name: "svchost.exe"}
	for _, tt := range []struct {
		info   Info
		hosted []Service
		err    error
		want   bool
	}{
		{svchost, []Service{{"a", false}, {"b", false}}, nil, true},
		{svchost, []Service{{"a", true}}, nil, false},
		{svchost, nil, windows.ERROR_ACCESS_DENIED, true},
		{Info{Name: "node.exe"}, nil, windows.ERROR_ACCESS_DENIED, false},
	} {
		got := hostsMany(tt.info, func(int) ([]Service, error) { return tt.hosted, tt.err })
		if got != tt.want {
			t.Errorf("hostsMany(%s) with %v, %v = %v; want %v", tt.info.Name, tt.hosted, tt.err, got, tt.want)
		}
	}
}

// Windows says that all is well when a token has not the privilege that is to
// be enabled.
func TestEnableWhatIsNotThere(t *testing.T) {
	var token windows.Token
	const rights = windows.TOKEN_DUPLICATE | windows.TOKEN_QUERY
	if err := windows.OpenProcessToken(windows.CurrentProcess(), rights, &token); err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	var ours windows.Token // to be changed, unlike that of this process
	err := windows.DuplicateTokenEx(token, windows.MAXIMUM_ALLOWED, nil, windows.SecurityImpersonation, windows.TokenPrimary, &ours)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	const everybodys = "SeChangeNotifyPrivilege"
	if !enable(ours, everybodys) {
		t.Errorf("enable(%s) = false; want true", everybodys)
	}
	remove := windows.Tokenprivileges{PrivilegeCount: 1}
	remove.Privileges[0].Attributes = windows.SE_PRIVILEGE_REMOVED
	name := windows.StringToUTF16Ptr(everybodys)
	if err := windows.LookupPrivilegeValue(nil, name, &remove.Privileges[0].Luid); err != nil {
		t.Fatal(err)
	}
	if err := windows.AdjustTokenPrivileges(ours, false, &remove, 0, nil, nil); err != nil {
		t.Fatal(err)
	}
	if enable(ours, everybodys) {
		t.Errorf("enable(%s), which was removed = true; want false", everybodys)
	}
}

// Every csrss is critical to Windows, not to Wine. It takes an administrator to
// open one; that we are not critical everybody can see.
func TestCritical(t *testing.T) {
	if open1(t, os.Getpid()).critical() {
		t.Error("we are critical")
	}
	wine := windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
	all, err := entries()
	if err != nil {
		t.Fatal(err)
	}
	for pid, e := range all {
		if wine || !strings.EqualFold(e.name, "csrss.exe") {
			continue
		}
		p := open1(t, pid)
		t.Logf("%s (PID %d) may be opened: %v", e.name, pid, p.handle != 0)
		if p.handle != 0 && !p.critical() {
			t.Errorf("%s (PID %d) is not critical", e.name, pid)
		}
	}
}
