package inetdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// ErrInterrupted says that the sockets changed during the dump in such a way that some may be missing from it, or be
// in it twice: read on until done, then ask again.
var ErrInterrupted = errors.New("sock_diag: dump interrupted")

// maxErrno is the highest error number of Linux: MAX_ERRNO of include/linux/err.h.
const maxErrno = 4095

// Parse calls yield with each socket in a datagram that the kernel sent, in its order. One datagram holds any number
// of messages, one answer any number of datagrams: go on receiving until done, which is true for the last one, be it
// the end of a dump, an acknowledgement or a refusal.
//
// The error of a refusal wraps a syscall.Errno with Linux's numbering: EPERM, ENOENT for a protocol that the kernel
// has no diagnostics for, EINVAL for a family that it does not know. ErrInterrupted, which may come with and without
// done, does not concern the sockets of this datagram: they are all yielded. Any other error, done being false, says
// at which offset the datagram is not what it should be (one that was cut off because the buffer was too small
// included); the sockets before it have been yielded, what comes after is lost.
func Parse(datagram []byte, yield func(Socket)) (done bool, err error) {
	if len(datagram) == 0 {
		return false, errors.New("sock_diag: empty datagram")
	}
	interrupted := false
	for offset := 0; offset < len(datagram); {
		m, err := messageAt(datagram, offset)
		if err == nil {
			interrupted = interrupted || m.interrupted()
			done, err = m.deliver(yield)
		}
		switch {
		case err != nil && done:
			return true, fmt.Errorf("sock_diag: %w", err)
		case err != nil:
			return false, fmt.Errorf("sock_diag: message at offset %d: %w", offset, err)
		case done:
			return true, interruption(interrupted)
		}
		offset += m.size
	}
	return false, interruption(interrupted)
}

func interruption(interrupted bool) error {
	if interrupted {
		return ErrInterrupted
	}
	return nil
}

// A message is one netlink message in a datagram.
type message struct {
	kind, flags uint16
	body        []byte
	size        int // with header and padding; at least headerSize
}

// messageAt returns the message that begins at offset, which is in the datagram.
func messageAt(datagram []byte, offset int) (message, error) {
	rest := datagram[offset:]
	if len(rest) < headerSize {
		return message{}, fmt.Errorf("cut off: %d bytes left, a header has %d", len(rest), headerSize)
	}
	length := binary.NativeEndian.Uint32(rest)
	switch {
	case length < headerSize:
		return message{}, fmt.Errorf("length %d is less than the header's %d", length, headerSize)
	case uint64(length) > uint64(len(rest)):
		return message{}, fmt.Errorf("cut off: %d bytes left of %d", len(rest), length)
	}
	return message{
		kind:  binary.NativeEndian.Uint16(rest[4:]),
		flags: binary.NativeEndian.Uint16(rest[6:]),
		body:  rest[headerSize:length],
		size:  padded(int(length), len(rest)),
	}, nil
}

func (m message) interrupted() bool {
	return m.flags&flagDumpIntr != 0 || m.kind == typeOverrun
}

// deliver yields the socket that m is, or says that m ends the answer; an error is then the kernel's.
func (m message) deliver(yield func(Socket)) (done bool, err error) {
	switch m.kind {
	case typeNoop, typeOverrun:
		return false, nil
	case typeSockDiag:
		s, err := parseSocket(m.body)
		if err != nil {
			return false, err
		}
		yield(s)
		return false, nil
	case typeDone, typeError:
		errno, err := parseErrno(m)
		if err != nil {
			return false, err
		}
		if errno != 0 {
			return true, errno
		}
		return true, nil
	}
	return false, fmt.Errorf("unknown type %d", m.kind)
}

// padded returns length with the padding that follows it, as far as there is room for it. The last message or
// attribute may go without.
func padded(length, room int) int {
	padding := -length & (messageAlignment - 1)
	return length + min(padding, room-length)
}

// parseErrno reads the i32 that both NLMSG_DONE and NLMSG_ERROR begin with: 0, or an error number, negated. A DONE
// may come without.
func parseErrno(m message) (syscall.Errno, error) {
	if m.kind == typeDone && len(m.body) == 0 {
		return 0, nil
	}
	if len(m.body) < 4 {
		return 0, fmt.Errorf("cut off: %d bytes of an error number", len(m.body))
	}
	n := int32(binary.NativeEndian.Uint32(m.body))
	if n > 0 || n < -maxErrno {
		return 0, fmt.Errorf("error number %d is out of range", n)
	}
	return syscall.Errno(-n), nil
}

// parseSocket reads a struct inet_diag_msg and the attributes behind it.
func parseSocket(b []byte) (Socket, error) {
	if len(b) < answerSize {
		return Socket{}, fmt.Errorf("socket of %d bytes, want at least %d", len(b), answerSize)
	}
	s := Socket{Family: b[0], State: b[1], Timer: b[2]}
	if s.Family != FamilyIPv4 && s.Family != FamilyIPv6 {
		return Socket{}, fmt.Errorf("unknown family %d", s.Family)
	}
	s.readID(b[answerID:])
	word := func(n int) uint32 { return binary.NativeEndian.Uint32(b[answerExpires+4*n:]) }
	s.Expires = time.Duration(word(0)) * time.Millisecond
	s.ReceiveQueue, s.SendQueue = word(1), word(2)
	s.UID, s.Inode = word(3), word(4)
	return s, s.readAttributes(b[answerSize:])
}

// readID reads a struct inet_diag_sockid. The family must be known.
func (s *Socket) readID(id []byte) {
	s.Local = netip.AddrPortFrom(addr(id[idLocalAddr:], s.Family), binary.BigEndian.Uint16(id))
	s.Remote = netip.AddrPortFrom(addr(id[idRemoteAddr:], s.Family), binary.BigEndian.Uint16(id[idRemotePort:]))
	s.Interface = binary.NativeEndian.Uint32(id[idInterface:])
	s.Cookie = cookie(id[idCookie:])
}

// readAttributes takes what it knows from the attributes. Kernels add new ones, so others are passed over.
func (s *Socket) readAttributes(b []byte) error {
	for at := 0; at < len(b); {
		rest := b[at:]
		if len(rest) < attributeSize {
			return fmt.Errorf("attribute at %d: cut off: %d bytes left", answerSize+at, len(rest))
		}
		length := int(binary.NativeEndian.Uint16(rest))
		if length < attributeSize || length > len(rest) {
			return fmt.Errorf("attribute at %d: length %d, %d bytes left", answerSize+at, length, len(rest))
		}
		if binary.NativeEndian.Uint16(rest[2:]) == attributeV6Only {
			if length == attributeSize {
				return fmt.Errorf("attribute at %d: no value", answerSize+at)
			}
			s.V6Only = rest[attributeSize] != 0
		}
		at += padded(length, len(rest))
	}
	return nil
}
