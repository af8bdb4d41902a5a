package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/killport/killport/internal/procfs"
)

func (p *Pin) inspect() (Info, error) {
	info, err := p.look()
	if err == nil && p.exited() { // then its PID may have been another's while we read
		return Info{}, ErrGone
	}
	return info, err
}

// Look reads what can be known of the process that has pid now, which may be
// another one with the next call: that is for telling, and not for acting.
func Look(pid int) (Info, error) { return (&Pin{pid: pid}).look() }

// look needs no handle: without one, whatever is not there is gone.
func (p *Pin) look() (Info, error) {
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
	return info, nil
}

// patience is for what a process, or a file system, may keep from us for good.
const patience = 200 * time.Millisecond

// argv reads the command line, which is in the memory of the process: one
// that hangs in its file system may keep the reader waiting, so there is a
// limit to the time as well.
func (p *Pin) argv() ([]string, bool) {
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
	tasks, _ := p.tasks()
	for _, task := range tasks {
		if o := p.obstacleOf(task); o.Cause != "" {
			return o
		}
	}
	if p.exiting() {
		return Obstacle{Cause: "exiting"}
	}
	return Obstacle{}
}

// obstacleOf says why a thread does not end.
func (p *Pin) obstacleOf(task string) Obstacle {
	var stat procfs.Stat
	if b, err := p.read(task + "stat"); err == nil {
		stat, _ = procfs.ParseStat(b)
	}
	var status procfs.Status
	if b, err := p.read(task + "status"); err == nil {
		status, _ = procfs.ParseStatus(b)
	}
	wchan, _ := p.read(task + "wchan")
	where := strings.TrimSpace(string(wchan))
	cgroup := p.freezer(task)
	switch {
	case cgroup != "":
		return Obstacle{"frozen", cgroup}
	case where == "__refrigerator": // kernel/freezer.c
		return Obstacle{"frozen", where}
	case status.TracerPID != 0:
		return Obstacle{"traced", strconv.Itoa(status.TracerPID)}
	case stat.State == 'D' && !stat.Exiting():
		return Obstacle{"uninterruptible", where}
	}
	return Obstacle{}
}

// freezer returns the folder of the cgroup (v1) that keeps the thread frozen,
// or "". SIGKILL waits until it is thawed, which it does not in v2. Since Linux
// 6.1 a frozen thread looks as if it slept on, uninterruptibly.
func (p *Pin) freezer(task string) string {
	b, err := p.read(task + "cgroup")
	if err != nil {
		return ""
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	point, dir := procfs.ParseFreezer(b, mounts)
	for ; len(dir) > len(point); dir = path.Dir(dir) { // what freezes it may be further up, and is not at the top
		if self, _ := os.ReadFile(dir + "/freezer.self_freezing"); string(self) == "1\n" {
			return dir
		}
	}
	return ""
}

var errForeign = errors.New("/proc shows the processes of another PID namespace")

// visible: in the /proc of an outer namespace we may have the same PID as inside
// by coincidence, but there NSpid names both (since Linux 4.1; proc(5)).
func visible() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	status, err := procfs.ParseStatus(b)
	if err != nil {
		return err
	}
	if self != strconv.Itoa(os.Getpid()) || len(status.NSPID) > 1 {
		return errForeign
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

// kin goes by the lists of children, which kernels with CONFIG_PROC_CHILDREN
// have (proc(5), /proc/PID/task/TID/children); without them there is nobody.
func kin(pid int, since time.Time) ([]int, error) {
	var found []Info
	for parents := []int{pid}; len(parents) > 0; since = (time.Time{}) {
		var born []int
		for _, parent := range parents {
			for _, child := range children(parent) {
				info, err := Look(child)
				if err == nil && info.PPID == parent && !info.Started.Before(since) {
					found, born = append(found, info), append(born, child)
				}
			}
		}
		parents = born
	}
	slices.SortStableFunc(found, func(a, b Info) int { return a.Started.Compare(b.Started) })
	pids := []int{}
	for _, info := range found {
		pids = append(pids, info.PID)
	}
	return pids, visible()
}

func children(pid int) []int {
	var pids []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for word := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// mayTraceAll: a capability in a user namespace of our own says nothing of the
// processes outside of it (user_namespaces(7)).
func mayTraceAll() bool {
	const (
		capSysPtrace = 19                  // include/uapi/linux/capability.h
		initialUser  = "user:[4026531837]" // PROC_USER_INIT_INO of include/linux/proc_ns.h
	)
	if ns, err := os.Readlink("/proc/self/ns/user"); err != nil || ns != initialUser {
		return false
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	status, err := procfs.ParseStatus(b)
	return err == nil && status.CapEff&(1<<capSysPtrace) != 0
}

// The namespaces of the host have constant numbers: that of PIDs since Linux 3.8
// (PROC_PID_INIT_INO of include/linux/proc_ns.h), that of the network since 6.18
// (NET_NS_INIT_INO of include/uapi/linux/nsfs.h). Others get theirs from
// 4026531840 on (PROC_DYNAMIC_FIRST of fs/proc/generic.c). They are variables for
// tests alone, which link them otherwise (-X) to have a host of their own.
var (
	hostPIDs    = "pid:[4026531836]"
	hostNetwork = "net:[4026531833]"
)

func outermost() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && ns == hostPIDs
}

func isolated() []string {
	var names []string
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil && ns != hostPIDs {
		names = append(names, "pid")
	}
	if ns, err := os.Readlink("/proc/self/ns/net"); err == nil && ns != hostNetwork && hasOwnNetwork(os.DirFS("/proc/sys/net/core")) {
		names = append(names, "net")
	}
	return names
}

// hasOwnNetwork tells it by the settings of the network, before 6.18 too: those of
// the whole host are shown in its own namespace only (net_core_table of
// net/core/sysctl_net_core.c), those of a namespace in each.
func hasOwnNetwork(settings fs.FS) bool {
	_, ofAll := fs.Stat(settings, "netdev_max_backlog")
	_, ofEach := fs.Stat(settings, "somaxconn")
	return errors.Is(ofAll, fs.ErrNotExist) && ofEach == nil
}
