package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// A Status is what /proc/PID/status says, as far as it is of use here. A line that is not there leaves its zero: a
// kernel thread has no memory, old kernels have no NSpid (before 4.1). Name, State, Uid, TracerPid and CapEff are
// there always.
type Status struct {
	Name      string // as in Stat.Comm
	State     byte   // R, S, D, Z, T, t, I, X …
	UID       uint32 // real, in the user namespace of the reader
	EUID      uint32 // effective, likewise
	TracerPID int    // who traces it (ptrace(2)), in the PID namespace of /proc; 0 for nobody, or for one outside
	CapEff    uint64 // effective capabilities, bits 1<<CAP_… of include/uapi/linux/capability.h

	// NSPID is the process ID in the PID namespace of /proc, then in each namespace nested in it, down to the
	// process's own. More than one: the process is in a container, seen from outside.
	NSPID []int
}

// ParseStatus parses /proc/PID/status: lines of a key, a colon, a tab and a value (proc_pid_status of
// fs/proc/array.c). The kernel escapes newlines and backslashes in the name, so no name can look like another line.
func ParseStatus(b []byte) (Status, error) {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return Status{}, fmt.Errorf("status: %w", errCutOff)
	}
	var s Status
	seen := make(map[string]bool)
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		parse := statusLines[string(key)]
		if parse == nil {
			continue
		}
		if seen[string(key)] {
			return Status{}, fmt.Errorf("status: %s: second time", key)
		}
		seen[string(key)] = true
		value, ok := bytes.CutPrefix(value, []byte("\t"))
		if !ok {
			return Status{}, fmt.Errorf("status: %s: no tab", key)
		}
		if err := parse(&s, bytes.TrimSuffix(value, []byte("\n"))); err != nil {
			return Status{}, fmt.Errorf("status: %s: %w", key, err)
		}
	}
	return s, nil
}

var statusLines = map[string]func(*Status, []byte) error{
	"Name":      (*Status).parseName,
	"State":     (*Status).parseState,
	"Uid":       (*Status).parseUIDs,
	"TracerPid": (*Status).parseTracerPID,
	"CapEff":    (*Status).parseCapEff,
	"NSpid":     (*Status).parseNSPID,
}

// unescapeName undoes what proc_task_name of fs/proc/array.c does to a name.
var unescapeName = strings.NewReplacer(`\n`, "\n", `\\`, `\`)

func (s *Status) parseName(value []byte) error {
	s.Name = unescapeName.Replace(string(value))
	return nil
}

// A state is a letter and words: "S (sleeping)".
func (s *Status) parseState(value []byte) error {
	if len(value) == 0 || !isLetter(value[0]) || len(value) > 1 && value[1] != ' ' {
		return fmt.Errorf("%s is not a state", quote(value))
	}
	s.State = value[0]
	return nil
}

// The user IDs are real, effective, saved and of the file system.
func (s *Status) parseUIDs(value []byte) error {
	fields := bytes.Split(value, []byte("\t"))
	if len(fields) != 4 {
		return fmt.Errorf("%d user IDs, want 4", len(fields))
	}
	var uids [4]uint32
	for i, field := range fields {
		var err error
		if uids[i], err = parseUID(field); err != nil {
			return err
		}
	}
	s.UID, s.EUID = uids[0], uids[1]
	return nil
}

func (s *Status) parseTracerPID(value []byte) (err error) {
	s.TracerPID, err = parsePID(value)
	return err
}

func (s *Status) parseCapEff(value []byte) (err error) {
	s.CapEff, err = parseHex(value, 16)
	return err
}

func (s *Status) parseNSPID(value []byte) error {
	for field := range bytes.SplitSeq(value, []byte("\t")) {
		if len(s.NSPID) > maxNamespaces {
			return errors.New("too many namespaces")
		}
		pid, err := parsePID(field)
		if err != nil {
			return err
		}
		s.NSPID = append(s.NSPID, pid)
	}
	return nil
}

// maxNamespaces is MAX_PID_NS_LEVEL of include/linux/pid_namespace.h: how deep they nest below the first one.
const maxNamespaces = 32
