package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/killport/killport/internal/procfs"
)

func (p *Pin) inspect() (Info, error) {
	stat, err := p.stat()
	if err != nil {
		return Info{}, err
	}
	info := Info{
		PID:     p.pid,
		PPID:    stat.PPID,
		Group:   stat.PGRP,
		Name:    stat.Comm,
		Started: startTime(stat.StartTicks),
		Kernel:  stat.KernelThread(),
	}
	info.Exe, _ = os.Readlink(p.path("exe")) // not ours to read: left empty
	info.Argv, info.Truncated = p.argv()
	if p.exited() { // then its PID may have been another's while we read
		return Info{}, ErrGone
	}
	return info, nil
}

// argv reads the command line, which is in the memory of the process: one
// that hangs in its file system may keep the reader waiting, so there is a
// limit to the time as well.
func (p *Pin) argv() ([]string, bool) {
	const patience = 200 * time.Millisecond
	got := make(chan []byte, 1)
	go func() {
		f, err := os.Open(p.path("cmdline"))
		if err != nil {
			got <- nil
			return
		}
		defer f.Close()
		b, _ := io.ReadAll(io.LimitReader(f, MaxArgv+1))
		got <- b
	}()
	select {
	case b := <-got:
		return procfs.ParseCmdline(b[:min(len(b), MaxArgv)]), len(b) > MaxArgv
	case <-time.After(patience):
		return nil, true
	}
}

// userHz is USER_HZ: the unit of times in /proc is 1/100 s on every
// architecture that Go runs on (include/asm-generic/param.h).
const userHz = 100

// startTime turns clock ticks since boot into the time of day.
func startTime(ticks uint64) time.Time {
	boot := bootTime()
	if boot == 0 {
		return time.Time{}
	}
	return time.Unix(boot, 0).Add(time.Duration(ticks) * (time.Second / userHz)).UTC()
}

// bootTime is the line "btime" of /proc/stat, in seconds since the epoch.
var bootTime = sync.OnceValue(func() int64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte("\nbtime "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, _ := strconv.ParseInt(string(line), 10, 64)
	return n
})

func (p *Pin) obstacle() Obstacle {
	stat, err := p.stat()
	if err != nil {
		return Obstacle{}
	}
	wchan, _ := p.read("wchan")
	where := strings.TrimSpace(string(wchan))
	var status procfs.Status
	if b, err := p.read("status"); err == nil {
		status, _ = procfs.ParseStatus(b)
	}
	switch {
	// kernel/freezer.c (cgroup v1) and kernel/cgroup/freezer.c by kernel/signal.c (v2)
	case where == "__refrigerator" || where == "do_freezer_trap":
		return Obstacle{"frozen", where}
	case status.TracerPID != 0:
		return Obstacle{"traced", strconv.Itoa(status.TracerPID)}
	case stat.Exiting():
		return Obstacle{"exiting", where}
	case stat.State == 'D':
		return Obstacle{"uninterruptible", where}
	}
	return Obstacle{}
}

func visible() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	if self != strconv.Itoa(os.Getpid()) {
		return errors.New("/proc shows the processes of another PID namespace")
	}
	return nil
}

func all() ([]int, error) {
	if err := visible(); err != nil {
		return nil, err
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

func mayTraceAll() bool {
	const capSysPtrace = 19 // include/uapi/linux/capability.h
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	status, err := procfs.ParseStatus(b)
	return err == nil && status.CapEff&(1<<capSysPtrace) != 0
}
