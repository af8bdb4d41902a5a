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

// services asks the service control manager, which tells everybody.
func services(pid int) ([]Service, error) {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		return nil, os.NewSyscallError("OpenSCManager", err)
	}
	defer windows.CloseServiceHandle(manager)
	const limit = 1 << 24
	for size := uint32(1 << 16); size <= limit; {
		buf := make([]uint64, size/8)
		var need, returned, resume uint32
		err := windows.EnumServicesStatusEx(manager, windows.SC_ENUM_PROCESS_INFO, windows.SERVICE_WIN32, windows.SERVICE_ACTIVE,
			(*byte)(unsafe.Pointer(&buf[0])), size, &need, &returned, &resume, nil)
		if err == nil {
			all := unsafe.Slice((*windows.ENUM_SERVICE_STATUS_PROCESS)(unsafe.Pointer(&buf[0])), returned)
			return servicesOf(all, uint32(pid)), nil
		}
		if !errors.Is(err, windows.ERROR_MORE_DATA) {
			return nil, os.NewSyscallError("EnumServicesStatusEx", err)
		}
		size = max(2*size, (size+need+7)&^7)
	}
	return nil, fmt.Errorf("the table of services takes more than %d bytes", limit)
}

func servicesOf(all []windows.ENUM_SERVICE_STATUS_PROCESS, pid uint32) []Service {
	var found []Service
	for _, s := range all {
		if status := s.ServiceStatusProcess; status.ProcessId == pid {
			found = append(found, Service{Name: windows.UTF16PtrToString(s.ServiceName), Own: isOwn(status.ServiceType)})
		}
	}
	slices.SortFunc(found, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
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
