package listeners

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
// registered with an io_uring; and with those that were born meanwhile.
func holders(ctx context.Context, found []Socket) ([]Listener, error) {
	named := map[ID][]Listener{}
	left, before := found, process.Newest()
	var view view
	for _, how := range []look{lookAtProcesses, lookEverywhere} {
		var err error
		if view, err = walk(ctx, inodes(left), how); err != nil {
			return nil, err
		}
		view.identify(left, named)
		if left, err = unnamed(ctx, left, named); err != nil {
			return nil, err
		}
		if len(left) == 0 {
			break
		}
	}
	if len(left) > 0 && view.missed {
		left = amongNewest(ctx, left, before, named)
	}
	for _, s := range left {
		l := s.Listener()
		l.Owner = OwnerNone
		if l.HiddenBy = view.blindTo(s); l.HiddenBy != "" {
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
	left := without(found, named)
	if len(left) == 0 {
		return nil, nil
	}
	var queries []Query
	for _, s := range left {
		queries = append(queries, Query{Proto: s.Proto, Port: s.Local.Port()})
	}
	now, err := Sockets(ctx, queries...)
	if err != nil {
		return nil, err
	}
	there := map[ID]Socket{}
	for _, s := range now {
		there[s.ID.Key()] = s
	}
	return slices.DeleteFunc(left, func(s Socket) bool { return !there[s.ID.Key()].ID.Same(s.ID) }), nil
}

// identify pins each process that was seen with some of the sockets, reads its
// birth, and adds it to the holders of those that it still has.
func (v *view) identify(found []Socket, named map[ID][]Listener) {
	for _, pid := range slices.Sorted(maps.Keys(v.held)) {
		birth, held, err := confirm(pid, v.held[pid])
		if errors.Is(err, process.ErrGone) || errors.Is(err, process.ErrThread) {
			maps.Copy(v.passedOn, v.held[pid])
			v.missed = true
			continue
		}
		// Any other error: it is there and cannot be pinned. Without a birth
		// it is listed, and never killed.
		for _, s := range found {
			fd, ok := held[s.ID.Inode]
			if !ok {
				continue
			}
			l := s.Listener()
			l.PID, l.Birth = pid, birth
			if fd != noFD {
				l.FD = &fd
			}
			if birth.Weak() {
				l.Identity = "weak"
			}
			named[s.ID] = append(named[s.ID], l)
		}
	}
}

// confirm reads the birth of a process through one pin, and which of the
// sockets it has open now.
func confirm(pid int, seen fds) (process.Birth, fds, error) {
	p, err := process.Open(pid)
	if err != nil {
		return "", seen, err
	}
	defer p.Close()
	want := map[uint64]bool{}
	for inode := range seen {
		want[inode] = true
	}
	held, err := lookThroughout(p, want)
	if err != nil {
		return "", seen, err
	}
	birth, err := p.Birth()
	return birth, held, err
}

// holds tries the descriptor where the socket was before it looks at all of
// them: a process may have many thousands.
func holds(p *process.Pin, l Listener) (bool, error) {
	if l.FD != nil {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.PID(), *l.FD))
		if inode, ok := procfs.SocketInode(link); err == nil && ok && inode == l.Socket.Inode && !p.Exited() {
			return true, nil
		}
	}
	held, err := lookThroughout(p, map[uint64]bool{l.Socket.Inode: true})
	return len(held) > 0, err
}

// lookThroughout finds which of the sockets a process has, wherever it may
// have them. What is read is the pinned process's only if that has not ended
// meanwhile.
func lookThroughout(p *process.Pin, want map[uint64]bool) (fds, error) {
	for _, how := range []look{lookAtProcesses, lookEverywhere} {
		seen, err := how(p.PID(), want)
		if p.Exited() {
			return nil, process.ErrGone
		}
		if len(seen) > 0 {
			return seen, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func heldBy(p *process.Pin, among []Socket) ([]Socket, error) {
	seen, err := lookAtProcesses(p.PID(), inodes(among))
	if p.Exited() {
		return nil, process.ErrGone
	}
	var held []Socket
	for _, s := range among {
		if _, ok := seen[s.ID.Inode]; ok {
			held = append(held, s)
		}
	}
	return held, err
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
	held     map[int]fds // which sockets a process has, by PID
	passedOn fds         // those that a process had which has ended since
	missed   bool        // somebody may have got one of them while we looked elsewhere
	blind    HiddenBy    // what was kept from us; "" is nothing
}

// blindTo says why there may be a holder of s, of which none was found: somebody
// who had it a moment ago may have left it to a child.
func (v *view) blindTo(s Socket) HiddenBy {
	if _, ok := v.passedOn[s.ID.Inode]; ok {
		return cmp.Or(v.blind, ByBirths)
	}
	return v.blind
}

// walk looks into all processes, and then into those that were born meanwhile.
func walk(ctx context.Context, want map[uint64]bool, how look) (view, error) {
	v := view{held: map[int]fds{}, passedOn: fds{}, blind: hides()}
	last := process.Newest()
	pids, err := process.All()
	if err != nil { // no /proc, or not ours: everything is hidden
		v.blind = ByPermission
	}
	v.look(ctx, pids, want, how)
	if v.missed = !v.sawBirths(ctx, last, want, how); v.missed {
		v.blind = cmp.Or(v.blind, ByBirths)
	}
	return v, ctx.Err()
}

// look looks into processes side by side, on all cores.
func (v *view) look(ctx context.Context, pids []int, want map[uint64]bool, how look) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), len(pids)) {
		wg.Go(func() {
			for pid := range next {
				seen, err := how(pid, want)
				mu.Lock()
				if err != nil {
					v.blind = ByPermission
				}
				if len(seen) > 0 {
					v.held[pid] = seen
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
}

// sawBirths looks into the processes that were born since last was the newest
// PID. A holder may hand its socket to a child, and end, while we look
// elsewhere: so nobody is proven to have one unless none was born during a last
// look at the newest.
func (v *view) sawBirths(ctx context.Context, last int, want map[uint64]bool, how look) bool {
	const (
		tries = 100
		most  = 1 << 12 // at a time
	)
	for range tries {
		now := process.Newest()
		if now < last || now-last > most || now == 0 || ctx.Err() != nil { // they begin again at the bottom, or cannot be counted
			return false
		}
		var newest []int
		for pid := max(2, min(last, now-behind)+1); pid <= now; pid++ {
			newest = append(newest, pid)
		}
		v.look(ctx, newest, want, how)
		if last = now; process.Newest() == now {
			return true
		}
	}
	return false
}

// fds are the descriptors of sockets, by inode.
type fds map[uint64]int

// noFD is for a socket that a process has without a descriptor of its own.
const noFD = -1

// look finds which of the wanted inodes a process has open. A process that is
// gone has none; an error means that we may not look, and that what was seen
// may not be all.
type look func(pid int, want map[uint64]bool) (fds, error)

// lookAtProcesses reads the descriptors of the process, which all its threads
// share as a rule.
func lookAtProcesses(pid int, want map[uint64]bool) (fds, error) {
	seen := fds{}
	err := readFDs("/proc/"+strconv.Itoa(pid)+"/fd", func(fd, link string) {
		if inode, ok := procfs.SocketInode(link); ok && want[inode] {
			seen[inode], _ = strconv.Atoi(fd)
		}
	})
	return seen, err
}

// lookEverywhere reads the descriptors of every single thread, which may have
// a table of its own (unshare(CLONE_FILES)) or outlive the thread that leads
// the process; and the files registered with an io_uring, which need no
// descriptor (io_uring_register(2)).
func lookEverywhere(pid int, want map[uint64]bool) (fds, error) {
	seen := fds{}
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return seen, unlessGone(err)
	}
	var denied error
	for _, task := range tasks {
		dir := "/proc/" + strconv.Itoa(pid) + "/task/" + task.Name()
		err := readFDs(dir+"/fd", func(fd, link string) {
			if inode, ok := procfs.SocketInode(link); ok && want[inode] {
				seen[inode] = noFD
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
func registered(fdinfo string, want map[uint64]bool, seen fds) error {
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
			seen[inode] = noFD
		}
	}
	return err
}

// readFDs gives yield each descriptor in a directory of /proc with what it
// leads to. Between the listing and the reading descriptors come and go.
func readFDs(dir string, yield func(fd, link string)) error {
	var fd int
	err := eintr(func() (err error) {
		fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
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
		var n int
		err := eintr(func() (err error) { n, err = unix.Readlinkat(fd, name, link); return err })
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

// hides says what keeps processes from being in /proc at all. Where they are
// there, an error of permission shows it in most cases; hidepid=2 and 4 leave the
// processes of others out without one (proc(5)).
func hides() HiddenBy {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ByPermission
	}
	defer f.Close()
	mount, err := procfs.ParseProcMount(f)
	switch {
	case err != nil, mount.HidePID >= 2 && !process.MayTraceAll():
		return ByPermission
	case !process.Outermost():
		return ByNamespace
	}
	return ""
}

func unhide(by HiddenBy, command string) string {
	switch {
	case by == ByNamespace:
		return "a process outside of this PID namespace may have it: look from there"
	case by == ByBirths:
		return "look again: " + command
	case process.Visible() != nil:
		return "it takes a /proc of this PID namespace: mount -t proc proc /proc"
	}
	outside := ""
	if !process.Outermost() {
		outside = "if it is not outside of this PID namespace, "
	}
	switch {
	case os.Geteuid() != 0:
		return outside + "run it as root: sudo " + command
	case !process.MayTraceAll():
		return outside + "root must have CAP_SYS_PTRACE, and not in a user namespace of its own: " + command
	}
	return outside + "something keeps root from a process, or an io_uring was busy: look again: " + command
}
