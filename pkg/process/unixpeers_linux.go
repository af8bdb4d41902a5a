package process

import (
	"encoding/binary"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// unixPeers are the inodes of the sockets at the other ends of unix sockets, by
// inode. ksh has those in place of pipes (socketpair(2)), and so has Node.js. Where the kernel
// does not tell, nobody is known to have an other end.
var unixPeers = sync.OnceValue(func() map[uint64]uint64 {
	peers := map[uint64]uint64{}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return peers
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, unixRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return peers
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := retry(func() (int, error) {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			return n, err
		})
		if err != nil || !readPeers(buf[:n], peers) {
			return peers
		}
	}
})

// unixRequest asks for all unix sockets with their peers: nlmsghdr of
// include/uapi/linux/netlink.h, in native byte order, and unix_diag_req of
// include/uapi/linux/unix_diag.h (Linux 3.3).
func unixRequest() []byte {
	const (
		byFamily   = 20    // SOCK_DIAG_BY_FAMILY
		dump       = 0x301 // NLM_F_REQUEST | NLM_F_DUMP
		everyState = 1<<32 - 1
		showPeer   = 0x4 // UDIAG_SHOW_PEER
		size       = 16 + 24
	)
	order := binary.NativeEndian
	b := order.AppendUint32(nil, size)
	b = order.AppendUint16(b, byFamily)
	b = order.AppendUint16(b, dump)
	b = order.AppendUint64(b, 1)         // sequence and port
	b = append(b, unix.AF_UNIX, 0, 0, 0) // family, protocol, padding
	b = order.AppendUint32(b, everyState)
	b = order.AppendUint32(b, 0) // any inode
	b = order.AppendUint32(b, showPeer)
	return append(b, make([]byte, size-len(b))...) // any cookie
}

// readPeers reads one datagram; it is false at the end of the dump.
func readPeers(b []byte, peers map[uint64]uint64) (more bool) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false
	}
	for _, m := range messages {
		const header, peer = 16, 2 // unix_diag_msg; UNIX_DIAG_PEER
		if m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR || len(m.Data) < header {
			return false
		}
		inode := binary.NativeEndian.Uint32(m.Data[4:])
		for at := m.Data[header:]; len(at) >= 4; {
			size, kind := int(binary.NativeEndian.Uint16(at)), binary.NativeEndian.Uint16(at[2:])
			if kind == peer && size == 8 && len(at) >= 8 {
				peers[uint64(inode)] = uint64(binary.NativeEndian.Uint32(at[4:]))
			}
			if size = (size + 3) &^ 3; size < 4 || size > len(at) {
				break
			}
			at = at[size:]
		}
	}
	return true
}
