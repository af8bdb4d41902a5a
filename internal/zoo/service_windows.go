package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// service has this program installed and started as a service, and removes it in the end.
func service(c *call) error {
	dir, err := os.MkdirTemp("", "killport-zoo")
	if err != nil {
		return err
	}
	mark := c.markFile
	if mark != "" {
		if mark, err = filepath.Abs(mark); err != nil {
			return err
		}
	}
	portFile := filepath.Join(dir, "port")
	s, err := c.install("run-service", "--life="+c.left().String(), "--for="+c.lasting.String(), "--mark="+mark, "--port-file="+portFile, c.addr())
	if err != nil {
		return err
	}
	farewell <- func() {
		_, _ = s.Control(svc.Stop)
		_ = s.Delete()
		_ = os.RemoveAll(dir)
	}
	if err := s.Start(); err != nil {
		return err
	}
	port, err := c.portOf(portFile)
	if err != nil {
		return err
	}
	status, err := s.Query()
	if err != nil {
		return err
	}
	if c.stopping {
		if err := c.beginStop(s); err != nil {
			return err
		}
	}
	pid := int(status.ProcessId)
	return c.hold(ready{PID: pid, Port: port, Addr: withPort(c.addr(), port), PIDs: []int{pid}, Parent: os.Getpid()})
}

// beginStop asks a service to stop, and waits until it says that it does.
func (c *call) beginStop(s *mgr.Service) error {
	status, err := s.Control(svc.Stop)
	for ; err == nil && status.State != svc.StopPending; status, err = s.Query() {
		if status.State == svc.Stopped || c.left() <= 0 {
			return errors.New("the service does not take its time to stop")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

func (c *call) install(args ...string) (*mgr.Service, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m, err := mgr.Connect()
	if err != nil {
		return nil, err
	}
	defer m.Disconnect()
	return m.CreateService(fmt.Sprintf("killport-zoo-%d", os.Getpid()), exe, mgr.Config{}, args...)
}

// portOf waits for the port that a service says in a file: it has no stdout.
func (c *call) portOf(file string) (int, error) {
	for ; c.left() > 0; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(file); err == nil {
			return strconv.Atoi(string(b))
		}
	}
	return 0, errors.New("the service does not start")
}

func runService(c *call) error { return svc.Run("", (*stoppable)(c)) }

// stoppable is a call as the service control manager runs it.
type stoppable call

// Execute implements svc.Handler.
func (s *stoppable) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (bool, uint32) {
	c := (*call)(s)
	r, err := c.serveAll()
	if err != nil {
		return false, 1
	}
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop}
	if err := publish(c.portFile, strconv.Itoa(r.Port)); err != nil {
		return false, 1
	}
	for r := range requests {
		switch r.Cmd {
		case svc.Interrogate:
			status <- r.CurrentStatus
		case svc.Stop:
			_ = c.mark("stopped")
			status <- svc.Status{State: svc.StopPending}
			time.Sleep(c.lasting)
			return false, 0
		}
	}
	return false, 0
}
