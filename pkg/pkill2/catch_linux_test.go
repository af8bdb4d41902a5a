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
	"testing"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// holderNamed is a holder whose program has that name, as it is listed.
func holderNamed(t *testing.T, name string) listeners.Listener {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(path, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "PKILL2_TEST_CHILD=plain")
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
		l := holderNamed(t, tt.program)
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
