package procfs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Values of ProcMount.HidePID, HIDEPID_* of include/linux/proc_fs.h: what a user may see of the processes of others.
const (
	HidePIDOff        = 0
	HidePIDNoAccess   = 1 // that they are there, but not what is in their directories
	HidePIDInvisible  = 2 // nothing
	HidePIDPtraceable = 4 // nothing, unless ptrace(2) of it is allowed; since Linux 5.8
)

// A ProcMount says how the proc file system at /proc is mounted.
type ProcMount struct {
	Found     bool // there is one, whole, and nothing is mounted over it
	HidePID   int  // one of HidePID…
	SubsetPID bool // it has processes and nothing else, no /proc/net for one (subset=pid, since Linux 5.8)
}

// maxProcMounts bounds the file systems that are mounted at /proc, one over the other.
const maxProcMounts = 1 << 12

// ParseProcMount finds the file system at /proc in a /proc/PID/mountinfo (proc_pid_mountinfo(5)). Of several that are
// mounted there, one over the other, the last one counts, and if that is not proc then there is none to be seen. A line
// that cannot be parsed is an error that names it; the result is then what the other lines say.
func ParseProcMount(r io.Reader) (ProcMount, error) {
	var mounts []mount
	err := eachLine(r, func(_ int, line []byte) error {
		m, err := parseMount(line)
		if m.point != "/proc" {
			return err
		}
		if len(mounts) == maxProcMounts {
			return errors.New("too many mounts at /proc")
		}
		mounts = append(mounts, m)
		return err
	})
	if err != nil {
		err = fmt.Errorf("mountinfo: %w", err)
	}
	return topmost(mounts).proc, err
}

// topmost returns the mount that is not covered by another one. They are listed by their IDs, and one that was moved
// (mount --move) is older than what it covers, so the order does not tell; but each one's parent is the one below it.
func topmost(mounts []mount) mount {
	covered := make(map[int64]bool)
	for _, m := range mounts {
		covered[m.parent] = true
	}
	for _, m := range slices.Backward(mounts) {
		if !covered[m.id] {
			return m
		}
	}
	return mount{}
}

// A mount is a line of mountinfo. With a point that is not /proc the rest is not read.
type mount struct {
	id, parent int64
	point      string
	proc       ProcMount
}

// parseMount reads one line (show_mountinfo of fs/proc_namespace.c):
//
//	ID parent major:minor root point options [optional…] - type source superoptions
//
// with one space between fields, and octal escapes for spaces in them. The source may be empty.
func parseMount(line []byte) (mount, error) {
	fields := strings.Split(string(line), " ")
	if len(fields) < 6 {
		return mount{}, fmt.Errorf("%d fields, want at least 10", len(fields))
	}
	m := mount{point: unescapeOctal(fields[4])}
	if m.point != "/proc" {
		return m, nil
	}
	var errs [3]error
	m.id, errs[0] = parseInt([]byte(fields[0]), 0, 1<<31-1)
	m.parent, errs[1] = parseInt([]byte(fields[1]), 0, 1<<31-1)
	dash := slices.Index(fields[6:], "-")
	if dash < 0 || len(fields) != 6+dash+4 {
		return m, errors.New("no file system type")
	}
	kind, options := fields[6+dash+1], fields[6+dash+3]
	if kind == "proc" && fields[3] == "/" {
		m.proc, errs[2] = parseProcOptions(options)
	}
	return m, errors.Join(errs[:]...)
}

// parseProcOptions reads the options of a proc file system (proc_show_options of fs/proc/root.c). Linux writes hidepid
// as a word since 5.8, as a number before.
func parseProcOptions(options string) (ProcMount, error) {
	p := ProcMount{Found: true}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "hidepid":
			level, ok := hidePIDLevels[value]
			if !ok {
				return p, fmt.Errorf("unknown hidepid %s", quote([]byte(value)))
			}
			p.HidePID = level
		case "subset":
			if value != "pid" {
				return p, fmt.Errorf("unknown subset %s", quote([]byte(value)))
			}
			p.SubsetPID = true
		}
	}
	return p, nil
}

var hidePIDLevels = map[string]int{
	"0": HidePIDOff, "off": HidePIDOff,
	"1": HidePIDNoAccess, "noaccess": HidePIDNoAccess,
	"2": HidePIDInvisible, "invisible": HidePIDInvisible,
	"4": HidePIDPtraceable, "ptraceable": HidePIDPtraceable,
}

// unescapeOctal undoes mangle_path of fs/seq_file.c: a backslash and three octal digits are a byte.
func unescapeOctal(s string) string {
	before, after, found := strings.Cut(s, `\`)
	if !found {
		return s
	}
	b := []byte(before)
	for found {
		if c, ok := octal(after); ok {
			b = append(b, c)
			after = after[3:]
		} else {
			b = append(b, '\\')
		}
		before, after, found = strings.Cut(after, `\`)
		b = append(b, before...)
	}
	return string(b)
}

// octal reads the three digits that s begins with.
func octal(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] > '3' {
		return 0, false
	}
	for i := range 3 {
		if s[i] < '0' || s[i] > '7' {
			return 0, false
		}
		c = c<<3 | (s[i] - '0')
	}
	return c, true
}
