package portdiag

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// managedCauses are the causes by what manages a holder.
var managedCauses = map[manager.Kind]Cause{
	manager.Container:  CauseContainer,
	manager.Unit:       CauseUnit,
	manager.SocketUnit: CauseSocketUnit,
	manager.Service:    CauseService,
	manager.Supervisor: CauseSupervisor,
}

// managedFinding is about what manages the holder of a listener.
func managedFinding(m *manager.Manager, pid int) Finding {
	f := Finding{
		Cause: managedCauses[m.Kind], Severity: Error, Evidence: evidenceOf(m, pid),
	}
	f.Summary = m.Name
	switch {
	case m.Engine != "":
		f.Summary += " (" + m.Engine + ")"
	case m.PID != 0:
		f.Summary += fmt.Sprintf(" (PID %d)", m.PID)
	}
	f.Summary += " " + verb(m)
	switch m.Restart {
	case "", "no":
	case "on-change":
		f.Summary += ", and starts it again when a file changes"
	default:
		f.Summary += ", and starts it again (" + m.Restart + ")"
	}
	switch {
	case m.Control() == manager.StopsOthers:
		f.Summary += "; killport leaves it alone: " + m.Reason
	case m.Reason != "":
		f.Summary += "; killport cannot stop it: " + m.Reason
	}
	if len(m.Stop) > 0 {
		f.Remedy = &Remedy{Command: slices.Clone(m.Stop)}
		if takesRoot(m) {
			f.Remedy = asRoot(m.Stop...)
		}
	}
	return f
}

// takesRoot reports whether only root may stop m. Who may use an engine of
// containers, it alone knows.
func takesRoot(m *manager.Manager) bool {
	switch m.Kind {
	case manager.Unit, manager.SocketUnit:
		return !m.User
	case manager.Supervisor:
		return errors.Is(mayEnd(m.PID), process.ErrDenied)
	}
	return m.Kind == manager.Service
}

// mayEnd returns nil if we have the permission to end the process.
func mayEnd(pid int) error {
	p, err := process.Open(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.MayTerminate()
}

func verb(m *manager.Manager) string {
	switch m.Kind {
	case manager.Container:
		return "has it"
	case manager.SocketUnit:
		return "listens"
	}
	return "runs it"
}

func evidenceOf(m *manager.Manager, pid int) map[string]any {
	evidence := map[string]any{"name": m.Name}
	if pid != 0 {
		evidence["pid"] = pid
	}
	for key, value := range map[string]string{
		"engine": m.Engine, "id": m.ID, "image": m.Image, "project": m.Project, "restart": m.Restart,
	} {
		if value != "" {
			evidence[key] = value
		}
	}
	for key, names := range map[string][]string{"also_stops": m.AlsoStops, "listens": m.Listens} {
		if len(names) > 0 {
			evidence[key] = names
		}
	}
	if m.User {
		evidence["user"] = true
	}
	if m.PID != 0 {
		evidence["supervisor_pid"] = m.PID
	}
	return evidence
}

// forward finds out whether a holder forwards a port over ssh.
func (l Listener) forward() (Finding, bool) {
	f := Finding{
		Cause: CauseSSHForward, Severity: Error,
		Evidence: map[string]any{"pid": l.PID, "name": l.Check.Name, "argv": append([]string{}, l.Check.Argv...)},
		Remedy:   l.remedy(),
	}
	title := strings.Join(l.Check.Argv, " ")
	switch {
	case l.Check.Name == "ssh":
		f.Summary = fmt.Sprintf("ssh (PID %d) forwards it to the other side: %s", l.PID, shell.Join(l.Check.Argv...))
	case strings.HasPrefix(l.Check.Name, "sshd") && strings.HasPrefix(title, "sshd") && !strings.Contains(title, "[listener]") && strings.Contains(title, ": "):
		f.Summary = fmt.Sprintf("a session of sshd (PID %d) forwards it from the other side: %s", l.PID, title)
	default:
		return Finding{}, false
	}
	return f, true
}

// Link is one step of the answer to why a port is held: the socket, the
// process that has it, what started that, and so on.
type Link struct {
	Kind LinkKind `json:"kind"`
	Name string   `json:"name"`
	PID  int      `json:"pid,omitempty"` // of a process
}

// LinkKind is what a link is.
type LinkKind string

// The kinds of links, in their order.
const (
	LinkSocket    LinkKind = "socket"
	LinkProcess   LinkKind = "process"
	LinkTerminal  LinkKind = "terminal"
	LinkUnit      LinkKind = "unit"
	LinkContainer LinkKind = "container"
)

// String says it to people: "zoo (PID 42)".
func (l Link) String() string {
	switch l.Kind {
	case LinkProcess:
		return fmt.Sprintf("%s (PID %d)", l.Name, l.PID)
	case LinkSocket:
		return l.Name
	}
	return string(l.Kind) + " " + l.Name
}

// terminalName is that of a device number, as field 7 of /proc/PID/stat has it
// (proc(5): the minor number is in bits 31 to 20 and 7 to 0).
func terminalName(device int) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return ""
	case 136 <= major && major <= 143: // UNIX98_PTY_SLAVE_MAJOR, Documentation/admin-guide/devices.txt
		return "pts/" + strconv.Itoa(minor+(major-136)<<8)
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(minor)
	case major == 4:
		return "ttyS" + strconv.Itoa(minor-64)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}
