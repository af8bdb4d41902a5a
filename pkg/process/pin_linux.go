package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/procfs"
)

// MaxPID is the highest PID that there can be: PID_MAX_LIMIT of
// include/linux/threads.h, on 64 bits.
const MaxPID = 1 << 22

// sys is a pidfd (pidfd_open(2), Linux 5.3). It is non-blocking, so that Go's
// own poller waits on it: a pidfd is readable once its process has ended.
type sys struct {
	file *os.File
	conn syscall.RawConn
	held bool // by us, with SIGSTOP
}

func open(pid int) (*Pin, error) {
	if pid < 1 || pid > MaxPID { // the kernel takes the lower 32 bits only
		return nil, fmt.Errorf("pid %d is not from 1 to %d", pid, MaxPID)
	}
	// Without PIDFD_THREAD the kernel refuses the id of a thread that does not
	// lead its process. 0 and negative numbers it refuses as well.
	fd, err := retry(func() (int, error) { return unix.PidfdOpen(pid, 0) })
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrGone
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // the latter on newer kernels
		return nil, fmt.Errorf("pidfd_open %d: %w (%w)", pid, ErrThread, err)
	case err != nil:
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	// O_NONBLOCK afterwards: the flag PIDFD_NONBLOCK is of 5.10 only.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	p := &Pin{pid: pid, sys: sys{file: file, conn: conn}}
	if err := p.tie(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// tie makes sure that /proc means the same process by the number: in the
// information on a pidfd it stands as the PID namespace of /proc has it
// (pidfd_show_fdinfo of fs/pidfs.c), as 0 if it is not in there, and as -1 once
// the process was reaped. A program that may do more than its user (by setcap) may
// not read that before Linux 5.14, and goes by [Visible].
func (p *Pin) tie() error {
	var b []byte
	var err error
	cerr := p.conn.Control(func(fd uintptr) {
		b, err = os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(fd)))
	})
	if errors.Is(err, os.ErrPermission) {
		return visible()
	}
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("pidfd of %d: %w", p.pid, err)
	}
	_, rest, _ := strings.Cut("\n"+string(b), "\nPid:\t")
	number, _, _ := strings.Cut(rest, "\n")
	switch {
	case number == strconv.Itoa(p.pid):
		return nil
	case p.exited():
		return ErrGone
	}
	return fmt.Errorf("pidfd of %d: %w, where it has the PID %q", p.pid, errForeign, number)
}

func (p *Pin) close() error { return p.file.Close() }

func (p *Pin) exited() bool {
	done := false
	err := p.conn.Control(func(fd uintptr) { done = readable(fd) })
	return err == nil && done
}

// exiting looks at every thread: the one that leads the process may have ended
// long before the others, and one that hangs keeps what all of them have open.
func (p *Pin) exiting() bool {
	if p.exited() {
		return true
	}
	tasks, err := p.tasks()
	for _, task := range tasks {
		b, err := p.read(task + "stat")
		if err != nil { // it has ended just now
			continue
		}
		if stat, err := procfs.ParseStat(b); err != nil || !stat.Exiting() {
			return false
		}
	}
	return err == nil
}

// tasks returns the folders of the threads, for read.
func (p *Pin) tasks() ([]string, error) {
	entries, err := os.ReadDir(p.path("task"))
	var tasks []string
	for _, entry := range entries {
		tasks = append(tasks, "task/"+entry.Name()+"/")
	}
	return tasks, p.gone(err)
}

func (p *Pin) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		p.file.SetReadDeadline(time.Unix(1, 0))
		close(woken)
	})
	err := p.conn.Read(readable)
	if !stop() {
		<-woken
		p.file.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// readable asks the kernel and does not wait.
func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := retry(func() (int, error) { return unix.Poll(fds, 0) })
	return err == nil && n == 1
}

func (p *Pin) birth() (Birth, error) {
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	stat, err := p.stat()
	if err != nil {
		return "", err
	}
	birth := fmt.Sprintf("%s:%d", boot, stat.StartTicks)
	inode, err := p.pidfsInode()
	if err != nil {
		return "", err
	}
	if inode != 0 {
		birth += ":" + strconv.FormatUint(inode, 10)
	}
	if p.exited() { // then its PID may have been another's while we read
		return "", ErrGone
	}
	return Birth(birth), nil
}

// bootID is "" under subset=pid, where the file is absent.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// pidfsMagic is PID_FS_MAGIC of include/uapi/linux/magic.h, "PIDF". Before
// 6.9 a pidfd is an anonymous inode, which all of them share.
const pidfsMagic = 0x50494446

// pidfsInode returns 0 where the kernel has no pidfs.
func (p *Pin) pidfsInode() (inode uint64, err error) {
	cerr := p.conn.Control(func(fd uintptr) {
		var fs unix.Statfs_t
		_, err = retry(func() (int, error) { return 0, unix.Fstatfs(int(fd), &fs) })
		if err != nil || fs.Type != pidfsMagic {
			return
		}
		var st unix.Stat_t
		_, err = retry(func() (int, error) { return 0, unix.Fstat(int(fd), &st) })
		inode = st.Ino
	})
	return inode, errors.Join(cerr, err)
}

// stat reads /proc/PID/stat; it is p's only if p has not exited afterwards.
func (p *Pin) stat() (procfs.Stat, error) {
	b, err := p.read("stat")
	if err != nil {
		return procfs.Stat{}, err
	}
	return procfs.ParseStat(b)
}

// read reads a small file of /proc/PID.
func (p *Pin) read(name string) ([]byte, error) {
	b, err := os.ReadFile(p.path(name))
	return b, p.gone(err)
}

func (p *Pin) path(name string) string { return "/proc/" + strconv.Itoa(p.pid) + "/" + name }

// gone turns what /proc says of a process that is not there into ErrGone, if
// it has ended. Of one that lives the same is said where /proc hides it
// (hidepid=2, proc(5)).
func (p *Pin) gone(err error) error {
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if p.conn == nil || p.exited() {
		return ErrGone
	}
	return fmt.Errorf("/proc hides it: %w", ErrDenied)
}

func (p *Pin) terminate(sig syscall.Signal) (string, error) {
	if err := p.signal(sig); err != nil {
		return "", err
	}
	err := p.signal(unix.SIGCONT)
	p.mark(false)
	if errors.Is(err, ErrGone) { // it has ended already
		err = nil
	}
	return SignalName(sig), err
}

func (p *Pin) wouldSend(sig syscall.Signal) string { return SignalName(sig) }

func (p *Pin) mayTerminate() error { return p.signal(0) }

func (p *Pin) kill() (string, error) { return KillName(), p.signal(unix.SIGKILL) } // which a stopped process does not outlive

// signal goes through the pidfd, never by number.
func (p *Pin) signal(sig syscall.Signal) (err error) {
	cerr := p.conn.Control(func(fd uintptr) {
		_, err = retry(func() (int, error) { return 0, unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	})
	if errors.Is(err, unix.ESRCH) && p.exited() {
		return ErrGone
	}
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("pidfd_send_signal %d: %w", p.pid, err)
	}
	return nil
}

// retry calls f until it is not interrupted by a signal.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
