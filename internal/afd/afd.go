// Package afd reads what AFD, the driver behind the sockets of Windows, answers when a handle is asked about its
// socket. It makes no system call, and runs everywhere.
//
// Microsoft documents neither the requests nor the answers; they are those of
// https://github.com/winsiderss/systeminformer, phnt/include/ntafd.h.
package afd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Requests of NtDeviceIoControlFile that change nothing.
const (
	GetAddress = 0x1202F // IOCTL_AFD_GET_ADDRESS: the local address, see ParseAddress
	GetContext = 0x12043 // IOCTL_AFD_GET_CONTEXT: what Winsock keeps with a socket, see ParseContext
)

// Requests of Wine's driver, which does not know the latter (wine, include/wine/afd.h): see ParseWine.
const (
	WineGetInfo       = 0x120368 // IOCTL_AFD_WINE_GET_INFO
	WineGetAcceptConn = 0x12036C // IOCTL_AFD_WINE_GET_SO_ACCEPTCONN
)

// MaxAnswer is room, in bytes, for each answer.
const MaxAnswer = 1024

// Families and types of ws2def.h and winsock2.h.
const (
	familyIPv4 = 2
	familyIPv6 = 23
	typeStream = 1
	typeDgram  = 2
)

// ParseAddress reads a SOCKADDR_IN or SOCKADDR_IN6 (ws2def.h, ws2ipdef.h): the family is little-endian, the port and
// the address are in network byte order. The address has no zone.
func ParseAddress(b []byte) (netip.AddrPort, error) {
	if len(b) < 8 {
		return netip.AddrPort{}, fmt.Errorf("an address of %d bytes", len(b))
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.LittleEndian.Uint16(b); {
	case family == familyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port), nil
	case family == familyIPv6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])), port), nil
	default:
		return netip.AddrPort{}, fmt.Errorf("an address of family %d in %d bytes", family, len(b))
	}
}

// A Kind is what a socket is for.
type Kind struct {
	Datagram  bool // UDP; else TCP
	Listening bool // TCP only
}

// ParseContext reads a SOCK_SHARED_INFO, as far as it is used here:
//
//	0 State           8 SocketType  16, 20 lengths of addresses  28 … 40 four options
//	4 AddressFamily  12 Protocol    24     linger                44      flags: 1 is Listening
//
// All are 32-bit numbers, but for the flags, which take 16 bits; all are little-endian. Winsock writes it whenever
// something changes, so that a process which inherits the socket finds it there.
func ParseContext(b []byte) (Kind, error) {
	const family, kind, flags = 4, 8, 44
	const listening = 1
	if len(b) < flags+2 {
		return Kind{}, fmt.Errorf("a context of %d bytes", len(b))
	}
	return kindOf(binary.LittleEndian.Uint32(b[family:]), binary.LittleEndian.Uint32(b[kind:]),
		binary.LittleEndian.Uint16(b[flags:])&listening != 0)
}

// ParseWine reads what Wine answers to both of its requests: three 32-bit numbers, family, type and protocol, and one
// that is 0 unless the socket listens.
func ParseWine(info, acceptConn []byte) (Kind, error) {
	if len(info) < 12 || len(acceptConn) < 4 {
		return Kind{}, fmt.Errorf("answers of %d and %d bytes", len(info), len(acceptConn))
	}
	return kindOf(binary.LittleEndian.Uint32(info), binary.LittleEndian.Uint32(info[4:]), binary.LittleEndian.Uint32(acceptConn) != 0)
}

func kindOf(family, kind uint32, listening bool) (Kind, error) {
	if family != familyIPv4 && family != familyIPv6 || kind != typeStream && kind != typeDgram {
		return Kind{}, fmt.Errorf("a socket of family %d and type %d", family, kind)
	}
	return Kind{Datagram: kind == typeDgram, Listening: kind == typeStream && listening}, nil
}
