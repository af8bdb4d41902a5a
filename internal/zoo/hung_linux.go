package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/fuse.h, unchanged since protocol 7.23 (Linux 3.15). Native byte order.
const (
	// Opcodes.
	fuseLookup = 1
	fuseOpen   = 14
	fuseFlush  = 25
	fuseInit   = 26

	// struct fuse_in_header { u32 len, opcode; u64 unique, nodeid; u32 uid, gid, pid; … }
	fuseInHeader = 40
	// struct fuse_out_header { u32 len; s32 error; u64 unique }
	fuseOutHeader = 16
	// struct fuse_init_out, which begins { u32 major, minor, max_readahead, flags; u16 max_background,
	// congestion_threshold; u32 max_write; … }
	fuseInitOut = 64
	// struct fuse_open_out { u64 fh; u32 open_flags, … }
	fuseOpenOut = 16

	fuseMajor, fuseMinor = 7, 31
	fuseMinBuffer        = 8192 // FUSE_MIN_READ_BUFFER: with less a read fails
)

// hung starts a holder that asks a FUSE file system for a name, and serves that file system, without ever an answer. A
// request that the server has read cannot be interrupted, by SIGKILL neither (request_wait_answer in fs/fuse/dev.c),
// until the server closes its end. The file system is mounted nowhere, so that nobody else can run into it.
func hung(c *call) error {
	mode := "stuck"
	if c.thread {
		mode = "stuck-thread"
	}
	f, err := c.withFUSE(mode, unix.S_IFDIR|0o755, fuseLookup)
	if err != nil {
		return err
	}
	if err := <-f.asked; err != nil {
		return err
	}
	return c.holdWhile([]*child{f.holder}, f.ready())
}

// lingering starts a holder that takes long to close its files when it ends: one of them is in a file system that is
// asked before (FUSE_FLUSH).
func lingering(c *call) error {
	f, err := c.withFUSE("stuck-exit", unix.S_IFREG|0o644, fuseFlush)
	if err != nil {
		return err
	}
	go func() {
		<-f.asked
		time.Sleep(cmp.Or(c.lasting, time.Second))
		unix.Close(f.server)
	}()
	return c.holdWhile([]*child{f.holder}, f.ready())
}

// A fuse is a file system with a holder in it.
type fuse struct {
	server int
	holder *child
	asked  chan error // nil when the request has come that gets no answer
}

// withFUSE starts a mode which has the root of a new file system as fd 3.
func (c *call) withFUSE(mode string, root, last uint32) (*fuse, error) {
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unavailable("open /dev/fuse", err)
	}
	mount, err := mountFUSE(server, root)
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	f := &fuse{server: server, asked: make(chan error, 1)}
	go func() { f.asked <- answerUntil(last, server) }()
	f.holder, err = c.spawn(leashed, []*os.File{mount}, mode, c.addr())
	return f, err
}

func (f *fuse) ready() ready {
	r := f.holder.ready
	r.Parent = os.Getpid()
	return r
}

// mountFUSE gives the root, of that type, of a new file system that server serves.
func mountFUSE(server int, root uint32) (*os.File, error) {
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, unavailable("fsopen", err)
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{
		{"fd", strconv.Itoa(server)},
		{"rootmode", strconv.FormatUint(uint64(root), 8)},
		{"user_id", strconv.Itoa(os.Getuid())},
		{"group_id", strconv.Itoa(os.Getgid())},
	} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return nil, os.NewSyscallError("fsconfig "+option[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, unavailable("fsconfig", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, unavailable("fsmount", err)
	}
	return os.NewFile(uintptr(mount), "fuse"), nil
}

// answerUntil answers requests until the last one, which it leaves without an answer.
func answerUntil(last uint32, server int) error {
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(server, request)
		if err == unix.EINTR || err == unix.ENOENT { // ENOENT: a request was taken back
			continue
		}
		if err != nil || n < fuseInHeader {
			return fmt.Errorf("read %d bytes of /dev/fuse: %w", n, err)
		}
		opcode := binary.NativeEndian.Uint32(request[4:])
		if opcode == last {
			return nil
		}
		body, ok := fuseAnswers[opcode]
		if !ok {
			return fmt.Errorf("FUSE request %d", opcode)
		}
		answer := make([]byte, fuseOutHeader, fuseOutHeader+len(body))
		binary.NativeEndian.PutUint32(answer, uint32(fuseOutHeader+len(body)))
		copy(answer[8:], request[8:16]) // unique
		if _, err := unix.Write(server, append(answer, body...)); err != nil {
			return os.NewSyscallError("write /dev/fuse", err)
		}
	}
}

var fuseAnswers = map[uint32][]byte{
	fuseInit: fuseGreeting(),
	fuseOpen: make([]byte, fuseOpenOut),
}

func fuseGreeting() []byte {
	b := make([]byte, fuseInitOut)
	binary.NativeEndian.PutUint32(b, fuseMajor)
	binary.NativeEndian.PutUint32(b[4:], fuseMinor)
	binary.NativeEndian.PutUint32(b[20:], fuseMinBuffer/2) // max_write
	return b
}

// stuck waits for a name in the folder that it has as fd 3, on its main thread, see init.
func stuck(c *call) error {
	if err := c.announceListener(); err != nil {
		return err
	}
	return ask()
}

// stuckThread does so on another thread, so that the one which leads the process can end.
func stuckThread(c *call) error {
	if err := c.announceListener(); err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- ask()
	}()
	return <-done
}

// stuckExit has the file that it has as fd 3 open before its listener: files are closed in that order.
func stuckExit(c *call) error {
	if _, err := unix.Open("/proc/self/fd/3", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("open", err)
	}
	return serve(c)
}

func (c *call) announceListener() error {
	l, err := c.listen(c.addr(), nil)
	if err != nil {
		return err
	}
	return c.announce(at(l.Addr(), os.Getpid()))
}

// ask returns when the server is gone.
func ask() error {
	var st unix.Stat_t
	err := unix.Fstatat(3, "name", &st, 0)
	return os.NewSyscallError("fstatat", err)
}
