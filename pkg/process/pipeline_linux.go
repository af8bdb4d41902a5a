package process

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/procfs"
)

// inPipeline reports whether the process feeds our stdin or reads our stdout
// or stderr, at first hand or through others, whatever process group and session it is in.
// What our ancestors have counts as ours: sudo gives us a terminal of its own,
// and keeps the pipe. What others print may go down the same pipe as ours: only
// who stands before or behind us in it is a neighbour.
func inPipeline(pid int) (bool, error) {
	row, err := pipeline()
	if err != nil || row.alone() {
		return false, err
	}
	ends, err := pipeEndsOf(pid)
	return row.before.hasAny(ends.out) || row.behind.hasAny(ends.in), err
}

// A pipe is one, or a FIFO, by its inode: pipe(7), fifo(7). Or it is a unix
// socket, which has an inode at each end.
type pipe struct {
	dev, ino uint64
	socket   bool
}

// far returns the ends that others have of what is ours.
func far(ends []pipe) []pipe {
	var others []pipe
	for _, p := range ends {
		if p.socket {
			p.ino = unixPeers()[p.ino]
		}
		if p.ino != 0 {
			others = append(others, p)
		}
	}
	return others
}

// pipeEnds are the pipes, or the near ends of them, that a process reads from as its stdin, and those that
// it writes to as its stdout and stderr.
type pipeEnds struct{ in, out []pipe }

type pipes map[pipe]bool

func (p pipes) hasAny(of []pipe) bool {
	return slices.ContainsFunc(of, func(one pipe) bool { return p[one] })
}

// row is all of a pipeline: who writes to one of the pipes before us is before
// us in it, and who reads from one of those behind us is behind.
type row struct{ before, behind pipes }

func (r row) alone() bool { return len(r.before)+len(r.behind) == 0 }

// pipeline follows the pipes once: what comes to stand between others later
// would be missed, and each holder costs three looks and not all processes.
var pipeline = sync.OnceValues(func() (row, error) {
	r := row{before: pipes{}, behind: pipes{}}
	own, _, err := ancestors()
	if err != nil {
		return r, err
	}
	ours, err := pipeEndsOf(os.Getpid())
	if err != nil {
		return r, err
	}
	in, out := ours.in, ours.out
	for _, pid := range own {
		ends, _ := pipeEndsOf(pid) // those of another user's are not ours to see
		in, out = append(in, ends.in...), append(out, ends.out...)
	}
	if len(in)+len(out) == 0 {
		return r, nil
	}
	from, to := allPipeEnds()
	r.before.follow(far(in), to, func(e pipeEnds) []pipe { return far(e.in) })
	r.behind.follow(far(out), from, func(e pipeEnds) []pipe { return far(e.out) })
	return r, nil
})

// follow adds the pipes, and those that lead on from them by way of whoever has
// the other end.
func (p pipes) follow(next []pipe, others map[pipe][]pipeEnds, on func(pipeEnds) []pipe) {
	for ; len(next) > 0; next = next[1:] {
		if p[next[0]] {
			continue
		}
		p[next[0]] = true
		for _, ends := range others[next[0]] {
			next = append(next, on(ends)...)
		}
	}
}

// allPipeEnds are those of all processes that we may look into, by what they
// read from and by what they write to.
func allPipeEnds() (from, to map[pipe][]pipeEnds) {
	from, to = map[pipe][]pipeEnds{}, map[pipe][]pipeEnds{}
	pids, _ := all()
	for _, pid := range pids {
		ends, _ := pipeEndsOf(pid)
		for _, p := range ends.in {
			from[p] = append(from[p], ends)
		}
		for _, p := range ends.out {
			to[p] = append(to[p], ends)
		}
	}
	return from, to
}

func pipeEndsOf(pid int) (pipeEnds, error) {
	in, err := pipesAt(pid, "0")
	out, oerr := pipesAt(pid, "1", "2")
	return pipeEnds{in, out}, errors.Join(err, oerr)
}

// pipesAt returns the pipes among some descriptors of a process. One that is
// closed is none.
func pipesAt(pid int, fds ...string) (found []pipe, err error) {
	for _, fd := range fds {
		p, ok, perr := pipeAt((&Pin{pid: pid}).path("fd/" + fd))
		if perr != nil && !errors.Is(perr, os.ErrNotExist) && !errors.Is(perr, syscall.ESRCH) {
			err = perr
		}
		if ok {
			found = append(found, p)
		}
	}
	return found, err
}

// pipeAt goes by the link, which is read without asking any file system: one that
// hangs would keep us waiting. Only a FIFO has a name there like other files.
func pipeAt(path string) (p pipe, ok bool, err error) {
	link, err := os.Readlink(path)
	if inode, ok := procfs.SocketInode(link); ok {
		return pipe{ino: inode, socket: true}, true, nil
	}
	if number, ok := strings.CutPrefix(link, "pipe:["); ok {
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		return pipe{ino: inode}, err == nil, err
	}
	if err != nil || !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "/dev/") {
		return pipe{}, false, err
	}
	return fifoAt(path)
}

// fifoAt has the file system asked for nothing that is not known already
// (statx(2), AT_STATX_DONT_SYNC), and waits no longer than a moment: NFS may ask
// its server all the same.
func fifoAt(path string) (p pipe, ok bool, err error) {
	type answer struct {
		unix.Statx_t
		error
	}
	got := make(chan answer, 1)
	go func() {
		var a answer
		_, a.error = retry(func() (int, error) {
			return 0, unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &a.Statx_t)
		})
		got <- a
	}()
	select {
	case a := <-got:
		dev := unix.Mkdev(a.Dev_major, a.Dev_minor)
		return pipe{dev: dev, ino: a.Ino}, a.error == nil && a.Mode&unix.S_IFMT == unix.S_IFIFO, a.error
	case <-time.After(patience):
		return pipe{}, false, nil
	}
}
