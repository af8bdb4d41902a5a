package listeners_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/porttest"
	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// A door is a socket of this process that can be found.
type door struct {
	proto listeners.Proto
	addr  netip.AddrPort
	conn  syscall.Conn
	close func() error
}

// open listens where the kernel has a port free.
func open(t *testing.T, network, addr string) door {
	t.Helper()
	proto, _, _ := strings.Cut(network, "-")
	var lc net.ListenConfig
	lc.SetMultipathTCP(strings.HasSuffix(network, "-mptcp"))
	if strings.HasPrefix(proto, "udp") {
		c, err := lc.ListenPacket(t.Context(), proto, addr)
		if err != nil {
			t.Skipf("no %s here: %v", network, err)
		}
		t.Cleanup(func() { c.Close() })
		u := c.(*net.UDPConn)
		return door{listeners.UDP, u.LocalAddr().(*net.UDPAddr).AddrPort(), u, u.Close}
	}
	l, err := lc.Listen(t.Context(), proto, addr)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	tcp := l.(*net.TCPListener)
	return door{listeners.TCP, tcp.Addr().(*net.TCPAddr).AddrPort(), tcp, tcp.Close}
}

func (d door) query() listeners.Query { return listeners.Query{Proto: d.proto, Port: d.addr.Port()} }

// stat returns the descriptor of the socket and its inode.
func (d door) stat(t *testing.T) (fd int, inode uint64) {
	t.Helper()
	raw, err := d.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	var statErr error
	err = raw.Control(func(n uintptr) { fd, statErr = int(n), syscall.Fstat(int(n), &st) })
	if err := errors.Join(err, statErr); err != nil {
		t.Fatal(err)
	}
	return fd, st.Ino
}

func ownBirth(t *testing.T) process.Birth {
	t.Helper()
	p, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	birth, err := p.Birth()
	if err != nil {
		t.Fatal(err)
	}
	return birth
}

func list(t *testing.T, queries ...listeners.Query) []listeners.Listener {
	t.Helper()
	found, err := listeners.List(t.Context(), queries...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestListFindsOurOwn(t *testing.T) {
	for _, tt := range []struct{ network, addr, want string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4-mptcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "0.0.0.0:0", "0.0.0.0"},
		{"tcp6", "[::1]:0", "[::1]"},
		{"tcp", "[::]:0", "[::]"},
		{"tcp6", "[::]:0", "[::]"},
		{"udp4", "127.0.0.1:0", "127.0.0.1"},
		{"udp6", "[::1]:0", "[::1]"},
	} {
		t.Run(tt.network+" "+tt.addr, func(t *testing.T) {
			d := open(t, tt.network, tt.addr)
			fd, inode := d.stat(t)
			uid := uint32(os.Geteuid())
			want := listeners.Listener{
				Proto: d.proto, LocalAddr: tt.want, LocalPort: d.addr.Port(), PID: os.Getpid(), Birth: ownBirth(t),
				FD: &fd, UID: &uid, Socket: listeners.ID{Inode: inode},
			}
			if want.Birth.Weak() {
				want.Identity = "weak"
			}
			if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
				want.User = u.Username
			}
			got := list(t, d.query())
			if len(got) == 1 {
				want.Socket.Cookie, want.Socket.Source = got[0].Socket.Cookie, got[0].Socket.Source
			}
			if diff := cmp.Diff([]listeners.Listener{want}, got); diff != "" {
				t.Fatalf("List (-want +got):\n%s", diff)
			}
			if (got[0].Socket.Cookie == "") != (got[0].Socket.Source == "proc_net") {
				t.Errorf("socket = %+v; want a cookie, or where else it comes from", got[0].Socket)
			}
		})
	}
}

// Who asks for one protocol or address does not get the others.
func TestListIsAskedFor(t *testing.T) {
	d := open(t, "tcp4", "127.0.0.1:0")
	q := d.query()
	for _, tt := range []struct {
		name string
		q    listeners.Query
		want int
	}{
		{"its address", listeners.Query{Proto: q.Proto, Addr: netip.MustParseAddr("127.0.0.1"), Port: q.Port}, 1},
		{"another address", listeners.Query{Proto: q.Proto, Addr: netip.MustParseAddr("127.0.0.2"), Port: q.Port}, 0},
		{"UDP", listeners.Query{Proto: listeners.UDP, Port: q.Port}, 0},
	} {
		if got := list(t, tt.q); len(got) != tt.want {
			t.Errorf("List of %s = %+v; want %d", tt.name, got, tt.want)
		}
	}
	if got := list(t, q, q, listeners.Query{Proto: q.Proto, Addr: d.addr.Addr(), Port: q.Port}); len(got) != 1 {
		t.Errorf("List of the same three times = %+v; want it once", got)
	}
	all := list(t, listeners.Query{Proto: listeners.TCP})
	var here int
	for _, l := range all {
		if l.LocalPort == q.Port && l.PID == os.Getpid() {
			here++
		}
	}
	if here != 1 {
		t.Errorf("List of all ports has ours %d times", here)
	}
}

// Many ports are read at once, and yet only those that were asked for.
func TestListOfManyPorts(t *testing.T) {
	var queries []listeners.Query
	want := map[uint16]bool{}
	for range 20 {
		q := open(t, "tcp4", "127.0.0.1:0").query()
		queries = append(queries, q)
		want[q.Port] = true
	}
	other := open(t, "tcp4", "127.0.0.1:0").query()
	got := map[uint16]bool{}
	for _, l := range list(t, queries...) {
		got[l.LocalPort] = true
	}
	if diff := cmp.Diff(want, got); diff != "" || got[other.Port] {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

// Both ends of a connection have the port, and neither listens on it.
func TestListWithoutClients(t *testing.T) {
	d := open(t, "tcp4", "127.0.0.1:0")
	client, err := net.Dial("tcp4", d.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := d.conn.(*net.TCPListener).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if got := list(t, d.query()); len(got) != 1 {
		t.Errorf("List = %+v; want the listener alone", got)
	}
	outgoing := listeners.Query{Proto: listeners.TCP, Port: client.LocalAddr().(*net.TCPAddr).AddrPort().Port()}
	if got := list(t, outgoing); len(got) != 0 {
		t.Errorf("List of a client's port = %+v; want nothing", got)
	}
	d.close()
	if got := list(t, d.query()); len(got) != 0 {
		t.Errorf("List after Close = %+v; want nothing", got)
	}

	u := open(t, "udp4", "127.0.0.1:0")
	peer, err := net.Dial("udp4", u.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	outgoing = listeners.Query{Proto: listeners.UDP, Port: peer.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	if got := list(t, outgoing); len(got) != 0 {
		t.Errorf("List of a UDP client's port = %+v; want nothing", got)
	}
}

// bind has a TCP socket bound that does not listen.
func bind(t *testing.T) (q listeners.Query, release func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(release)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return listeners.Query{Proto: listeners.TCP, Port: uint16(at.(*unix.SockaddrInet4).Port)}, release
}

// What is bound and does not listen is listed for who asks for its port, if it
// stays so; not what somebody binds for a moment, to see whether it can be had.
func TestListOfBound(t *testing.T) {
	if !listeners.ShowsBound(t.Context()) {
		t.Skip("the kernel shows none: it takes Linux 6.8")
	}
	q, _ := bind(t)
	got := list(t, q)
	if len(got) != 1 || got[0].State != listeners.Bound || got[0].PID != os.Getpid() || got[0].Birth == "" || got[0].Socket.Cookie == "" {
		t.Fatalf("List = %+v; want one that is bound, and ours", got)
	}
	all := list(t, listeners.Query{Proto: listeners.TCP})
	if slices.ContainsFunc(all, func(l listeners.Listener) bool { return l.LocalPort == q.Port }) {
		t.Errorf("List of all ports has the one that is bound: %+v", all)
	}
	for _, other := range []listeners.Query{{Proto: listeners.UDP, Port: q.Port}, {Proto: listeners.TCP, Port: q.Port, Addr: netip.MustParseAddr("127.0.0.2")}} {
		if got := list(t, other); len(got) != 0 {
			t.Errorf("List(%v) = %+v; want nothing", other.Args(), got)
		}
	}
	passing, release := bind(t)
	time.AfterFunc(3*time.Millisecond, release)
	if got := list(t, passing); len(got) != 0 {
		t.Errorf("List of what is bound for 3 ms = %+v; want nothing", got)
	}
	began := time.Now()
	if list(t, q); time.Since(began) < 10*time.Millisecond {
		t.Errorf("List of what is bound took %v; want a second look after 10 ms", time.Since(began))
	}
}

// Two sockets on one address may be of different interfaces.
func TestListOfDevices(t *testing.T) {
	lc := net.ListenConfig{Control: func(_, _ string, s syscall.RawConn) (err error) {
		cerr := s.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "lo") })
		return errors.Join(cerr, err)
	}}
	l, err := lc.Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Skipf("SO_BINDTODEVICE: %v", err)
	}
	defer l.Close()
	got := list(t, listeners.Query{Proto: listeners.TCP, Port: l.Addr().(*net.TCPAddr).AddrPort().Port()})
	if len(got) != 1 || got[0].Device != "lo" || got[0].LocalAddr != "0.0.0.0" {
		t.Errorf("List = %+v; want it on lo", got)
	}
}

// A socket that begins to listen is the same one: it is listed once.
func TestListOfBoundThatListens(t *testing.T) {
	d := open(t, "tcp4", porttest.Free(t).String()) // a port by name, which stays bound
	first := list(t, d.query())
	raw, err := d.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) }); err != nil { // listens no more, and stays bound
		t.Fatal(err)
	}
	got := list(t, d.query())
	if len(first) != 1 || len(got) != 1 || got[0].State != listeners.Bound || !got[0].Socket.Same(first[0].Socket) {
		t.Errorf("List = %+v, and then %+v; want the same socket, bound", first, got)
	}
}

func TestHoldersOfClosedSocket(t *testing.T) {
	closed, stays := open(t, "tcp4", "127.0.0.1:0"), open(t, "tcp4", "127.0.0.1:0")
	found, err := listeners.Sockets(t.Context(), closed.query(), stays.query())
	if err != nil || len(found) != 2 {
		t.Fatalf("Sockets = %+v, %v; want two", found, err)
	}
	closed.close()
	got, err := listeners.Holders(t.Context(), found)
	if err != nil || len(got) != 1 || got[0].LocalPort != stays.addr.Port() {
		t.Errorf("Holders = %+v, %v; want that of port %d alone", got, err, stays.addr.Port())
	}
}

func TestHolds(t *testing.T) {
	d := open(t, "tcp4", "127.0.0.1:0")
	l := list(t, d.query())[0]
	p, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	check := func(what string, l listeners.Listener, want bool) {
		t.Helper()
		if got, err := listeners.Holds(p, l); err != nil || got != want {
			t.Errorf("Holds(%s) = %v, %v; want %v", what, got, err, want)
		}
	}
	check("as it was found", l, true)
	moved := l
	moved.FD = new(0)
	check("with another descriptor", moved, true)
	moved.FD = nil
	check("without a descriptor", moved, true)
	other := l
	other.Socket.Inode++
	check("another socket", other, false)
	d.close()
	check("closed", l, false)
}

// A source keeps the contract of a stage that was given nothing.
func TestSourceLaws(t *testing.T) {
	queries := []listeners.Query{open(t, "tcp4", "127.0.0.1:0").query(), open(t, "udp4", "127.0.0.1:0").query()}
	source := listeners.Source(queries...)
	stage := func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			for _, err := range seq {
				if err != nil && !yield(jsonl.Record{}, err) {
					return
				}
			}
			source(ctx)(yield)
		}
	}
	r, err := jsonl.New(map[string]int{})
	if err != nil {
		t.Fatal(err)
	}
	if err := jsonltest.TestStage(stage, jsonltest.Records(r), jsonltest.Reducing()); err != nil {
		t.Error(err)
	}
}

func TestSourceStopsEarly(t *testing.T) {
	port := open(t, "tcp4", "127.0.0.1:0").query()
	both := open(t, "tcp4", "127.0.0.1:0").query()
	n := 0
	for r, err := range listeners.Source(port, both)(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		schematest.Validate(t, "listeners", []byte(r.String()))
		l, err := listeners.Parse(r)
		if err != nil || l.PID != os.Getpid() {
			t.Errorf("Parse(%s) = %+v, %v; want our own", r, l, err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("records until the break = %d; want 1", n)
	}
}

// What is cancelled is an error, not an empty list.
func TestSourceCancelled(t *testing.T) {
	q := open(t, "tcp4", "127.0.0.1:0").query()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var got []error
	for r, err := range listeners.Source(q)(ctx) {
		if err == nil {
			t.Errorf("record = %s; want none", r)
		}
		got = append(got, err)
	}
	if len(got) != 1 || !errors.Is(got[0], context.Canceled) {
		t.Errorf("errors = %v; want that it was cancelled", got)
	}
}
