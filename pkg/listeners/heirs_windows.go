package listeners

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/killport/killport/pkg/process"
)

// The search for heirs is bounded, as a whole and in each process, and so is the
// look into the one that is to be ended: to ask a handle may take for ever (a
// pipe that somebody reads from does not answer until there is something).
const (
	heirsWait   = 2 * time.Second
	handlesWait = 500 * time.Millisecond
	verifyWait  = 5 * time.Second
)

// haunt names the heirs of the ghosts among lines.
func haunt(ctx context.Context, found []Socket, lines []Listener, ghosts []int) {
	ctx, cancel := context.WithTimeout(ctx, heirsWait)
	defer cancel()
	table, err := readHandles()
	if err != nil {
		return
	}
	seen := map[int][]netip.AddrPort{} // by PID
	for _, i := range ghosts {
		for _, candidates := range [][]int{kin(found[i]), everybody()} {
			for _, pid := range candidates {
				if _, known := seen[pid]; !known && ctx.Err() == nil {
					seen[pid], _ = table.socketsSoon(ctx, pid)
				}
				if leads(seen[pid], found[i]) {
					lines[i].Heirs = append(lines[i].Heirs, heir(pid))
				}
			}
			if len(lines[i].Heirs) > 0 {
				break
			}
		}
	}
}

// kin are those that can have inherited the socket from the process in the
// table. Nobody but a child inherits; but where its own parent has ended, a
// grandchild cannot be told from a stranger.
func kin(s Socket) []int {
	if s.PID == 0 {
		return nil
	}
	pids, _ := process.Kin(int(s.PID), s.ID.boundAt().Time())
	return pids
}

func everybody() []int {
	pids, _ := process.All()
	slices.Sort(pids)
	return slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() || pid <= 4 })
}

func heir(pid int) Heir {
	h := Heir{PID: pid}
	p, err := process.Open(pid)
	if err != nil {
		return h
	}
	defer p.Close()
	info, _ := p.Inspect()
	h.Name = info.Name
	h.Birth, _ = p.Birth()
	return h
}

// inherited reports whether one of the process's handles leads to the socket.
func inherited(p *process.Pin, s Socket) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), verifyWait)
	defer cancel()
	table, err := readHandles()
	if err != nil {
		return false, err
	}
	local, err := table.sockets(ctx, p.PID())
	if p.Exited() {
		return false, process.ErrGone
	}
	return leads(local, s), err
}

// leads reports whether one of the addresses of sockets is that of s. No zone
// is told; and what listens on [::] may be in the table of IPv4 as well.
func leads(addrs []netip.AddrPort, s Socket) bool {
	return slices.ContainsFunc(addrs, func(a netip.AddrPort) bool {
		both := a.Addr().IsUnspecified() && s.Local.Addr().IsUnspecified()
		return a.Port() == s.Local.Port() && (both || a.Addr() == s.Local.Addr().WithZone(""))
	})
}

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

// sockets returns the local addresses of the sockets that the process has. Its
// handles are copied, asked, and closed; the process notices nothing. What
// does not answer in time is left behind.
func (h handles) sockets(ctx context.Context, pid int) ([]netip.AddrPort, error) {
	if len(h[pid]) == 0 {
		return nil, nil
	}
	owner, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, uint32(pid))
	if err != nil {
		return nil, fmt.Errorf("OpenProcess %d: %w", pid, err)
	}
	answers := make(chan netip.AddrPort)
	go func() {
		defer windows.CloseHandle(owner)
		defer close(answers)
		for _, handle := range h[pid] {
			addr, ok := askCopy(owner, handle)
			if !ok {
				continue
			}
			select {
			case answers <- addr:
			case <-ctx.Done():
				return
			}
		}
	}()
	var found []netip.AddrPort
	for {
		select {
		case addr, more := <-answers:
			if !more {
				return found, nil
			}
			found = append(found, addr)
		case <-ctx.Done():
			return found, fmt.Errorf("the handles of PID %d: %w", pid, ctx.Err())
		}
	}
}

func (h handles) socketsSoon(ctx context.Context, pid int) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, handlesWait)
	defer cancel()
	return h.sockets(ctx, pid)
}

func askCopy(owner, handle windows.Handle) (netip.AddrPort, bool) {
	var mine windows.Handle
	err := windows.DuplicateHandle(owner, handle, windows.CurrentProcess(), &mine, 0, false, windows.DUPLICATE_SAME_ACCESS)
	if err != nil {
		return netip.AddrPort{}, false
	}
	defer windows.CloseHandle(mine)
	return askAFD(mine)
}

var ntDeviceIoControlFile = windows.NewLazySystemDLL("ntdll.dll").NewProc("NtDeviceIoControlFile")

// askAFD asks the driver behind sockets for the local address: what
// getsockname does, without a socket of Winsock's. The request is
// IOCTL_AFD_GET_ADDRESS (phnt/include/ntafd.h), and its answer a sockaddr.
// A handle that is no socket refuses it.
func askAFD(handle windows.Handle) (netip.AddrPort, bool) {
	const getAddress = 0x1202F
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return netip.AddrPort{}, false
	}
	defer windows.CloseHandle(event)
	var status windows.IO_STATUS_BLOCK
	out := make([]byte, 128)
	ret, _, _ := ntDeviceIoControlFile.Call(uintptr(handle), uintptr(event), 0, 0, uintptr(unsafe.Pointer(&status)),
		getAddress, 0, 0, uintptr(unsafe.Pointer(&out[0])), uintptr(len(out)))
	nt := windows.NTStatus(ret)
	if nt == windows.STATUS_PENDING {
		_, _ = windows.WaitForSingleObject(event, windows.INFINITE)
		nt = status.Status
	}
	if nt != windows.STATUS_SUCCESS {
		return netip.AddrPort{}, false
	}
	return sockaddr(out[:min(int(status.Information), len(out))])
}

// sockaddr reads a SOCKADDR_IN or SOCKADDR_IN6 (ws2def.h, ws2ipdef.h), in some
// versions behind a TDI header; its family is little-endian, its port is not.
func sockaddr(b []byte) (netip.AddrPort, bool) {
	if len(b) < 16 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.LittleEndian.Uint16(b); {
	case family == windows.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port), true
	case family == windows.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])), port), true
	}
	return netip.AddrPort{}, false
}
