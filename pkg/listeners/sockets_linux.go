package listeners

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/inetdiag"
	"github.com/killport/killport/internal/procfs"
)

// sockets asks sock_diag(7), and where that is refused, as some sandboxes do,
// reads /proc/net.
func sockets(ctx context.Context, queries []Query) ([]Socket, error) {
	found, err := overNetlink(ctx, tables(queries))
	if err == nil {
		return found, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	found, ferr := fromProcNet(tables(queries))
	if ferr != nil {
		return nil, fmt.Errorf("the table of sockets: %w", errors.Join(err, ferr))
	}
	return found, nil
}

// table is what one dump is asked for.
type table struct {
	proto Proto
	port  uint16 // 0: all
	state State
}

// tables returns the dumps that answer the queries. Many ports cost less as
// one dump of all: a dump takes 16 µs for one port, and not much more for all.
func tables(queries []Query) []table {
	const many = 16
	ports := map[table]bool{}
	bound := false
	for _, q := range queries {
		ports[table{proto: q.Proto, port: q.Port}] = true
		bound = bound || q.Proto == TCP && q.Port != 0
	}
	var out []table
	if bound { // before those that listen: who is about to listen meanwhile must be in one of the two
		out = append(out, table{proto: TCP, state: Bound}) // the kernel goes through all of them, whatever the port
	}
	for _, proto := range []Proto{TCP, UDP} {
		var of []table
		for t := range ports {
			if t.proto == proto {
				of = append(of, t)
			}
		}
		if all := (table{proto: proto}); ports[all] || len(of) > many {
			of = []table{all}
		}
		out = append(out, of...)
	}
	return out
}

// number and states are how the kernel calls what t asks for. A UDP socket
// that is bound and not connected is in state CLOSE.
func (t table) number() uint8 {
	if t.proto == UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func (t table) states() uint32 {
	switch {
	case t.proto == UDP:
		return 1 << inetdiag.StateClose
	case t.state == Bound:
		return 1 << inetdiag.StateBoundInactive
	}
	return 1 << inetdiag.StateListen
}

func overNetlink(ctx context.Context, tables []table) ([]Socket, error) {
	var found []Socket
	for _, t := range tables {
		err := Dump(ctx, t.number(), t.states(), t.port, func(d inetdiag.Socket) {
			if s, ok := t.socket(d); ok {
				found = append(found, s)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// socket leaves out a UDP socket that is not bound, and a TCP socket that nobody
// has any more: the kernel is about to take it down.
func (t table) socket(d inetdiag.Socket) (Socket, bool) {
	s := fromDiag(t.proto, d)
	s.State = t.state
	return s, d.Local.Port() != 0 && (t.state != Bound || d.Inode != 0)
}

func fromDiag(proto Proto, s inetdiag.Socket) Socket {
	device := ""
	if s.Interface != 0 && !isZoned(s) {
		device = interfaceName(s.Interface)
	}
	return Socket{
		Proto: proto, Local: netip.AddrPortFrom(zoned(s), s.Local.Port()), V6Only: s.V6Only, Device: device, UID: s.UID,
		ID: ID{Inode: uint64(s.Inode), Cookie: "0x" + strconv.FormatUint(s.Cookie, 16)},
	}
}

// zoned gives a link-local address its zone, without which nobody can connect.
func zoned(s inetdiag.Socket) netip.Addr {
	if !isZoned(s) {
		return s.Local.Addr()
	}
	return s.Local.Addr().WithZone(interfaceName(s.Interface))
}

func isZoned(s inetdiag.Socket) bool {
	return s.Interface != 0 && s.Local.Addr().Is6() && s.Local.Addr().IsLinkLocalUnicast()
}

// interfaceName is the name of an interface, or its number if it has gone.
func interfaceName(index uint32) string {
	if dev, err := net.InterfaceByIndex(int(index)); err == nil {
		return dev.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}

// Dump gives yield every socket of a protocol (IPPROTO_TCP, IPPROTO_UDP), IPv4
// and IPv6, that is in one of the states (a mask of 1<<state) and has the
// local port; port 0 means every port.
func Dump(ctx context.Context, protocol uint8, states uint32, port uint16, yield func(inetdiag.Socket)) error {
	fd, err := openDiag()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := inetdiag.Request{Family: family, Protocol: protocol, States: states, Port: port, Seq: uint32(i + 1)}
		if err := dumpFamily(ctx, fd, req, yield); err != nil {
			return fmt.Errorf("sock_diag: %w", err)
		}
	}
	return nil
}

func openDiag() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	return fd, os.NewSyscallError("socket(NETLINK_SOCK_DIAG)", err)
}

// dumpFamily repeats a dump that the kernel says it could not make in one go.
func dumpFamily(ctx context.Context, fd int, req inetdiag.Request, yield func(inetdiag.Socket)) error {
	const tries = 8
	for try := 1; ; try++ {
		var found []inetdiag.Socket
		err := ask(fd, req.Marshal(), func(s inetdiag.Socket) {
			if req.Matches(s) { // the kernel gives every socket that is bound only, whatever its port
				found = append(found, s)
			}
		})
		if errors.Is(err, inetdiag.ErrInterrupted) && try < tries && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return err
		}
		for _, s := range found {
			yield(s)
		}
		return nil
	}
}

// ask sends a request and reads datagrams until the answer is done. The kernel
// fills them up to the size of the buffer that it is given, 32 KiB at most
// (netlink_dump, net/netlink/af_netlink.c).
func ask(fd int, request []byte, yield func(inetdiag.Socket)) error {
	if err := eintr(func() error { return unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 32<<10)
	var interrupted error
	for {
		var n int
		err := eintr(func() (err error) { n, _, err = unix.Recvfrom(fd, buf, 0); return err })
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		done, err := inetdiag.Parse(buf[:n], yield)
		switch {
		case errors.Is(err, inetdiag.ErrInterrupted):
			interrupted = err // read on to the end of this dump
		case err != nil:
			return err
		}
		if done {
			return interrupted
		}
	}
}

// errBound: tcp_diag_destroy (net/ipv4/tcp_diag.c) looks among those that listen
// or are connected.
var errBound = errors.New("the kernel closes no socket that is merely bound")

// closeSocket closes a listening socket in the kernel, whoever has it
// (SOCK_DESTROY, Linux 4.5, with CAP_NET_ADMIN). It is named by its cookie, so
// that no other can be meant. The kernel looks for it by its address and port,
// and says ENOENT if it finds another one there with the same, or none.
func closeSocket(ctx context.Context, s Socket) error {
	if s.State == Bound {
		return errBound
	}
	t := table{proto: s.Proto, port: s.Local.Port()}
	var request []byte
	err := Dump(ctx, t.number(), t.states(), t.port, func(d inetdiag.Socket) {
		if s.ID.Cookie != "" && fromDiag(s.Proto, d).ID.Same(s.ID) {
			request = inetdiag.Destroy(d, t.number(), 1)
		}
	})
	if err != nil || request == nil { // it is gone already
		return err
	}
	fd, err := openDiag()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return ask(fd, request, func(inetdiag.Socket) {})
}

// showsBound: kernels before 6.8 do not know the state, and give none of them.
func showsBound(ctx context.Context) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	found, err := Sockets(ctx, Query{Proto: TCP, Port: uint16(name.(*unix.SockaddrInet4).Port)})
	return err == nil && slices.ContainsFunc(found, isBound)
}

func eintr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// fromProcNet has nothing of sockets that are merely bound: no kernel shows them
// there (tcp_seq_start of net/ipv4/tcp_ipv4.c).
func fromProcNet(tables []table) ([]Socket, error) {
	var found []Socket
	for _, t := range tables {
		if t.state == Bound {
			continue
		}
		for _, suffix := range []string{"", "6"} {
			rows, err := readProcNet(t, suffix)
			if err != nil && !(suffix == "6" && errors.Is(err, os.ErrNotExist)) { // a kernel without IPv6
				return nil, err
			}
			found = append(found, rows...)
		}
	}
	return found, nil
}

func readProcNet(t table, suffix string) ([]Socket, error) {
	name := map[Proto]string{TCP: "tcp", UDP: "udp"}[t.proto] + suffix
	f, err := os.Open("/proc/net/" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []Socket
	err = procfs.ParseNet(f, func(s procfs.NetSocket) {
		if 1<<s.State == t.states() && s.Local.Port() != 0 {
			found = append(found, Socket{
				Proto: t.proto, Local: s.Local, UID: s.UID,
				ID: ID{Inode: s.Inode, Source: "proc_net"},
			})
		}
	})
	return found, err
}
