package listeners

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/procfs"
	"github.com/killport/killport/pkg/process"
)

// holders walks over /proc/PID/fd of all processes. A socket without a holder
// then is looked up once more in the table, and if it is still there, in the
// places where a socket can hide: the descriptors of single threads, and those
// registered with an io_uring.
func holders(ctx context.Context, found []Socket) ([]Listener, error) {
	named := map[ID][]Listener{}
	left := found
	var view view
	for _, how := range []look{lookAtProcesses, lookEverywhere} {
		var err error
		if view, err = walk(ctx, inodes(left), how); err != nil {
			return nil, err
		}
		for _, s := range left {
			named[s.ID] = identify(s, view.pids[s.ID.Inode])
		}
		if left, err = unnamed(ctx, left, named); err != nil {
			return nil, err
		}
		if len(left) == 0 {
			break
		}
	}
	for _, s := range left {
		l := s.listener()
		l.Owner = OwnerNone
		if !view.complete {
			l.Owner = OwnerHidden
		}
		named[s.ID] = []Listener{l}
	}
	var lines []Listener
	for _, s := range found {
		lines = append(lines, named[s.ID]...)
	}
	return lines, nil
}

// unnamed returns those sockets that have no holder, and are still there.
func unnamed(ctx context.Context, found []Socket, named map[ID][]Listener) ([]Socket, error) {
	var left []Socket
	var queries []Query
	for _, s := range found {
		if len(named[s.ID]) == 0 {
			left = append(left, s)
			queries = append(queries, Query{Proto: s.Proto, Port: s.Local.Port()})
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	now, err := Sockets(ctx, queries...)
	if err != nil {
		return nil, err
	}
	var still []Socket
	for _, s := range left {
		for _, n := range now {
			if n.ID.Same(s.ID) {
				still = append(still, s)
				break
			}
		}
	}
	return still, nil
}

// identify pins each process that was seen with the socket and reads its
// birth, if it still holds it.
func identify(s Socket, pids []int) []Listener {
	var lines []Listener
	for _, pid := range pids {
		l := s.listener()
		l.PID = pid
		birth, err := birthOfHolder(pid, s.ID)
		if errors.Is(err, process.ErrGone) {
			continue
		}
		// Any other error: it is there and cannot be pinned. Without a birth
		// it is listed, and never killed.
		l.Birth = birth
		if birth.Weak() {
			l.Identity = "weak"
		}
		lines = append(lines, l)
	}
	return lines
}

func birthOfHolder(pid int, id ID) (process.Birth, error) {
	p, err := process.Open(pid)
	if err != nil {
		return "", err
	}
	defer p.Close()
	if holds, err := holds(p, []ID{id}); err == nil && !holds {
		return "", process.ErrGone
	}
	return p.Birth()
}

// holds looks into a process for the sockets, wherever it may have them. What
// is read is the pinned process's only if that has not ended meanwhile.
func holds(p *process.Pin, ids []ID) (bool, error) {
	want := map[uint64]bool{}
	for _, id := range ids {
		want[id.Inode] = true
	}
	for _, how := range []look{lookAtProcesses, lookEverywhere} {
		seen, err := how(p.PID(), want)
		if p.Exited() {
			return false, process.ErrGone
		}
		if len(seen) > 0 {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

func inodes(found []Socket) map[uint64]bool {
	want := map[uint64]bool{}
	for _, s := range found {
		want[s.ID.Inode] = true
	}
	return want
}

// view is what a walk over all processes has seen.
type view struct {
	pids     map[uint64][]int // the holders, by inode, in ascending order
	complete bool             // nothing was kept from us
}

// walk looks into all processes, side by side on all cores.
func walk(ctx context.Context, want map[uint64]bool, how look) (view, error) {
	v := view{pids: map[uint64][]int{}, complete: seesAll()}
	pids, err := process.All()
	if err != nil { // no /proc at all: everything is hidden
		v.complete = false
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for pid := range next {
				seen, err := how(pid, want)
				mu.Lock()
				v.complete = v.complete && err == nil
				for inode := range seen {
					v.pids[inode] = append(v.pids[inode], pid)
				}
				mu.Unlock()
			}
		})
	}
	for _, pid := range pids {
		if ctx.Err() != nil {
			break
		}
		next <- pid
	}
	close(next)
	wg.Wait()
	for _, pids := range v.pids {
		slices.Sort(pids)
	}
	return v, ctx.Err()
}

// look finds which of the wanted inodes a process has open. A process that is
// gone has none; an error means that we may not look, and that what was seen
// may not be all.
type look func(pid int, want map[uint64]bool) (map[uint64]bool, error)

// lookAtProcesses reads the descriptors of the process, which all its threads
// share as a rule.
func lookAtProcesses(pid int, want map[uint64]bool) (map[uint64]bool, error) {
	seen := map[uint64]bool{}
	err := readFDs("/proc/"+strconv.Itoa(pid)+"/fd", func(_, link string) {
		if inode, ok := procfs.SocketInode(link); ok && want[inode] {
			seen[inode] = true
		}
	})
	return seen, err
}

// lookEverywhere reads the descriptors of every single thread, which may have
// a table of its own (unshare(CLONE_FILES)) or outlive the thread that leads
// the process; and the files registered with an io_uring, which need no
// descriptor (io_uring_register(2)).
func lookEverywhere(pid int, want map[uint64]bool) (map[uint64]bool, error) {
	seen := map[uint64]bool{}
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return seen, unlessGone(err)
	}
	var denied error
	for _, task := range tasks {
		dir := "/proc/" + strconv.Itoa(pid) + "/task/" + task.Name()
		err := readFDs(dir+"/fd", func(fd, link string) {
			if inode, ok := procfs.SocketInode(link); ok && want[inode] {
				seen[inode] = true
			}
			if link == "anon_inode:[io_uring]" {
				denied = errors.Join(denied, registered(dir+"/fdinfo/"+fd, want, seen))
			}
		})
		denied = errors.Join(denied, err)
	}
	return seen, denied
}

// registered adds the wanted sockets among an io_uring's files to seen. Of a
// busy ring the kernel shows nothing: it only tries the lock
// (io_uring_show_fdinfo, io_uring/fdinfo.c). After some tries that counts as
// hidden.
func registered(fdinfo string, want, seen map[uint64]bool) error {
	const tries = 200
	var files []uint64
	err := procfs.ErrRingBusy
	for try := 0; try < tries && errors.Is(err, procfs.ErrRingBusy); try++ {
		var b []byte
		if b, err = os.ReadFile(fdinfo); err != nil {
			return unlessGone(err)
		}
		files, err = procfs.ParseIOUringFiles(bytes.NewReader(b))
	}
	for _, inode := range files {
		if want[inode] {
			seen[inode] = true
		}
	}
	return err
}

// readFDs gives yield each descriptor in a directory of /proc with what it
// leads to. Between the listing and the reading descriptors come and go.
func readFDs(dir string, yield func(fd, link string)) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unlessGone(err)
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return unlessGone(err)
	}
	var denied error
	link := make([]byte, 64) // socket:[20 digits]; what is longer is no socket
	for _, name := range names {
		n, err := unix.Readlinkat(fd, name, link)
		if err != nil {
			if err = unlessGone(err); err != nil {
				denied = err
			}
			continue
		}
		yield(name, string(link[:n]))
	}
	return denied
}

// unlessGone is nil if err says no more than that a process or descriptor has
// gone.
func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// seesAll reports whether /proc names every process there is. Where it does
// not, an error of permission shows it in most cases; hidepid=2 and 4 leave
// the processes out without one (proc(5)).
func seesAll() bool {
	if process.Visible() != nil {
		return false
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	mount, err := procfs.ParseProcMount(f)
	return err == nil && (mount.HidePID < 2 || process.MayTraceAll())
}
