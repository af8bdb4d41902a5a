package procfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/killport/killport/internal/procfs"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOwnStat(t *testing.T) {
	s, err := procfs.ParseStat(readFile(t, "/proc/self/stat"))
	if err != nil {
		t.Fatal(err)
	}
	want := s
	want.PID, want.PPID, want.PGRP = os.Getpid(), os.Getppid(), syscall.Getpgrp()
	want.Comm = strings.TrimSuffix(string(readFile(t, "/proc/self/comm")), "\n")
	if s != want {
		t.Errorf("own stat is %+v; want %+v", s, want)
	}
	if s.State != 'R' && s.State != 'S' || s.Threads < 1 || s.StartTicks == 0 || s.KernelThread() || s.Exiting() {
		t.Errorf("own stat is %+v; want it alive", s)
	}
}

func TestOwnStatus(t *testing.T) {
	s, err := procfs.ParseStatus(readFile(t, "/proc/self/status"))
	if err != nil {
		t.Fatal(err)
	}
	if s.UID != uint32(os.Getuid()) || s.EUID != uint32(os.Geteuid()) {
		t.Errorf("own user IDs are %d, %d; want %d, %d", s.UID, s.EUID, os.Getuid(), os.Geteuid())
	}
	if s.State != 'R' && s.State != 'S' || len(s.NSPID) > 0 && !slices.Contains(s.NSPID, os.Getpid()) {
		t.Errorf("own status is %+v; want it alive, with PID %d", s, os.Getpid())
	}
}

// A thread takes each name, and stat and status still tell the same.
func TestHostileNames(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := readFile(t, "/proc/thread-self/comm")
	names := []string{
		"a) R 1 1 1", ") S 1 (", "a\nUid:\t0\t0", `\n\\n`, "  x  ", "\x1b[2J\xff", "()()()()()()()(", "x\n",
	}
	for _, name := range names {
		if err := os.WriteFile("/proc/thread-self/comm", []byte(name), 0); err != nil {
			t.Fatal(err)
		}
		stat, statErr := procfs.ParseStat(readFile(t, "/proc/thread-self/stat"))
		status, statusErr := procfs.ParseStatus(readFile(t, "/proc/thread-self/status"))
		if err := os.WriteFile("/proc/thread-self/comm", bytes.TrimSuffix(before, []byte("\n")), 0); err != nil {
			t.Fatal(err)
		}
		if stat.Comm != name || stat.PID != syscall.Gettid() || statErr != nil {
			t.Errorf("ParseStat = %+v, %v; want name %q, ID %d", stat, statErr, name, syscall.Gettid())
		}
		if status.Name != name || status.UID != uint32(os.Getuid()) || statusErr != nil {
			t.Errorf("ParseStatus = %+v, %v; want name %q, user %d", status, statusErr, name, os.Getuid())
		}
	}
}

// A child that has ended and is not waited for is a zombie.
func TestZombie(t *testing.T) {
	child := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for {
		s, err := procfs.ParseStat(readFile(t, fmt.Sprintf("/proc/%d/stat", child.Process.Pid)))
		if err != nil {
			t.Fatal(err)
		}
		if s.State == 'Z' {
			if !s.Exiting() || s.PPID != os.Getpid() {
				t.Errorf("zombie is %+v; want it exiting, and our child", s)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("child is still %+v", s)
		}
		runtime.Gosched()
	}
	if args := procfs.ParseCmdline(readFile(t, fmt.Sprintf("/proc/%d/cmdline", child.Process.Pid))); args != nil {
		t.Errorf("arguments of a zombie are %q; want none", args)
	}
}

func TestOwnCmdline(t *testing.T) {
	want := slices.Clone(os.Args)
	for len(want) > 0 && want[len(want)-1] == "" {
		want = want[:len(want)-1]
	}
	if got := procfs.ParseCmdline(readFile(t, "/proc/self/cmdline")); !slices.Equal(got, want) {
		t.Errorf("own arguments are %q; want %q", got, want)
	}
}

// inode returns the inode of c and its descriptor, which is valid as long as c is.
func inode(t *testing.T, c syscall.Conn) (inode uint64, fd int32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(n uintptr) { fd = int32(n) })
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	inode, ok := procfs.SocketInode(link)
	if !ok {
		t.Fatalf("SocketInode(%q) = false; want true", link)
	}
	return inode, fd
}

func TestOwnSockets(t *testing.T) {
	const listening, closed = 10, 7
	for _, tt := range []struct {
		network, address, file string
		state                  uint8
	}{
		{"tcp4", "127.0.0.1:0", "tcp", listening},
		{"tcp6", "[::1]:0", "tcp6", listening},
		{"udp4", "127.0.0.1:0", "udp", closed},
		{"udp6", "[::1]:0", "udp6", closed},
	} {
		t.Run(tt.network, func(t *testing.T) {
			socket, address := open(t, tt.network, tt.address)
			sockets, err := parseNet(bytes.NewReader(readFile(t, "/proc/self/net/"+tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(sockets, func(s procfs.NetSocket) bool { return s.Local.String() == address })
			if i < 0 {
				t.Fatalf("no %s at %s among %+v", tt.network, address, sockets)
			}
			want := sockets[i]
			want.State, want.UID = tt.state, uint32(os.Getuid())
			want.Inode, _ = inode(t, socket)
			if got := sockets[i]; got != want || got.Remote.Port() != 0 || !got.Remote.Addr().IsUnspecified() {
				t.Errorf("%s at %s is %+v; want %+v", tt.network, address, got, want)
			}
		})
	}
}

// open listens, or binds a UDP socket.
func open(t *testing.T, network, address string) (syscall.Conn, string) {
	t.Helper()
	if strings.HasPrefix(network, "tcp") {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		t.Cleanup(func() { l.Close() })
		return l.(*net.TCPListener), l.Addr().String()
	}
	c, err := net.ListenPacket(network, address)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn), c.LocalAddr().String()
}

func TestOwnMounts(t *testing.T) {
	m, err := procfs.ParseProcMount(bytes.NewReader(readFile(t, "/proc/self/mountinfo")))
	if err != nil || !m.Found {
		t.Errorf("ParseProcMount = %+v, %v; want it found, as /proc is there", m, err)
	}
	if _, err := os.Stat("/proc/meminfo"); (err != nil) != m.SubsetPID {
		t.Errorf("ParseProcMount = %+v; stat of /proc/meminfo is %v", m, err)
	}
}

// The ring keeps the socket and a slot that takes more than five columns.
func TestOwnRing(t *testing.T) {
	const slots = 10_001
	ring := openRing(t)
	listener, address := open(t, "tcp4", "127.0.0.1:0")
	want, fd := inode(t, listener)
	files := slices.Repeat([]int32{-1}, slots)
	files[1], files[slots-1] = fd, fd
	registerFiles(t, ring, files)
	info := readFile(t, fmt.Sprintf("/proc/self/fdinfo/%d", ring))
	if bytes.Contains(info, []byte(": TCP\n")) {
		t.Skip("this kernel writes names in place of inodes (before 6.14)")
	}
	if err := listener.(*net.TCPListener).Close(); err != nil {
		t.Fatal(err)
	}
	got, err := procfs.ParseIOUringFiles(bytes.NewReader(info))
	if err != nil || !slices.Equal(got, []uint64{want, want}) {
		t.Errorf("ParseIOUringFiles = %d, %v; want %d twice", got, err, want)
	}
	sockets, err := parseNet(bytes.NewReader(readFile(t, "/proc/self/net/tcp")))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(sockets, func(s procfs.NetSocket) bool { return s.Inode == want }) {
		t.Errorf("no socket %d at %s among %+v; want it there, as the ring has it", want, address, sockets)
	}
}

// System calls and operation of include/uapi/asm-generic/unistd.h and include/uapi/linux/io_uring.h, since Linux 5.1.
const (
	sysSetup      = 425
	sysRegister   = 427
	registerArray = 2 // IORING_REGISTER_FILES: an array of i32, -1 for an empty slot
)

func openRing(t *testing.T) int {
	t.Helper()
	var params [120]byte // struct io_uring_params
	fd, _, errno := syscall.Syscall(sysSetup, 4, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		t.Skipf("no io_uring here: %v", errno)
	}
	t.Cleanup(func() { syscall.Close(int(fd)) })
	return int(fd)
}

func registerFiles(t *testing.T, ring int, files []int32) {
	t.Helper()
	_, _, errno := syscall.Syscall6(sysRegister, uintptr(ring), registerArray,
		uintptr(unsafe.Pointer(unsafe.SliceData(files))), uintptr(len(files)), 0, 0)
	if errors.Is(errno, syscall.EMFILE) {
		t.Skipf("no ring with %d slots under this limit of open files: %v", len(files), errno)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
}
