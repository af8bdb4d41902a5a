//go:build linux

package suite_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a command may need, in KiB: for input that is refused, and for any.
const (
	memoryOfBad = 64 << 10
	memoryOfAny = 128 << 10
)

// feeds are what a reader of records may be fed with.
var feeds = []struct {
	name  string
	lines func(yield func(string) bool) // without end, or almost
	bad   bool
}{
	{"garbage", repeated(100_000, func(int) string { return "garbage" }), true},
	{"no record", repeated(50_000, func(int) string { return `{"pid":1}` }), true},
	{"long lines", repeated(5, func(int) string { return strings.Repeat("x", 10<<20) }), true},
	{"too many records", repeated(40_000, func(i int) string { return fakeRecord(i, "") }), true},
	{"long records", repeated(40, func(i int) string { return fakeRecord(i, `,"x":"`+strings.Repeat("y", 1<<20-500)+`"`) }), true},
	{"long managers", repeated(40, func(i int) string { return fakeRecord(i, fakeManager(340_000)) }), true},
	{"many managers", repeated(150, func(i int) string { return fakeRecord(i, fakeManager(85_000)) }), true},
	{"many heirs", repeated(3200, func(i int) string { return fakeGhost(i, 1024) }), true},
	{"too many heirs", repeated(20, func(i int) string { return fakeGhost(i, 50_000) }), true},
	{"as many records as fit", repeated(23_000, func(i int) string { return fakeRecord(i, "") }), false},
}

// kept are those of which there is only too much: pidcheck keeps nothing.
var kept = []string{"too many records", "long records", "long managers", "many managers", "many heirs"}

func repeated(n int, line func(int) string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(line(i)) {
				return
			}
		}
	}
}

// fakeRecord is of nobody: there are not so many processes.
func fakeRecord(i int, more string) string {
	return fmt.Sprintf(`{"proto":"TCP","local_addr":"127.0.0.1","local_port":%d,"pid":%d,"birth":"b:%[1]d:1","socket":{"inode":%[3]d,"cookie":"0x%[3]x"}%s}`, i%60000+1, 4000000+i, i+1, more)
}

func fakeManager(words int) string {
	return `,"pidcheck":{"exists":true,"state":"alive","managed_by":{"kind":"unit","name":"a","stop":[` + strings.Repeat(`"",`, words) + `""]}}`
}

func fakeGhost(i, heirs int) string {
	return fmt.Sprintf(`{"proto":"TCP","local_addr":"127.0.0.1","local_port":1,"pid":0,"owner":"none","socket":{"inode":%d},"heirs":[%s{"pid":2}]}`, i+1, strings.Repeat(`{"pid":2},`, heirs-1))
}

// TestMemory: whatever is read, the memory for it has a bound, and so has the
// time before it is refused.
func TestMemory(t *testing.T) {
	require(t, "private")
	for _, command := range []string{"pkill2", "pidcheck", "classify"} {
		for _, feed := range feeds {
			t.Run(command+"/"+feed.name, func(t *testing.T) {
				t.Parallel()
				refused := feed.bad && (command != "pidcheck" || !slices.Contains(kept, feed.name))
				code, limit := 0, memoryOfAny
				if refused {
					code, limit = 2, memoryOfBad
				}
				fill(t, code, limit, feed.lines, "unshare", "--net", command) // where nobody has the ports
			})
		}
	}
	two := "127.0.0.1:1-65535,127.0.0.2:1-65535"
	for _, tt := range []struct {
		name, command, ports string
		code, limit          int
	}{
		{"repeated", "listeners", strings.Repeat("1-65535,", 400) + "1", 2, memoryOfBad},
		{"repeated", "killport", strings.Repeat("1-65535,", 400) + "1", 2, memoryOfBad},
		{"repeated", "portdiag", strings.Repeat("1-65535,", 400) + "1", 2, memoryOfBad},
		{"repeated", "classify", strings.Repeat("1-65535,", 400) + "1", 2, memoryOfBad},
		{"as many as fit", "listeners", two, 0, memoryOfAny},
		{"as many as fit", "killport", two, 0, memoryOfAny},
		{"as many as fit", "classify", two, 0, memoryOfAny},
	} {
		t.Run(tt.command+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			fill(t, tt.code, tt.limit, repeated(0, nil), "unshare", "--net", tt.command, tt.ports)
		})
	}
}

// fill runs a command, feeds it, and wants an exit code, and no more memory than
// so many KiB.
func fill(t *testing.T, code, limit int, lines func(func(string) bool), argv ...string) {
	t.Helper()
	cmd := exec.CommandContext(limited(t), argv[0], argv[1:]...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := begin(t, cmd)
	go func() {
		defer stdin.Close()
		var buf bytes.Buffer
		for line := range lines {
			buf.WriteString(line + "\n")
			if buf.Len() < 1<<16 {
				continue
			}
			if _, err := buf.WriteTo(stdin); err != nil { // it has refused the rest
				return
			}
		}
		_, _ = buf.WriteTo(stdin)
	}()
	most := 0
	for !s.ended() {
		most = max(most, highWater(cmd.Process.Pid))
		time.Sleep(time.Millisecond)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v, want exit code %d: %.300s", cmd.ProcessState, code, s.stderr.String())
	}
	if most > limit || most == 0 {
		t.Errorf("it needed %d KiB, want at most %d", most, limit)
	}
}

// highWater is the line VmHWM of /proc/PID/status, in KiB (proc(5)); 0 if it has
// ended.
func highWater(pid int) int {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, rest, _ := strings.Cut(string(b), "\nVmHWM:")
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(words[0])
	return n
}

// TestTooMuch: what does not fit ends nobody, and is one error.
func TestTooMuch(t *testing.T) {
	require(t, "private")
	t.Parallel()
	a := zoo(t, t.TempDir(), "serve")
	filler := fakeRecord(1, `,"x":"`+strings.Repeat("y", 1<<20-500)+`"`) + "\n"
	stdin := list(t, a.Port) + strings.Repeat(filler, 40)
	for _, command := range []string{"pkill2", "classify"} {
		res := run(t, tool(t.Context(), stdin, command))
		if res.code != 2 || res.stdout != "" || strings.Count(res.stderr, "\n") != 1 || !strings.Contains(res.stderr, "MiB of records") {
			t.Errorf("%s: exit code %d, want 2 and one error: %.300s, %.300s", command, res.code, res.stdout, res.stderr)
		}
	}
	a.lives(t, a.PID)
}

// TestErrorsAtOnce: pkill2 waits for all records, and errors wait for none.
func TestErrorsAtOnce(t *testing.T) {
	require(t, "private")
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	said, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.CommandContext(limited(t), "pkill2")
	cmd.Stdin, cmd.Stderr = r, stderr
	s := begin(t, cmd)
	r.Close()
	stderr.Close()
	if _, err := w.WriteString("garbage\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	if err := said.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := said.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "pkill2: error: line 1: ") {
		t.Errorf("it says %q, %v; want the error of line 1 before the end of the input", buf[:n], err)
	}
	w.Close()
	s.finish(t, 2)
}
