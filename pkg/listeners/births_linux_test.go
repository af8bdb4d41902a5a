package listeners

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/pkg/process"
)

// listening is a listener of ours, and its inode.
func listening(t *testing.T) (*os.File, uint64) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return f, st.Ino
}

// sleeper is a process that has the file open, until the test ends.
func sleeper(t *testing.T, f *os.File) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// A holder that hands its socket to a child while others are looked at, and has
// it no more when its turn comes, hides nobody.
func TestWalkSeesWhoIsBornMeanwhile(t *testing.T) {
	f, inode := listening(t)
	heir := 0
	handOn := func(pid int, want map[uint64]bool) (fds, error) {
		if pid == os.Getpid() && heir == 0 {
			heir = sleeper(t, f)
			f.Close()
		}
		return lookAtProcesses(pid, want)
	}
	v, err := walk(t.Context(), map[uint64]bool{inode: true}, handOn)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.held[heir][inode]; !ok || heir == 0 {
		t.Errorf("walk = %+v; want that PID %d has inode %d", v, heir, inode)
	}
}

// Where processes are born for ever, nothing is proven.
func TestWalkIsNoProofAmongBirths(t *testing.T) {
	v := view{held: map[int]fds{}}
	bear := func(pid int, _ map[uint64]bool) (fds, error) {
		if pid%8 == 0 { // which one of the newest is, each time
			_ = exec.Command("true").Run()
		}
		return nil, nil
	}
	if v.sawBirths(t.Context(), process.Newest(), nil, bear) {
		t.Error("sawBirths = true; want false: one is born with each look")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v.sawBirths(ctx, process.Newest(), nil, lookAtProcesses) {
		t.Error("sawBirths after an interrupt = true; want false")
	}
	if v.sawBirths(t.Context(), process.Newest()+1, nil, lookAtProcesses) {
		t.Error("sawBirths = true, though the PIDs have begun again at the bottom; want false")
	}
}

// Who was seen with a socket, and has ended since, may have left it to a child.
func TestPassedOnIsNoGhost(t *testing.T) {
	f, inode := listening(t)
	pid := sleeper(t, f)
	v := view{held: map[int]fds{pid: {inode: 3}, os.Getpid(): {}}, passedOn: fds{}}
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := Socket{Proto: TCP, ID: ID{Inode: inode}}
	v.identify([]Socket{s}, map[ID][]Listener{})
	if got := v.blindTo(s); got != ByBirths {
		t.Errorf("blindTo = %q; want %q", got, ByBirths)
	}
	if got := v.blindTo(Socket{ID: ID{Inode: inode + 1}}); got != "" {
		t.Errorf("blindTo another = %q; want nothing", got)
	}
}

// Of what is bound only that counts which was so a moment ago, and still is.
func TestLasting(t *testing.T) {
	bind := func() (fd int, q Query) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		}
		at, nerr := unix.Getsockname(fd)
		if err := errors.Join(err, nerr); err != nil {
			t.Fatal(err)
		}
		return fd, Query{Proto: TCP, Port: uint16(at.(*unix.SockaddrInet4).Port)}
	}
	if !ShowsBound(t.Context()) {
		t.Skip("the kernel shows none: it takes Linux 6.8")
	}
	stays, staying := bind()
	defer unix.Close(stays)
	goes, going := bind()
	before, err := Sockets(t.Context(), staying, going)
	if err != nil || len(before) != 2 {
		t.Fatalf("Sockets = %+v, %v; want two", before, err)
	}
	unix.Close(goes)
	comes, coming := bind()
	defer unix.Close(comes)
	got, err := lasting(t.Context(), before, []Query{staying, going, coming})
	if err != nil || len(got) != 1 || got[0].Local.Port() != staying.Port {
		t.Errorf("lasting = %+v, %v; want that of port %d alone", got, err, staying.Port)
	}
}
