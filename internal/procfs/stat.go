package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// Bits of Stat.Flags, PF_* of include/linux/sched.h.
const (
	flagExiting      = 0x00000004 // PF_EXITING
	flagKernelThread = 0x00200000 // PF_KTHREAD
)

// A Stat is what /proc/PID/stat and /proc/PID/task/TID/stat say, as far as it is of use here. IDs are those of the PID
// namespace that /proc was mounted in.
type Stat struct {
	PID     int
	Comm    string // at most 15 bytes, for a kernel worker 63; any bytes, valid UTF-8 or not
	State   byte   // R, S, D, Z, T, t, I, X …
	PPID    int    // 0 for a process of which the parent is not in the namespace
	PGRP    int    // process group; 0 when it is not in the namespace, -1 for a task that is about to vanish
	Session int    // likewise
	TTY     int    // device number of the controlling terminal; 0 for none
	Flags   uint32 // PF_… of include/linux/sched.h, which may change with every release of Linux
	Threads int    // 0 for a task that is about to vanish

	// StartTicks is when the task started, in clock ticks after boot: field 22. A second has 100 of them (USER_HZ).
	StartTicks uint64
}

// KernelThread reports whether the task is a thread of the kernel, which nobody can end.
func (s Stat) KernelThread() bool { return s.Flags&flagKernelThread != 0 }

// Exiting reports whether the task is on its way out, or a zombie. Signals do nothing to it any more.
func (s Stat) Exiting() bool { return s.Flags&flagExiting != 0 }

// ParseStat parses /proc/PID/stat: one line of fields with one space between them (do_task_stat of fs/proc/array.c).
// The second field is the name in parentheses, which may itself hold spaces, parentheses and newlines; nothing after
// it does, so that the last parenthesis ends it.
func ParseStat(b []byte) (Stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return Stat{}, errors.New("stat: no name in parentheses")
	}
	head, ok := bytes.CutSuffix(b[:open], []byte(" "))
	if !ok {
		return Stat{}, errors.New("stat: no space before the name")
	}
	tail, ok := bytes.CutPrefix(b[end+1:], []byte(" "))
	if !ok {
		return Stat{}, errors.New("stat: no space after the name")
	}
	f := statFields{fields: bytes.Split(tail, []byte(" "))}
	s := Stat{
		Comm:       string(b[open+1 : end]),
		State:      f.letter(3),
		PPID:       int(f.number(4, 0, pidLimit)),
		PGRP:       int(f.number(5, -1, pidLimit)),
		Session:    int(f.number(6, -1, pidLimit)),
		TTY:        int(f.number(7, math.MinInt32, math.MaxInt32)),
		Flags:      uint32(f.number(9, 0, math.MaxUint32)),
		Threads:    int(f.number(20, 0, pidLimit)),
		StartTicks: uint64(f.number(22, 0, math.MaxInt64)),
	}
	if f.err != nil {
		return Stat{}, f.err
	}
	pid, err := parseInt(head, 1, pidLimit)
	if err != nil {
		return Stat{}, fmt.Errorf("stat: field 1: %w", err)
	}
	s.PID = int(pid)
	return s, nil
}

// statFields holds the fields after the name, and the first error in reading them.
type statFields struct {
	fields [][]byte
	err    error
}

// field returns field n, counted as in proc(5), from 1. There has to be another one behind it: all of those that
// are read here are in the middle of the line, and the last one of a line that was cut off may not be complete.
func (f *statFields) field(n int) []byte {
	const first = 3 // field 3 is the first one behind the name
	if n-first+1 >= len(f.fields) {
		f.fail(n, errCutOff)
		return nil
	}
	return f.fields[n-first]
}

func (f *statFields) number(n int, low, high int64) int64 {
	field := f.field(n)
	if f.err != nil {
		return 0
	}
	value, err := parseInt(field, low, high)
	f.fail(n, err)
	return value
}

func (f *statFields) letter(n int) byte {
	field := f.field(n)
	if len(field) != 1 || !isLetter(field[0]) {
		f.fail(n, fmt.Errorf("%s is not a state", quote(field)))
		return 0
	}
	return field[0]
}

func (f *statFields) fail(n int, err error) {
	if f.err == nil && err != nil {
		f.err = fmt.Errorf("stat: field %d: %w", n, err)
	}
}
