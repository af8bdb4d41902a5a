package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// SocketInode returns the inode of the socket that link, the target of a symbolic link in /proc/PID/fd, stands for:
// 1234 for "socket:[1234]". A file may have that name too, but then its path begins with a slash.
func SocketInode(link string) (uint64, bool) {
	digits, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, "]")
	if !ok || strings.HasPrefix(digits, "0") {
		return 0, false
	}
	inode, err := strconv.ParseUint(digits, 10, 64)
	return inode, err == nil
}

// ErrRingBusy says that the kernel tells nothing of an io_uring because a thread is at work in it at this moment. Of a
// ring under full load nine readings in ten end so (measured on 6.18): ask again, and if that does not help, say
// that what it holds is hidden, for it is not nothing.
var ErrRingBusy = errors.New("io_uring: busy")

// maxRingFiles is IORING_MAX_FIXED_FILES of io_uring/rsrc.c.
const maxRingFiles = 1 << 20

// ParseIOUringFiles returns the inodes of the sockets that are registered with an io_uring, in the order of their
// slots, from /proc/PID/fdinfo/FD where FD is the ring ("anon_inode:[io_uring]"). A registered socket stays open when
// its descriptor is closed, and then this is the only trace of it.
//
// The section is a head with the number of slots and a line for each that is in use (__io_uring_show_fdinfo of
// io_uring/fdinfo.c), the slot at least five columns wide; names are escaped, and those of files begin with a slash:
//
//	UserFiles:	20000
//	    0: socket:[1234]
//	12345: /srv/a\040b
//
// Before Linux 6.14 a line has the bare name instead, not escaped, which for a socket is its protocol ("TCP"): no inode
// is found there, save one that the process made up. A file without the section gives ErrRingBusy.
func ParseIOUringFiles(r io.Reader) ([]uint64, error) {
	var inodes []uint64
	var found, inside bool
	err := eachLine(r, func(_ int, line []byte) error {
		if len(line) > 0 && isLetter(line[0]) {
			inside = bytes.HasPrefix(line, []byte("UserFiles:"))
			found = found || inside
			return nil
		}
		if !inside {
			return nil
		}
		inode, err := parseRingFile(line)
		if inode == 0 || err != nil {
			return err
		}
		if len(inodes) == maxRingFiles {
			return errors.New("too many files")
		}
		inodes = append(inodes, inode)
		return nil
	})
	switch {
	case err != nil:
		return inodes, fmt.Errorf("io_uring: %w", err)
	case !found:
		return nil, ErrRingBusy
	}
	return inodes, nil
}

// parseRingFile returns the inode in the line of a slot, 0 when something else than a socket is in it.
func parseRingFile(line []byte) (uint64, error) {
	slot, name, ok := bytes.Cut(bytes.TrimLeft(line, " "), []byte(": "))
	if !ok {
		return 0, fmt.Errorf("%s is not a registered file", quote(line))
	}
	if _, err := parseInt(slot, 0, maxRingFiles-1); err != nil {
		return 0, err
	}
	inode, _ := SocketInode(string(name))
	return inode, nil
}

// ParseCmdline returns the arguments in /proc/PID/cmdline, which are NUL-terminated; nil for a kernel thread or a
// zombie, which have none. A program that writes a title over its arguments leaves NULs behind it, so that empty
// arguments at the end, which cannot be told from those, are left out. The bytes are the program's own, valid UTF-8
// or not, and as many as it likes: the caller bounds what it reads.
func ParseCmdline(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}
