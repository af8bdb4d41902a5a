package process

import (
	"strconv"
	"strings"
)

// Moment is a point on the clock that births are told by. Linux: clock ticks
// since boot, of 10 ms. Windows: units of 100 ns since 1601, as of the last tick
// of the clock.
type Moment uint64

// Now is the birth that a process would have that were born now.
func Now() Moment { return now() }

// Since reports whether a process of this boot with that birth was born at m or
// after it. What was born within the tick of m cannot be told apart, and counts.
func (b Birth) Since(m Moment) bool {
	parts := strings.Split(string(b), ":")
	if len(parts) < 2 {
		return false
	}
	at, err := strconv.ParseUint(parts[1], 10, 64)
	return err == nil && Moment(at) >= m
}

// OfThisBoot reports whether b is provably the birth of a process of this boot. Only
// Linux tells, and not where /proc has no more than processes (subset=pid).
func (b Birth) OfThisBoot() bool {
	boot, err := bootID()
	return err == nil && boot != "" && b.boot() == boot
}

// Born returns the PIDs of children of the parents that were born at since or
// after it.
func Born(parents []int, since Moment) []int { return born(parents, since) }

// Newest is the PID that was given away last, to a process or a thread, where they
// are given away in ascending order; 0 where that is unknown.
func Newest() int { return newest() }

// Newcomers are the PIDs that were given away after one, in their order: of
// processes that are there, of threads, and of those that have ended. The latest
// few hundred are enough for whoever looks often.
func Newcomers(after int) []int { return newcomers(after, Newest()) }

// newcomers come after one up to the last. Where that is lower, the numbers have
// begun again at the bottom, above some hundred that are never given twice
// (RESERVED_PIDS of kernel/pid.c), and how far they went before is unknown.
func newcomers(after, last int) (pids []int) {
	const most = 512
	add := func(from, to int) {
		for pid := max(from, 2); pid <= to; pid++ {
			pids = append(pids, pid)
		}
	}
	if after > last {
		add(after+1, min(after+most, MaxPID))
		after = 1
	}
	add(max(after+1, last-most+1), last)
	return pids
}
