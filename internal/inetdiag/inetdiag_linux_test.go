package inetdiag_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/killport/killport/internal/inetdiag"
	"github.com/killport/killport/internal/porttest"
)

const netlinkSockDiag = 4 // NETLINK_SOCK_DIAG of include/uapi/linux/netlink.h

// ask sends one message to the kernel and parses what comes back, until the end. A dump that was interrupted is
// returned as it is: other programs on the machine make sockets all the time, but not those that the tests look for.
func ask(t *testing.T, message []byte) ([]inetdiag.Socket, error) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		t.Skipf("no sock_diag here: %v", err)
	}
	defer syscall.Close(fd)
	limit := syscall.Timeval{Sec: 5}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Sendto(fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		t.Skipf("sock_diag takes no request: %v", err)
	}
	var sockets []inetdiag.Socket
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		done, err := inetdiag.Parse(buffer[:n], func(s inetdiag.Socket) { sockets = append(sockets, s) })
		if done || err != nil && !errors.Is(err, inetdiag.ErrInterrupted) {
			return sockets, err
		}
	}
}

// dump returns what Matches the request.
func dump(t *testing.T, r inetdiag.Request) []inetdiag.Socket {
	t.Helper()
	sockets, err := ask(t, r.Marshal())
	if err != nil && !errors.Is(err, inetdiag.ErrInterrupted) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(sockets, func(s inetdiag.Socket) bool { return !r.Matches(s) })
}

// listen opens a plain TCP listener, or with multipath an MPTCP one (the default of net.Listen).
func listen(t *testing.T, network, address string, multipath bool) *net.TCPListener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(multipath)
	l, err := config.Listen(context.Background(), network, address)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func port(l *net.TCPListener) uint16 {
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// inode returns the inode of the socket, as the link in /proc/self/fd names it.
func inode(t *testing.T, c syscall.Conn) uint32 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	err = raw.Control(func(fd uintptr) {
		var link string
		if link, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			_, err = fmt.Sscanf(link, "socket:[%d]", &n)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDumpFindsListeners(t *testing.T) {
	tests := []struct {
		name, network, address string
		multipath              bool
		family                 uint8
		v6Only                 bool
	}{
		{"IPv4", "tcp4", "127.0.0.1:0", false, inetdiag.FamilyIPv4, false},
		{"IPv6", "tcp6", "[::1]:0", false, inetdiag.FamilyIPv6, true},
		{"both", "tcp", "[::]:0", false, inetdiag.FamilyIPv6, false},
		{"MPTCP", "tcp4", "127.0.0.1:0", true, inetdiag.FamilyIPv4, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := listen(t, tt.network, tt.address, tt.multipath)
			address := l.Addr().(*net.TCPAddr).AddrPort()
			got := dump(t, inetdiag.Request{
				Family: tt.family, Protocol: inetdiag.ProtocolTCP,
				States: 1 << inetdiag.StateListen, Port: address.Port(), Seq: 1,
			})
			i := slices.IndexFunc(got, func(s inetdiag.Socket) bool { return s.Local == address })
			if i < 0 {
				t.Fatalf("no listener at %v among %+v", address, got)
			}
			s := got[i]
			want := s
			want.State, want.V6Only = inetdiag.StateListen, tt.v6Only
			want.UID, want.Inode = uint32(os.Getuid()), inode(t, l)
			if s != want {
				t.Errorf("listener at %v is %+v; want %+v", address, s, want)
			}
			if s.Cookie == 0 || s.Remote.Port() != 0 || !s.Remote.Addr().IsUnspecified() {
				t.Errorf("listener at %v has cookie %#x, remote %v; want a cookie, and no remote", address, s.Cookie, s.Remote)
			}
		})
	}
}

func TestDumpFiltersPorts(t *testing.T) {
	one, two := listen(t, "tcp4", "127.0.0.1:0", false), listen(t, "tcp4", "127.0.0.1:0", false)
	portOne, portTwo := port(one), port(two)
	request := inetdiag.Request{
		Family: inetdiag.FamilyIPv4, Protocol: inetdiag.ProtocolTCP,
		States: 1 << inetdiag.StateListen,
	}
	local := func(sockets []inetdiag.Socket) (ports []uint16) {
		for _, s := range sockets {
			ports = append(ports, s.Local.Port())
		}
		return ports
	}
	all, err := ask(t, request.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if ports := local(all); !slices.Contains(ports, portOne) || !slices.Contains(ports, portTwo) {
		t.Errorf("ports of all listeners are %d; want %d and %d among them", ports, portOne, portTwo)
	}
	request.Port = portOne
	filtered, err := ask(t, request.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if ports := local(filtered); len(ports) == 0 || slices.ContainsFunc(ports, func(p uint16) bool { return p != portOne }) {
		t.Errorf("ports of the listeners on %d are %d", portOne, ports)
	}
}

// The kernel does not apply the port to sockets that are only bound, so that Matches has to.
func TestDumpBoundInactive(t *testing.T) {
	one, two := porttest.Reserve(t), porttest.Reserve(t)
	request := inetdiag.Request{
		Family: inetdiag.FamilyIPv4, Protocol: inetdiag.ProtocolTCP,
		States: 1 << inetdiag.StateBoundInactive, Port: one.Port(),
	}
	all, err := ask(t, request.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Skip("this kernel does not list bound sockets (before 6.8)")
	}
	t.Logf("asked for port %d, port %d came too: %v", one.Port(), two.Port(),
		slices.ContainsFunc(all, func(s inetdiag.Socket) bool { return s.Local == two }))
	got := dump(t, request)
	if len(got) != 1 || got[0].Local != one || got[0].State != inetdiag.StateClose {
		t.Errorf("bound sockets on port %d are %+v; want one at %v in state %d", one.Port(), got, one, inetdiag.StateClose)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name    string
		request inetdiag.Request
		want    error
	}{
		{"unknown family", inetdiag.Request{Family: 250, Protocol: inetdiag.ProtocolTCP}, syscall.EINVAL},
		{"unknown protocol", inetdiag.Request{Family: inetdiag.FamilyIPv4, Protocol: 200}, syscall.ENOENT},
	}
	for _, tt := range tests {
		if sockets, err := ask(t, tt.request.Marshal()); len(sockets) != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: answer is %v, %v; want no sockets, %v", tt.name, sockets, err, tt.want)
		}
	}
}

// Destroy closes the socket with that cookie, and no other: the listener is the test's own.
func TestDestroyListener(t *testing.T) {
	for _, tt := range []struct {
		network, address string
		family           uint8
	}{
		{"tcp4", "127.0.0.1:0", inetdiag.FamilyIPv4},
		{"tcp6", "[::1]:0", inetdiag.FamilyIPv6},
	} {
		t.Run(tt.network, func(t *testing.T) {
			l := listen(t, tt.network, tt.address, false)
			request := inetdiag.Request{
				Family: tt.family, Protocol: inetdiag.ProtocolTCP,
				States: 1 << inetdiag.StateListen, Port: port(l),
			}
			got := dump(t, request)
			if len(got) != 1 {
				t.Fatalf("listeners are %+v; want one", got)
			}
			other := got[0]
			other.Cookie += 1 << 40
			if err := destroy(t, other); !errors.Is(err, syscall.ENOENT) || len(dump(t, request)) != 1 {
				t.Fatalf("Destroy with another cookie: %v; want %v, and the listener alive", err, syscall.ENOENT)
			}
			if err := destroy(t, got[0]); err != nil || len(dump(t, request)) != 0 {
				t.Fatalf("Destroy: %v; want <nil>, and no listener", err)
			}
			if err := destroy(t, got[0]); !errors.Is(err, syscall.ENOENT) {
				t.Errorf("Destroy for the second time: %v; want %v", err, syscall.ENOENT)
			}
		})
	}
}

// destroy has the kernel close s. It skips the test where that is not possible.
func destroy(t *testing.T, s inetdiag.Socket) error {
	t.Helper()
	_, err := ask(t, inetdiag.Destroy(s, inetdiag.ProtocolTCP, 1))
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("needs CAP_NET_ADMIN: %v", err)
	case errors.Is(err, syscall.EOPNOTSUPP):
		t.Skipf("the kernel is built without it: %v", err)
	}
	return err
}
