package process

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/procfs"
)

// hold stops the process, unless it stands already, and waits for all of its
// threads. Nobody but its parent is told when they do (waitid(2), WSTOPPED), so
// that /proc is asked again and again.
func (p *Pin) hold(limit time.Duration) error {
	if p.stands() {
		return nil
	}
	p.mark(true)
	if err := p.signal(unix.SIGSTOP); err != nil {
		p.mark(false)
		return err
	}
	end := time.Now().Add(limit)
	for pause := 20 * time.Microsecond; !p.stands(); pause = min(2*pause, time.Millisecond) {
		if p.exited() {
			p.mark(false)
			return ErrGone
		}
		if time.Now().After(end) {
			return errors.Join(errMoves, p.resume())
		}
		time.Sleep(pause)
	}
	return nil
}

// errMoves says that a process that was told to stop did not, as one in vfork(2).
var errMoves = errors.New("it does not stand still")

// resume undoes hold, and nobody else's SIGSTOP.
func (p *Pin) resume() error {
	if !p.held {
		return nil
	}
	err := p.signal(unix.SIGCONT)
	p.mark(false)
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

// mark notes whether the process is held.
func (p *Pin) mark(held bool) {
	switch {
	case held && !p.held:
		holding.Add(1)
	case p.held && !held:
		holding.Add(-1)
	}
	p.held = held
}

// stands reports whether no thread of the process runs: each is stopped, by a
// signal or a tracer, or has ended.
func (p *Pin) stands() bool {
	tasks, err := p.tasks()
	for _, task := range tasks {
		b, err := p.read(task + "stat")
		if err != nil { // it has ended just now
			continue
		}
		if stat, err := procfs.ParseStat(b); err != nil || !strings.ContainsRune("TtZX", rune(stat.State)) {
			return false
		}
	}
	return err == nil && len(tasks) > 0
}

// newest is the last field of /proc/loadavg: "the PID of the process that was
// most recently created on the system" (proc_loadavg(5)), and more exactly in the
// PID namespace of who reads (loadavg_proc_show, fs/proc/loadavg.c).
func newest() int {
	b, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) == 0 || visible() != nil {
		return 0
	}
	pid, _ := strconv.Atoi(fields[len(fields)-1])
	return pid
}

// now is CLOCK_BOOTTIME, on which stat has the start of a process: do_task_stat of
// fs/proc/array.c, in the time namespace of who reads, as this clock is.
func now() Moment {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return Moment(t.Nano() / (int64(time.Second) / userHz))
}

func born(parents []int, since Moment) []int {
	var pids []int
	for _, parent := range parents {
		for _, child := range children(parent) {
			stat, err := readStat(child)
			if err == nil && stat.PPID == parent && Moment(stat.StartTicks) >= since {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
