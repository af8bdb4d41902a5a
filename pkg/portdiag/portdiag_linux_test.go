package portdiag

import (
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// child starts a process that ends with the test.
func child(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// All that have it are ended at once; nobody is that must be left alone.
func TestEnd(t *testing.T) {
	a, b := child(t), child(t)
	for _, test := range []struct {
		pids []int
		want []string
	}{
		{nil, nil},
		{[]int{a}, []string{"kill", strconv.Itoa(a)}},
		{[]int{a, b}, []string{"kill", strconv.Itoa(a), strconv.Itoa(b)}},
		{[]int{a, unix.Getpid()}, nil},
		{[]int{a, unix.Getppid()}, nil},
		{[]int{1}, nil},
	} {
		var got []string
		if r := end(t.Context(), listeners.Query{Proto: listeners.TCP, Port: 8000}, test.pids); r != nil {
			got = r.Command
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("end(%d) = %q; want %q", test.pids, got, test.want)
		}
	}
}

// The kernel is asked to close what we ourselves may have, or several, and
// nobody would end: a TCP socket, and where nobody is outside of what we see.
func TestGhostRemedy(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(pair[0]), nil, 0); err != nil {
		t.Fatal(err)
	}
	for proto, want := range map[listeners.Proto][]string{
		listeners.TCP: process.Elevated("killport", "--close-ghosts", "8000"),
		listeners.UDP: nil,
	} {
		if !process.Outermost() {
			want = nil
		}
		var got []string
		q, l := question{Query: listeners.Query{Proto: proto, Port: 8000}}, listeners.Listener{Proto: proto, LocalPort: 8000}
		f := ghost(t.Context(), q, l, elusive([]string{"kthreadd"}))
		if f.Remedy != nil {
			got = f.Remedy.Command
		}
		if !slices.Contains(f.Evidence["scm_fds"].([]int), unix.Getpid()) || !slices.Equal(got, want) {
			t.Errorf("%s: %q; want %q: %+v", proto, got, want, f)
		}
		f = ghost(t.Context(), q, l, elusive([]string{"kthreadd", "lockd"}))
		if f.Remedy != nil || !strings.Contains(f.Summary, "or with the kernel: lockd") {
			t.Errorf("%s beside lockd: %+v; want no remedy", proto, f)
		}
		l.State = listeners.Bound
		if f = ghost(t.Context(), q, l, elusive(nil)); f.Remedy != nil {
			t.Errorf("%s, merely bound: %+v; want no remedy: the kernel does not close it", proto, f)
		}
	}
}
