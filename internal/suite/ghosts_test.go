//go:build linux

package suite_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// closing runs killport --close-ghosts through a command, and reads its record.
func closing(t *testing.T, through []string, port int, args ...string) (result, gjson.Result) {
	t.Helper()
	argv := slices.Concat([]string{"seeing", "killport", "--close-ghosts", strconv.Itoa(port)}, args)
	return sight{through: through}.run(t, argv...)
}

// binds fails the test unless a new server can have the port.
func binds(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", addr) // with SO_REUSEADDR
	if err != nil {
		t.Errorf("a new server cannot have the port: %v", err)
		return
	}
	l.Close()
}

// TestCloseGhosts: the sockets that nobody has are closed, all of them, and
// nothing is signalled.
func TestCloseGhosts(t *testing.T) {
	require(t, "ghosts")
	for name, n := range map[string]int{"one": 1, "reuseport": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			addr := "127.0.0.1:" + strconv.Itoa(freshPorts(1))
			var all []*animal
			for range n {
				all = append(all, zoo(t, dir, "scm", "--reuseport", addr))
			}
			beside := zoo(t, dir, "scm")
			if got := len(listening(t, all[0].Port)); got != n {
				t.Fatalf("%d ghosts, want %d", got, n)
			}
			res, line := closing(t, nil, all[0].Port)
			if res.code != 0 || line.Get("status").Str != "cleaned" || line.Get("killed").Raw != "[]" || line.Get("still_listening").Bool() {
				t.Errorf("exit code %d, want 0, and it cleaned: %s", res.code, line)
			}
			if len(listening(t, all[0].Port)) != 0 {
				t.Error("it is listened on")
			}
			binds(t, addr)
			for _, a := range append(all, beside) {
				a.lives(t, a.PID)
			}
			if len(listening(t, beside.Port)) != 1 {
				t.Error("the ghost of another port is gone")
			}
		})
	}
}

// unclosed fails the test unless the ghost is there as before, and killport
// says why.
func unclosed(t *testing.T, a *animal, res result, line gjson.Result, reason, hint string) {
	t.Helper()
	if res.code != 1 || line.Get("status").Str != "ghost" || line.Get("reason").Str != reason || line.Get("ghost").Raw != "[0]" ||
		!strings.Contains(line.Get("hint").Str, hint) {
		t.Errorf("exit code %d, want 1, status ghost, reason %s, a hint at %q: %s", res.code, reason, hint, line)
	}
	if len(listening(t, a.Port)) != 1 {
		t.Error("it is closed")
	}
	a.lives(t, a.PID)
}

// TestCloseGhostsDenied: it takes CAP_NET_ADMIN, which root in a container has
// not.
func TestCloseGhostsDenied(t *testing.T) {
	require(t, "ghosts", "otheruser")
	t.Parallel()
	a := zoo(t, t.TempDir(), "scm")
	res, line := closing(t, withoutNetAdmin, a.Port)
	unclosed(t, a, res, line, "denied", "CAP_NET_ADMIN")
}

// TestCloseGhostsMPTCP: the kernel does not close the sockets of MPTCP.
func TestCloseGhostsMPTCP(t *testing.T) {
	require(t, "ghosts")
	t.Parallel()
	dir := t.TempDir()
	if !zoo(t, dir, "serve", "--mptcp").MPTCP {
		t.Skip("the kernel gives no MPTCP socket")
	}
	a := zoo(t, dir, "scm", "--mptcp")
	res, line := closing(t, nil, a.Port)
	unclosed(t, a, res, line, "not_closable", "EINVAL")
}

// TestCloseGhostsDryRun: it is said, and not done.
func TestCloseGhostsDryRun(t *testing.T) {
	require(t, "ghosts")
	t.Parallel()
	a := zoo(t, t.TempDir(), "scm")
	for _, want := range []struct{ flags, outcome string }{
		{"--close-ghosts", "would_close"}, {"--override", "ghost"}, {"", "ghost"},
	} {
		res, line := sight{}.run(t, slices.Concat([]string{"seeing", "killport", "--dry-run", a.port()}, strings.Fields(want.flags))...)
		if res.code != 0 || line.Get("pkill2.outcome").Str != want.outcome {
			t.Errorf("%s: exit code %d, want 0, and %s: %s", want.flags, res.code, want.outcome, line)
		}
	}
	if len(listening(t, a.Port)) != 1 {
		t.Error("it is closed")
	}
	a.lives(t, a.PID)
}

// TestCloseGhostsSpares: what somebody has is no ghost, whoever says so. (That
// hidden holders are spared is in TestVisibility.)
func TestCloseGhostsSpares(t *testing.T) {
	require(t, "ghosts")
	t.Run("holder", func(t *testing.T) {
		t.Parallel()
		a := zoo(t, t.TempDir(), "slow", "--for", "300ms", "--mark", "mark")
		res, line := closing(t, nil, a.Port)
		if res.code != 0 || line.Get("killed").Raw != fmt.Sprintf("[%d]", a.PID) || line.Get("took_ms").Int() < 300 {
			t.Errorf("exit code %d, want 0, and PID %d to end as it does: %s", res.code, a.PID, line)
		}
	})
	t.Run("protected", func(t *testing.T) {
		t.Parallel()
		addr := "127.0.0.1:" + strconv.Itoa(freshPorts(1))
		res := run(t, tool(t.Context(), "", "zoo", "run-holding", addr, "--",
			"seeing", "sh", "-c", "killport --close-ghosts {port}; echo $?; listeners {port}"))
		lines := strings.Split(res.stdout, "\n")
		if len(lines) != 4 || lines[1] != "1" || gjson.Get(lines[0], "reason").Str != "ancestor" || gjson.Get(lines[2], "pid").Int() != int64(res.pid) {
			t.Errorf("want PID %d to have it still: %q", res.pid, lines)
		}
	})
	t.Run("forged", func(t *testing.T) {
		t.Parallel()
		a := zoo(t, t.TempDir(), "serve")
		socket := gjson.Get(list(t, a.Port), "socket").Raw
		forged := fmt.Sprintf(`{"proto":"TCP","local_addr":"127.0.0.1","local_port":%d,"pid":0,"owner":"none","socket":%s}`+"\n", a.Port, socket)
		res := run(t, tool(t.Context(), forged, "seeing", "pkill2", "--close-ghosts"))
		if res.code != 1 || gjson.Get(res.stdout, "pkill2.outcome").Str != "ghost" || gjson.Get(res.stdout, "pkill2.reason").Str != "not_closable" {
			t.Errorf("exit code %d, want 1, and it not closed: %s", res.code, res.stdout)
		}
		if len(listening(t, a.Port)) != 1 {
			t.Error("it is closed")
		}
		a.lives(t, a.PID)
	})
}

// TestExitingIsNamed: one that takes long to close its files shows none of them,
// and is the reason for a ghost all the same.
func TestExitingIsNamed(t *testing.T) {
	require(t, "ghosts")
	a := zoo(t, t.TempDir(), "lingering", "--for", "3s")
	a.pins[a.PID].signal(syscall.SIGTERM)
	var line gjson.Result
	if !eventually(2*time.Second, func() bool {
		_, line = sight{}.run(t, "seeing", "portdiag", strconv.Itoa(a.Port))
		return line.Get("verdict").Str == "ghost"
	}) {
		t.Fatalf("no ghost: %s", line)
	}
	if f := line.Get("findings.0"); f.Get("cause").Str != "ghost" || f.Get("evidence.exiting").Raw != fmt.Sprintf("[%d]", a.PID) || !strings.Contains(f.Get("summary").Str, "wait for ") {
		t.Errorf("the finding is %s; want one that names PID %d", f, a.PID)
	}
}
