package pkill2

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// holderNamed is a holder whose program has that name, as it is listed.
func holderNamed(t *testing.T, name, mode string) listeners.Listener {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(path, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "PKILL2_TEST_CHILD="+mode)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(strings.TrimSpace(line), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	found, err := listeners.List(t.Context(), listeners.Query{Proto: listeners.TCP, Port: uint16(port)})
	if err != nil || len(found) != 1 {
		t.Fatalf("List(%d) = %v, %v; want one", port, found, err)
	}
	return found[0]
}

func stateOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])[0])
}

// Nobody is stopped before it is decided that a signal is to end it; and who is
// stopped goes on with the end of the hunt.
func TestHoldsOnlyWhoIsToBeSignalled(t *testing.T) {
	for _, tt := range []struct {
		program string
		opts    Options
		want    bool
	}{
		{"server", Options{Grace: time.Minute, Via: ViaAuto}, true},
		{"dockerd", Options{Grace: time.Minute, Via: ViaAuto}, false},
		{"docker-proxy", Options{Grace: time.Minute, Via: ViaAuto}, false},
		{"dockerd", Options{Grace: time.Minute, Via: ViaProcess, Override: true}, true},
	} {
		l := holderNamed(t, tt.program, "plain")
		h := newHunt(tt.opts)
		h.began = process.Now()
		got := h.hold(t.Context(), l)
		if stopped := stateOf(t, l.PID) == "T"; (got != nil) != tt.want || stopped != tt.want {
			t.Errorf("%s: held %v, stopped %v; want %v (%+v)", tt.program, got != nil, stopped, tt.want, h.targets[0].result)
		}
		h.close()
		for end := time.Now().Add(10 * time.Second); stateOf(t, l.PID) == "T"; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: it is left stopped", tt.program)
			}
		}
	}
}

// Who has given the socket up while it was asked what manages it is not stopped.
func TestHoldsOnlyWhoHasTheSocket(t *testing.T) {
	l := holderNamed(t, "docker-proxy", "bound")
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nkill -USR2 %d\nwhile [ -e /proc/%[1]d/fd/%[2]d ]; do sleep 0.01; done\nexit 1\n", l.PID, *l.FD)
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h := newHunt(Options{Grace: time.Minute, Via: ViaAuto, Override: true})
	defer h.close()
	h.began = process.Now()
	got := h.hold(t.Context(), l)
	if state := stateOf(t, l.PID); got != nil || state == "T" || h.targets[0].result.Outcome != Released {
		t.Errorf("held %v, in state %s, %+v; want it released, and not stopped", got != nil, state, h.targets[0].result)
	}
}

// Who has bound a port for a connection, and has it now, is not signalled.
func TestLeavesConnections(t *testing.T) {
	for _, name := range []string{"before the first signal", "in the grace period", "at its end"} {
		l := holderNamed(t, "client", "bound")
		h := newHunt(Options{Grace: time.Minute, Signal: syscall.SIGTERM})
		in := []item{{listener: l}}
		if err := h.take(t.Context(), in); err != nil || l.State != listeners.Bound {
			t.Fatalf("take(%+v): %v", l, err)
		}
		connect(t, l)
		var err error
		if name == "before the first signal" {
			err = h.confirm(t.Context())
		} else {
			_, err = h.look(t.Context())
		}
		if h.started = time.Now(); name == "at its end" {
			h.started = h.started.Add(-time.Hour)
		}
		h.signal(t.Context())
		if sent := in[0].target.pin.Sent(); err != nil || len(sent) > 0 {
			t.Errorf("%s: it was sent %q, %v", name, sent, err)
		}
		h.close()
	}
}

// connect has a holder connect its socket, which is bound then no more.
func connect(t *testing.T, l listeners.Listener) {
	t.Helper()
	if err := syscall.Kill(l.PID, syscall.SIGUSR1); err != nil { // a child of ours
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		rows, err := listeners.Sockets(t.Context(), l.Query())
		if err != nil || time.Now().After(end) {
			t.Fatalf("Sockets() = %v, %v; want none", rows, err)
		}
		if len(rows) == 0 {
			return
		}
	}
}
