package process

// Service is a service of Windows.
type Service struct {
	Name string
	Own  bool // it has its process for itself
}

// Services returns the services that run in a process, in the order of their
// names: none where there is no such thing.
func Services(pid int) ([]Service, error) { return services(pid) }

// OwnService returns the name of the service that the process is; "" if it is
// none, or more than one.
func OwnService(pid int) string {
	found, err := Services(pid)
	if err != nil || len(found) != 1 || !found[0].Own {
		return ""
	}
	return found[0].Name
}

// StopService asks the service control manager to stop a service, if the
// pinned process is that service and nothing else. One that stops already is
// not asked again.
func (p *Pin) StopService(name string) error { return p.note(p.stopService(name)) }
