package procfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
)

// A NetSocket is a line of /proc/net/tcp, tcp6, udp or udp6. These files are of the network namespace of the process
// that opens them; /proc/PID/net/tcp is of PID's.
type NetSocket struct {
	// Local and Remote have no zone. In tcp6 and udp6 an IPv4 connection has addresses like ::ffff:127.0.0.1. A
	// socket without peer has the remote 0.0.0.0:0 or [::]:0.
	Local, Remote netip.AddrPort

	State uint8  // TCP_… of include/net/tcp_states.h: 10 is LISTEN; 7 is a UDP socket that is not connected
	UID   uint32 // who made the socket, in the user namespace of the reader
	Inode uint64 // the number in "socket:[…]"; 0 when no file has it (TIME_WAIT)
}

// ParseNet calls yield with each socket of /proc/net/tcp, tcp6, udp or udp6, in the order of the file, in which a
// socket may be missing or be there twice when sockets come and go during the reading.
//
// A bad line is an error that names it, and does not keep the others from being yielded; all errors come joined, the
// first eight of them in words.
func ParseNet(r io.Reader, yield func(NetSocket)) error {
	return eachLine(r, func(number int, line []byte) error {
		fields := bytes.Fields(line)
		if number == 1 && len(fields) > 0 && string(fields[0]) == "sl" {
			return nil
		}
		s, err := parseNetSocket(fields, binary.NativeEndian)
		if err != nil {
			return err
		}
		yield(s)
		return nil
	})
}

// parseNetSocket reads the fields of one line. They are, after get_tcp4_sock of net/ipv4/tcp_ipv4.c,
//
//	0 number and colon   3 state             6 retransmissions   9 inode
//	1 local address      4 tx:rx queue       7 UID               10 … depend on protocol and state
//	2 remote address     5 timer:expiry      8 timeout
//
// 1 to 6 in hexadecimal, 7 to 9 in decimal digits.
func parseNetSocket(fields [][]byte, order binary.ByteOrder) (NetSocket, error) {
	if len(fields) < 10 || !bytes.HasSuffix(fields[0], []byte(":")) {
		return NetSocket{}, errors.New("not a socket")
	}
	var s NetSocket
	var errs [5]error
	s.Local, errs[0] = parseNetAddr(fields[1], order)
	s.Remote, errs[1] = parseNetAddr(fields[2], order)
	state, err := parseHex(fields[3], 2)
	s.State, errs[2] = uint8(state), err
	s.UID, errs[3] = parseUID(fields[7])
	inode, err := parseInt(fields[9], 0, math.MaxInt64)
	s.Inode, errs[4] = uint64(inode), err
	if err := errors.Join(errs[:]...); err != nil {
		return NetSocket{}, err
	}
	if s.Local.Addr().BitLen() != s.Remote.Addr().BitLen() {
		return NetSocket{}, fmt.Errorf("addresses %v and %v are of different families", s.Local, s.Remote)
	}
	return s, nil
}

// parseNetAddr reads an address and a port: one 32-bit word, or four, and a 16-bit number. The words are the address
// as it is in memory, printed as numbers of this host, so that 127.0.0.1 is 0100007F on a little-endian machine; the
// port is the number that it is everywhere.
func parseNetAddr(b []byte, order binary.ByteOrder) (netip.AddrPort, error) {
	host, port, _ := bytes.Cut(b, []byte(":"))
	n, err := parseHex(port, 4)
	if err != nil || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address", quote(b))
	}
	var memory [16]byte
	for i := range len(host) / 8 {
		word, err := parseHex(host[8*i:8*i+8], 8)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%s is not an address", quote(b))
		}
		order.PutUint32(memory[4*i:], uint32(word))
	}
	addr := netip.AddrFrom16(memory)
	if len(host) == 8 {
		addr = netip.AddrFrom4([4]byte(memory[:4]))
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}
