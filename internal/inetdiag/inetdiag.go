// Package inetdiag encodes requests to, and parses answers from, the sock_diag interface of the Linux kernel
// (sock_diag(7), netlink(7)): which internet sockets there are in this network namespace.
//
// It only turns values into bytes and bytes into values, and so it compiles wherever there is a syscall.Errno, which
// is everywhere but Plan 9; opening the netlink socket, sending and receiving are the caller's. A dump is of one family
// and one protocol: an IPv6 socket that also takes IPv4 connections shows up under FamilyIPv6 alone, so a complete
// answer needs both families.
//
// Byte order: everything in netlink is in the order of the host, except ports and addresses, which are in network
// order. Layouts are those of include/uapi/linux/{netlink,sock_diag,inet_diag}.h, unchanged since Linux 3.3.
package inetdiag

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// Values of Request.Family and Socket.Family: AF_INET and AF_INET6 of include/linux/socket.h. They are Linux's on
// every OS that this package is compiled on.
const (
	FamilyIPv4 = 2
	FamilyIPv6 = 10
)

// Values of Request.Protocol: IPPROTO_TCP and IPPROTO_UDP of include/uapi/linux/in.h.
const (
	ProtocolTCP = 6
	ProtocolUDP = 17
)

// Values of Socket.State, and bit numbers in Request.States: the TCP_* enumeration of include/net/tcp_states.h.
// An unconnected UDP socket is in StateClose, a connected one in StateEstablished.
const (
	StateEstablished = 1
	StateSynSent     = 2
	StateSynRecv     = 3
	StateFinWait1    = 4
	StateFinWait2    = 5
	StateTimeWait    = 6
	StateClose       = 7
	StateCloseWait   = 8
	StateLastAck     = 9
	StateListen      = 10
	StateClosing     = 11
	StateNewSynRecv  = 12

	// StateBoundInactive asks for TCP sockets that have a port but neither listen nor connect. Linux 6.8 and later
	// know it, older kernels ignore the bit. Such a socket is reported as StateClose, and the kernel does not
	// apply Request.Port to it (measured on 6.18): see Request.Matches.
	StateBoundInactive = 13

	// StatesAll is a Request.States with every bit set.
	StatesAll = math.MaxUint32
)

// From include/uapi/linux/netlink.h and include/uapi/linux/sock_diag.h.
const (
	typeNoop         = 0x1  // NLMSG_NOOP
	typeError        = 0x2  // NLMSG_ERROR
	typeDone         = 0x3  // NLMSG_DONE
	typeOverrun      = 0x4  // NLMSG_OVERRUN
	typeSockDiag     = 20   // SOCK_DIAG_BY_FAMILY
	typeSockDestroy  = 21   // SOCK_DESTROY, since Linux 4.5
	flagRequest      = 0x01 // NLM_F_REQUEST
	flagAck          = 0x04 // NLM_F_ACK
	flagDumpIntr     = 0x10 // NLM_F_DUMP_INTR
	flagDump         = 0x300
	messageAlignment = 4 // NLMSG_ALIGNTO, and NLA_ALIGNTO of attributes
)

// Offsets in, and sizes of, the structures. All are packed without gaps.
const (
	// struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid }
	headerSize = 16

	// struct inet_diag_sockid { be16 sport, dport; be32 src[4], dst[4]; u32 if, cookie[2] }
	idRemotePort = 2
	idLocalAddr  = 4
	idRemoteAddr = 20
	idInterface  = 36
	idCookie     = 40
	idSize       = 48

	// struct inet_diag_req_v2 { u8 family, protocol, ext, pad; u32 states; struct inet_diag_sockid id }
	requestStates = 4
	requestID     = 8
	requestSize   = requestID + idSize

	// struct inet_diag_msg { u8 family, state, timer, retrans; struct inet_diag_sockid id;
	// u32 expires, rqueue, wqueue, uid, inode }
	answerID      = 4
	answerExpires = answerID + idSize
	answerSize    = answerExpires + 5*4

	// struct nlattr { u16 len; u16 type }, the length counting these four bytes.
	attributeSize = 4
	// INET_DIAG_SKV6ONLY: one u8, 0 or 1.
	attributeV6Only = 11
)

// noCookie is a cookie of two INET_DIAG_NOCOOKIE words: the kernel takes it to match every socket.
const noCookie = math.MaxUint64

// A Request asks for all sockets of one family and protocol that are in one of States.
type Request struct {
	Family   uint8  // FamilyIPv4 or FamilyIPv6
	Protocol uint8  // ProtocolTCP or ProtocolUDP
	States   uint32 // bits 1<<State…; with none set the kernel answers with nothing
	Port     uint16 // local port; 0 for every port
	Seq      uint32 // comes back in each message of the answer
}

// Marshal returns the request as one netlink message (72 bytes), ready to be sent to the kernel.
func (r Request) Marshal() []byte {
	b := newMessage(typeSockDiag, flagRequest|flagDump, r.Seq)
	body := b[headerSize:]
	body[0], body[1] = r.Family, r.Protocol
	binary.NativeEndian.PutUint32(body[requestStates:], r.States)
	binary.BigEndian.PutUint16(body[requestID:], r.Port)
	return b
}

// Matches reports whether s has the family and the port that r asks for. What Parse yields has to be put to this
// test when r.States has the bit of StateBoundInactive, and it does no harm otherwise.
func (r Request) Matches(s Socket) bool {
	return s.Family == r.Family && (r.Port == 0 || r.Port == s.Local.Port())
}

// A Socket is one socket as the kernel describes it in struct inet_diag_msg.
type Socket struct {
	Family uint8 // FamilyIPv4 or FamilyIPv6
	State  uint8 // one of State…

	// Local and Remote have no zone, and are of Family: an IPv4 connection of an IPv6 socket has addresses of
	// the form ::ffff:127.0.0.1. A socket without peer has the remote 0.0.0.0:0 or [::]:0.
	Local, Remote netip.AddrPort

	Interface uint32 // index of the network interface that it is bound to; 0 for none
	Cookie    uint64 // never used again until the next boot
	Timer     uint8  // 0 none, 1 retransmission, 2 keepalive, 3 TIME_WAIT, 4 zero window probe

	// Expires is when Timer fires, from now; the kernel counts in milliseconds.
	Expires time.Duration

	// ReceiveQueue counts bytes that are not read yet, SendQueue bytes that are not acknowledged yet. For a
	// listener they are the connections that wait to be accepted, and how many may.
	ReceiveQueue, SendQueue uint32

	UID   uint32 // who made the socket, in the user namespace of the asking netlink socket
	Inode uint32 // of the file in sockfs, the number in "socket:[…]"; 0 when no file has it (TIME_WAIT)

	// V6Only is IPV6_V6ONLY. The kernel tells it of IPv6 sockets in StateListen and StateClose; it is false for
	// all others.
	V6Only bool
}

// Destroy returns a netlink message that asks the kernel to close s (SOCK_DESTROY, Linux 4.5 with
// CONFIG_INET_DIAG_DESTROY, needs CAP_NET_ADMIN). The answer, for Parse, is an acknowledgement: done with no error, or
// with ENOENT when there is no such socket any more, EPERM, EOPNOTSUPP when the kernel is built without it, EINVAL for
// the TCP part of an MPTCP socket (measured on 6.18), which is what every Go server listens on by default.
//
// The socket is named by its addresses, its interface and its cookie, so that no other is closed in its place. Destroy
// returns nil when that is not possible: a cookie of zero or one that matches every socket, or addresses that are not
// of s.Family.
func Destroy(s Socket, protocol uint8, seq uint32) []byte {
	if s.Cookie == 0 || s.Cookie == noCookie {
		return nil
	}
	b := newMessage(typeSockDestroy, flagRequest|flagAck, seq)
	body := b[headerSize:]
	body[0], body[1] = s.Family, protocol
	id := body[requestID:]
	if !putAddr(id[idLocalAddr:], s.Family, s.Local.Addr()) || !putAddr(id[idRemoteAddr:], s.Family, s.Remote.Addr()) {
		return nil
	}
	binary.BigEndian.PutUint16(id, s.Local.Port())
	binary.BigEndian.PutUint16(id[idRemotePort:], s.Remote.Port())
	binary.NativeEndian.PutUint32(id[idInterface:], s.Interface)
	putCookie(id[idCookie:], s.Cookie)
	return b
}

// newMessage returns a message with its header and an empty struct inet_diag_req_v2.
func newMessage(kind, flags uint16, seq uint32) []byte {
	b := make([]byte, headerSize+requestSize)
	binary.NativeEndian.PutUint32(b, headerSize+requestSize)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return b
}

// putAddr writes a as be32[4] and reports whether a is of the family. IPv4 takes the first word.
func putAddr(b []byte, family uint8, a netip.Addr) bool {
	switch {
	case family == FamilyIPv4 && a.Is4():
		a4 := a.As4()
		copy(b, a4[:])
	case family == FamilyIPv6 && a.Is6():
		a16 := a.As16()
		copy(b, a16[:])
	default:
		return false
	}
	return true
}

// addr reads be32[4].
func addr(b []byte, family uint8) netip.Addr {
	if family == FamilyIPv4 {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b))
}

// A cookie is two words, the lower one first whatever the byte order of the host (sock_diag_save_cookie of
// net/core/sock_diag.c).
func putCookie(b []byte, cookie uint64) {
	binary.NativeEndian.PutUint32(b, uint32(cookie))
	binary.NativeEndian.PutUint32(b[4:], uint32(cookie>>32))
}

func cookie(b []byte) uint64 {
	return uint64(binary.NativeEndian.Uint32(b)) | uint64(binary.NativeEndian.Uint32(b[4:]))<<32
}
