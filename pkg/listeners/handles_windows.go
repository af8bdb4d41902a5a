package listeners

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/killport/killport/internal/afd"
	"github.com/killport/killport/pkg/process"
)

// handles are the handles of all processes that can be sockets, by PID.
type handles map[int][]windows.Handle

// handleEntry is SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX, which the headers do not
// have: https://github.com/winsiderss/systeminformer, phnt/include/ntexapi.h.
// It is the same since Windows XP.
type handleEntry struct {
	Object     uintptr
	PID        uintptr
	Handle     uintptr
	Access     uint32
	_          uint16
	Type       uint16
	Attributes uint32
	_          uint32
}

// readHandles asks for SystemExtendedHandleInformation. The number of a type
// differs between versions of Windows: that of a socket of ours tells it. So
// does its access, by which most of the pipes are left out that may not answer.
func readHandles() (handles, error) {
	process.MayTraceAll() // enables the privilege to look into others, if we have it
	own, err := windows.Socket(windows.AF_INET, windows.SOCK_STREAM, windows.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer windows.Closesocket(own)
	all, err := readEntries()
	if err != nil {
		return nil, err
	}
	self := uintptr(os.Getpid())
	at := slices.IndexFunc(all, func(e handleEntry) bool { return e.PID == self && e.Handle == uintptr(own) })
	if at < 0 {
		return nil, errors.New("the table of handles lacks our own")
	}
	h := handles{}
	for _, e := range all {
		if e.Type == all[at].Type && e.Access == all[at].Access {
			h[int(e.PID)] = append(h[int(e.PID)], windows.Handle(e.Handle))
		}
	}
	return h, nil
}

func readEntries() ([]handleEntry, error) {
	const limit = 1 << 29
	for size := uint32(1 << 20); size <= limit; {
		buf := make([]uintptr, size/uint32(unsafe.Sizeof(uintptr(0))))
		var need uint32
		err := windows.NtQuerySystemInformation(windows.SystemExtendedHandleInformation, unsafe.Pointer(&buf[0]), size, &need)
		if err == nil {
			const header = 2 // the number of entries, and a reserved field
			room := (uintptr(size) - header*unsafe.Sizeof(buf[0])) / unsafe.Sizeof(handleEntry{})
			return unsafe.Slice((*handleEntry)(unsafe.Pointer(&buf[header])), min(buf[0], room)), nil
		}
		if !errors.Is(err, windows.STATUS_INFO_LENGTH_MISMATCH) {
			return nil, fmt.Errorf("the table of handles: %w", err)
		}
		size = max(2*size, need+need/4)
	}
	return nil, fmt.Errorf("the table of handles takes more than %d bytes", limit)
}

// openSocket is one that a process has open.
type openSocket struct {
	local netip.AddrPort
	kind  afd.Kind
}

// is reports whether it is what counts as a listener of the protocol.
func (o openSocket) is(p Proto) bool {
	if p == UDP {
		return o.kind.Datagram
	}
	return o.kind.Listening
}

// sockets returns what the process has open. Its handles are copied, asked, and
// closed; the process notices nothing. A handle may never answer (a pipe that
// somebody reads from, until there is something), and is left behind then, with
// its copy.
func (h handles) sockets(ctx context.Context, pid int) ([]openSocket, error) {
	if len(h[pid]) == 0 {
		return nil, nil
	}
	owner, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, uint32(pid))
	if err != nil {
		return nil, fmt.Errorf("OpenProcess %d: %w", pid, err)
	}
	defer windows.CloseHandle(owner)
	var found []openSocket
	silent := 0
	for _, handle := range h[pid] {
		s, err := askCopy(ctx, owner, handle)
		switch {
		case err == nil:
			found = append(found, s)
		case errors.Is(err, errSilent):
			silent++
		}
		if ctx.Err() != nil || silent == maxSilent {
			break
		}
	}
	if silent > 0 {
		return found, fmt.Errorf("the handles of PID %d: %w", pid, errSilent)
	}
	return found, ctx.Err()
}

// socketsSoon is what can be learned of the process in a moment.
func (h handles) socketsSoon(ctx context.Context, pid int) []openSocket {
	ctx, cancel := context.WithTimeout(ctx, handlesWait)
	defer cancel()
	found, _ := h.sockets(ctx, pid)
	return found
}

// Idle is a socket that does not listen, with one who has it open.
type Idle struct {
	Local netip.AddrPort // without a zone
	PID   int
}

// Idles finds the sockets on the port of q that do not listen: those that are
// bound only, and connections. Of one that several have, each is
// named. All processes are looked at, for two seconds at most; into those
// of other users an administrator may look.
func Idles(ctx context.Context, q Query) ([]Idle, error) {
	ctx, cancel := context.WithTimeout(ctx, heirsWait)
	defer cancel()
	table, err := readHandles()
	if err != nil {
		return nil, err
	}
	var found []Idle
	for _, pid := range everybody() {
		for _, s := range table.socketsSoon(ctx, pid) {
			idle := Idle{s.local, pid}
			at := Socket{Proto: TCP, Local: s.local}
			if !s.kind.Datagram && !s.kind.Listening && q.Matches(at) && !slices.Contains(found, idle) {
				found = append(found, idle)
			}
		}
	}
	return found, nil
}

// A handle that takes longer than this is silent. So many are waited for in a
// process: each keeps one of our threads.
const (
	handleWait = 50 * time.Millisecond
	maxSilent  = 8
)

var errSilent = errors.New("no answer in time")

// askCopy asks a copy of a handle of the owner's.
func askCopy(ctx context.Context, owner, handle windows.Handle) (openSocket, error) {
	var mine windows.Handle
	err := windows.DuplicateHandle(owner, handle, windows.CurrentProcess(), &mine, 0, false, windows.DUPLICATE_SAME_ACCESS)
	if err != nil {
		return openSocket{}, os.NewSyscallError("DuplicateHandle", err)
	}
	type answer struct {
		s   openSocket
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		defer windows.CloseHandle(mine)
		s, err := ask(mine)
		answers <- answer{s, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, handleWait)
	defer cancel()
	select {
	case a := <-answers:
		return a.s, a.err
	case <-ctx.Done():
		return openSocket{}, errSilent
	}
}

// ask asks the driver behind sockets about one. A handle that is no socket
// refuses that.
func ask(handle windows.Handle) (s openSocket, err error) {
	b, err := control(handle, afd.GetAddress)
	if err != nil {
		return s, err
	}
	if s.local, err = afd.ParseAddress(b); err != nil {
		return s, err
	}
	if isWine() {
		s.kind, err = askWine(handle)
		return s, err
	}
	if b, err = control(handle, afd.GetContext); err == nil {
		s.kind, err = afd.ParseContext(b)
	}
	return s, err
}

// isWine: no other ntdll.dll has that.
var isWine = sync.OnceValue(func() bool { return ntdll.NewProc("wine_get_version").Find() == nil })

// askWine: the driver of Wine has no context to give, and other requests in its
// place.
func askWine(handle windows.Handle) (afd.Kind, error) {
	info, ierr := control(handle, afd.WineGetInfo)
	accepts, aerr := control(handle, afd.WineGetAcceptConn)
	if err := errors.Join(ierr, aerr); err != nil {
		return afd.Kind{}, err
	}
	return afd.ParseWine(info, accepts)
}

var (
	ntdll                 = windows.NewLazySystemDLL("ntdll.dll")
	ntDeviceIoControlFile = ntdll.NewProc("NtDeviceIoControlFile")
)

// control makes a request of the driver. The answer may be longer than there
// is room for.
func control(handle windows.Handle, request uintptr) ([]byte, error) {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(event)
	var status windows.IO_STATUS_BLOCK
	out := make([]byte, afd.MaxAnswer)
	ret, _, _ := ntDeviceIoControlFile.Call(uintptr(handle), uintptr(event), 0, 0, uintptr(unsafe.Pointer(&status)),
		request, 0, 0, uintptr(unsafe.Pointer(&out[0])), uintptr(len(out)))
	nt := windows.NTStatus(ret)
	if nt == windows.STATUS_PENDING {
		_, _ = windows.WaitForSingleObject(event, windows.INFINITE)
		nt = status.Status
	}
	if nt != windows.STATUS_SUCCESS && nt != windows.STATUS_BUFFER_OVERFLOW {
		return nil, nt
	}
	return out[:min(int(status.Information), len(out))], nil
}
