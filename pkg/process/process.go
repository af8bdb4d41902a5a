// Package process names, pins, inspects, signals and awaits processes, and
// knows which of them must not be ended. It is the only package of killport
// that ends anything.
//
// A PID is a number that the kernel gives away again. What is acted on here is
// a [Pin], which the kernel ties to one process, and what two programs compare
// is a [Birth], which no other process shares.
package process

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	// ErrGone says that the process does not exist, or has ended.
	ErrGone = errors.New("no such process")
	// ErrThread says that the PID is that of a thread, and so of no process.
	ErrThread = errors.New("it is a thread")
	// ErrDenied says that the process is there and that we may not do this to it.
	ErrDenied = fs.ErrPermission
	// ErrCutOff says that nobody tells whether a process is an ancestor of ours:
	// it has started one that is hidden from us, and so may have started us.
	ErrCutOff = errors.New("it has started a process that is hidden from us, and that may be an ancestor of ours")
	// ErrCannotAsk says that there is no way to ask this process to end. It can
	// only be killed.
	ErrCannotAsk = errors.New("it cannot be asked to end")
)

// Birth tells a process from every other one that has or had its PID. It is
// opaque and comparable with ==; "" is unknown.
//
// Linux: boot id, start time in clock ticks (field 22 of stat, proc(5)) and,
// from 6.9 on, the inode of its pidfd, which pidfs never gives twice in one
// boot: "<boot id>:<ticks>:<inode>".
//
// Windows: the time of creation, in units of 100 ns since 1601, as of the last
// tick of the clock: "filetime:<number>".
type Birth string

// Weak reports whether b lacks the part that no other process can share, as
// before Linux 6.9: two processes born within one clock tick (10 ms) with the
// same PID would look the same.
func (b Birth) Weak() bool {
	return b != "" && strings.Count(string(b), ":") < 2 && !strings.HasPrefix(string(b), "filetime:")
}

// Same reports whether b and c are of one process. In another time namespace
// (time_namespaces(7), Linux 5.6) the start of a process is another one
// (timens_add_boottime_ns in do_task_stat of fs/proc/array.c), and the inode of
// its pidfd is the same.
func (b Birth) Same(c Birth) bool {
	boot, ticks, ok := strings.Cut(string(b), ":")
	_, inode, strong := strings.Cut(ticks, ":")
	if b == c || !ok || !strong || boot == "" {
		return b == c
	}
	otherBoot, otherTicks, _ := strings.Cut(string(c), ":")
	_, otherInode, _ := strings.Cut(otherTicks, ":")
	return boot == otherBoot && inode != "" && inode == otherInode
}

// Comparable reports whether b and c are of one boot and made of the same
// parts. Only then does it say something that they are not equal.
func (b Birth) Comparable(c Birth) bool {
	return b.boot() == c.boot() && strings.Count(string(b), ":") == strings.Count(string(c), ":")
}

func (b Birth) boot() string {
	if i := strings.IndexByte(string(b), ':'); i >= 0 {
		return string(b[:i])
	}
	return ""
}

// Pin is a process that cannot change its meaning: whatever becomes of its
// PID, a Pin stays the process that it was opened on.
type Pin struct {
	pid  int
	sent []string
	sys  // the handle, per operating system
}

// Open pins the process that has pid now. Of a process that does not exist it
// says [ErrGone]; every other error means that it cannot be pinned, and
// therefore must not be touched.
func Open(pid int) (*Pin, error) { return open(pid) }

// PID returns the number that p was opened by.
func (p *Pin) PID() int { return p.pid }

// Close gives the handle back. The process is left as it is, but that one that
// is held goes on.
func (p *Pin) Close() error { return errors.Join(p.resume(), p.close()) }

// Exited reports whether the process has ended: a zombie has.
func (p *Pin) Exited() bool { return p.exited() }

// Exiting reports whether the process is being taken down, with all of its
// threads, or has ended.
func (p *Pin) Exiting() bool { return p.exiting() }

// Wait returns nil once the process has ended, or the error of ctx. One at a
// time may wait on a Pin.
func (p *Pin) Wait(ctx context.Context) error { return p.wait(ctx) }

// Birth reads the birth of the pinned process, or says [ErrGone].
func (p *Pin) Birth() (Birth, error) { return p.birth() }

// Inspect reads what can be known of the pinned process, or says [ErrGone].
func (p *Pin) Inspect() (Info, error) { return p.inspect() }

// Terminate asks the process to end: sig (SIGTERM, if in doubt), and SIGCONT
// after it, since a stopped process would never get to handle it. On Windows,
// whatever sig is, WM_CLOSE to its windows, or CTRL_C to its console if it has
// that for itself and its descendants, or else [ErrCannotAsk].
func (p *Pin) Terminate(sig syscall.Signal) error { return p.note(p.terminate(sig)) }

// WouldSend names what Terminate would send now, or Kill if there is nothing to
// ask by. Nothing is sent.
func (p *Pin) WouldSend(sig syscall.Signal) string { return p.wouldSend(sig) }

// MayTerminate returns nil if we have the permission to end the process, and
// else [ErrDenied] or [ErrGone]. Nothing is sent.
func (p *Pin) MayTerminate() error { return p.mayTerminate() }

// Kill ends the process, whatever it wants: SIGKILL, or TerminateProcess.
func (p *Pin) Kill() error { return p.note(p.kill()) }

// Hold stops the process for a moment, so that it starts no other one, and waits
// for at most so long until all of its threads stand still. After an error it
// goes on. It goes on as well once it is asked to end, at the latest with Close;
// not if this program is killed before. It is for Linux.
func (p *Pin) Hold(limit time.Duration) error { return p.hold(limit) }

// Resume has a process go on that Hold has stopped.
func (p *Pin) Resume() error { return p.resume() }

// Holding reports whether a process is held: this program must not end then.
func Holding() bool { return holding.Load() > 0 }

var holding atomic.Int32

// note remembers what was sent, if anything was.
func (p *Pin) note(sent string, err error) error {
	if err == nil && sent != "" {
		p.sent = append(p.sent, sent)
	}
	return err
}

// Sent names what was sent to the process through p, in this order: SIGTERM,
// SIGKILL; WM_CLOSE, CTRL_C, TerminateProcess.
func (p *Pin) Sent() []string { return slices.Clone(p.sent) }

// Obstacle says why a process that was killed is still there.
func (p *Pin) Obstacle() Obstacle { return p.obstacle() }

// Info is what can be known of a process. What we may not read is zero.
type Info struct {
	PID       int
	PPID      int
	Group     int // process group, 0 where there is no such thing
	Name      string
	Exe       string    // path of the program; " (deleted)" behind it if it was replaced
	Argv      []string  // at most [MaxArgv] bytes of it
	Truncated bool      // Argv is longer than that
	Started   time.Time // for people; identity is [Birth]
	Kernel    bool      // a kernel thread
}

// Glance is what can be known of the process that has pid now, which may be another
// one with the next call: that is for telling, and not for acting. It is the zero
// Info of one that is gone or hidden.
func Glance(pid int) Info {
	p, err := Open(pid)
	if err != nil {
		return Info{}
	}
	defer p.Close()
	info, _ := p.Inspect()
	return info
}

// MaxArgv bounds, in bytes, how much of a command line is read.
const MaxArgv = 4096

// Obstacle is a reason for which a killed process stays, and what there is to
// say about it. The zero Obstacle is none that we know.
type Obstacle struct {
	Cause  string // uninterruptible, traced, frozen, exiting
	Detail string // the kernel function that it waits in, the folder of the frozen cgroup, or the tracer's PID
}

// Protection is a reason not to end a process; "" is none.
type Protection string

// The protections, the absolute ones first.
const (
	ProtectedInit      Protection = "init"      // PID 1 or lower
	ProtectedKernel    Protection = "kernel"    // a kernel thread; the kernel of Windows, with http.sys
	ProtectedSystem    Protection = "system"    // Windows stops without it, or loses several services
	ProtectedSelf      Protection = "self"      // this process
	ProtectedPipeline  Protection = "pipeline"  // at the other end of one of our pipes
	ProtectedNamespace Protection = "namespace" // /proc shows another PID namespace: its numbers are not ours
	ProtectedAncestor  Protection = "ancestor"  // our shell, terminal, editor, agent, ssh session
	ProtectedShared    Protection = "shared"    // serves many: dockerd, sshd's main process …
)

// Absolute reports whether nothing that the user says has the process ended.
func (p Protection) Absolute() bool { return p != "" && !p.Overridable() }

// Overridable reports whether the user may decide to end the process all the
// same.
func (p Protection) Overridable() bool {
	return p == ProtectedAncestor || p == ProtectedShared
}

// Protect says whether the pinned process, of which info was read through the
// pin, must not be ended by us. It looks at how things stand now.
func Protect(p *Pin, info Info) (Protection, error) { return protect(p, info) }

// Visible returns nil if PIDs mean to us what they mean to the kernel; an
// error says why nothing may be acted on.
func Visible() error { return visible() }

// All returns the PIDs of all processes that we may see, if they are [Visible].
func All() ([]int, error) { return all() }

// Outermost reports whether no process can be outside of the PID namespace that
// we see.
func Outermost() bool { return outermost() }

// Isolated names the namespaces that are ours and not the host's, "pid" and
// "net", as far as that is certain: what is outside of them cannot be seen.
func Isolated() []string { return slices.Clone(isolatedOnce()) }

var isolatedOnce = sync.OnceValue(isolated)

// MayTraceAll reports whether no process can hide from us (CAP_SYS_PTRACE).
func MayTraceAll() bool { return mayTraceAll() }

// Kin returns the living processes whose parent is, or on Windows was, the one
// with the PID, as far as they were born after since, and their descendants, in
// the order of their birth. The zero time stands for any: on Windows, then, for
// the kin of every process that has had the PID.
func Kin(pid int, since time.Time) ([]int, error) { return kin(pid, since) }

// IsAncestor reports whether pid is our parent, or its parent, and so on; the
// error is [ErrCutOff] where that cannot be told.
func IsAncestor(pid int) (bool, error) { return isAncestor(pid) }

// InPipeline reports whether a process stands before or behind us in a
// pipeline. It is never so on Windows, where nothing tells the ends of a pipe.
func InPipeline(pid int) (bool, error) { return inPipeline(pid) }
