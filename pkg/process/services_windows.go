package process

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// services asks the service control manager, which tells everybody who is at
// the machine.
func services(pid int) ([]Service, error) {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		return nil, os.NewSyscallError("OpenSCManager", err)
	}
	defer windows.CloseServiceHandle(manager)
	return servicesIn(uint32(pid), func(page []uint64, resume *uint32) (uint32, error) {
		var need, returned uint32
		err := windows.EnumServicesStatusEx(manager, windows.SC_ENUM_PROCESS_INFO, windows.SERVICE_WIN32, windows.SERVICE_ACTIVE,
			(*byte)(unsafe.Pointer(&page[0])), uint32(8*len(page)), &need, &returned, resume, nil)
		return returned, err
	})
}

// readPage fills a page with the services from resume on, and says how many
// entries it has and, by ERROR_MORE_DATA, that there are more. A page is numbers
// to Go: text would be taken for the pointers of an entry.
type readPage func(page []uint64, resume *uint32) (uint32, error)

// servicesIn reads the whole table, in pages of 256 KiB, which is as much as
// the service control manager gives at once (MS-SCMR, REnumServicesStatusExW,
// cbBufSize); behind the entries there are their names.
func servicesIn(pid uint32, read readPage) ([]Service, error) {
	const pageSize, pages = 256 << 10, 64
	page := make([]uint64, pageSize/8)
	var found []Service
	var resume uint32
	for range pages {
		n, err := read(page, &resume)
		if err != nil && !errors.Is(err, windows.ERROR_MORE_DATA) {
			return nil, os.NewSyscallError("EnumServicesStatusEx", err)
		}
		n = min(n, pageSize/uint32(unsafe.Sizeof(windows.ENUM_SERVICE_STATUS_PROCESS{})))
		entries := unsafe.Slice((*windows.ENUM_SERVICE_STATUS_PROCESS)(unsafe.Pointer(&page[0])), n)
		found = append(found, servicesOf(entries, pid)...)
		if err == nil {
			slices.SortFunc(found, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
			return slices.Compact(found), nil // twice, if the table has changed meanwhile
		}
	}
	return nil, fmt.Errorf("the table of services takes more than %d bytes", pages*pageSize)
}

func servicesOf(all []windows.ENUM_SERVICE_STATUS_PROCESS, pid uint32) []Service {
	var found []Service
	for _, s := range all {
		if status := s.ServiceStatusProcess; status.ProcessId == pid {
			found = append(found, Service{Name: windows.UTF16PtrToString(s.ServiceName), Own: isOwn(status.ServiceType)})
		}
	}
	return found
}

// isOwn: beside these two bits there may be others (SERVICE_INTERACTIVE_PROCESS).
func isOwn(kind uint32) bool {
	return kind&windows.SERVICE_WIN32_OWN_PROCESS != 0 && kind&windows.SERVICE_WIN32_SHARE_PROCESS == 0
}

func (p *Pin) stopService(name string) (string, error) {
	if p.exited() {
		return "", ErrGone
	}
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return "", os.NewSyscallError("OpenSCManager", err)
	}
	defer windows.CloseServiceHandle(manager)
	wide, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return "", err
	}
	service, err := windows.OpenService(manager, wide, windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return "", os.NewSyscallError("OpenService", err)
	}
	defer windows.CloseServiceHandle(service)
	status, err := statusOf(service)
	switch {
	case err != nil:
		return "", err
	case status.CurrentState != windows.SERVICE_STOPPED && (status.ProcessId != uint32(p.pid) || !isOwn(status.ServiceType)):
		return "", fmt.Errorf("service %q runs elsewhere", name)
	case stops(status):
		return "", nil
	}
	var now windows.SERVICE_STATUS
	err = windows.ControlService(service, windows.SERVICE_CONTROL_STOP, &now)
	if err == nil {
		return "SERVICE_CONTROL_STOP", nil
	}
	if status, serr := statusOf(service); serr == nil && stops(status) { // another was faster
		return "", nil
	}
	return "", unstoppable(name, err)
}

func statusOf(service windows.Handle) (windows.SERVICE_STATUS_PROCESS, error) {
	var status windows.SERVICE_STATUS_PROCESS
	var need uint32
	err := windows.QueryServiceStatusEx(service, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&status)), uint32(unsafe.Sizeof(status)), &need)
	return status, os.NewSyscallError("QueryServiceStatusEx", err)
}

// stops reports whether a service is on its way out, or has stopped: it
// accepts no request then, and needs none.
func stops(status windows.SERVICE_STATUS_PROCESS) bool {
	return status.CurrentState == windows.SERVICE_STOP_PENDING || status.CurrentState == windows.SERVICE_STOPPED
}

// unstoppable says why a service does not take the request to stop.
func unstoppable(name string, err error) error {
	switch {
	case errors.Is(err, windows.ERROR_INVALID_SERVICE_CONTROL), errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL):
		return fmt.Errorf("%w: service %q does not accept it", ErrCannotAsk, name)
	case errors.Is(err, windows.ERROR_DEPENDENT_SERVICES_RUNNING):
		return fmt.Errorf("other services need %q: stop those first: net stop %q", name, name)
	}
	return os.NewSyscallError("ControlService", err)
}
