//go:build linux

package suite_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// heirs are what may have the PID of a holder that has ended. ON is the port
// that it had.
var heirs = map[string][]string{
	"sleep":      {"sleep"},
	"other_port": {"serve", "127.0.0.1:0"},
	"same_port":  {"serve", "127.0.0.1:ON"},
}

// replace ends a, and gives its PID to an innocent, which lives on the whole
// test through. That fails if a thread of somebody else has got it first.
func (a *animal) replace(t *testing.T, heir []string) bool {
	t.Helper()
	a.pins[a.PID].signal(unix.SIGKILL)
	if !eventually(patience, func() bool { return procState(a.PID) == "" }) { // it was reaped, and its PID can be had again
		t.Fatal("the holder does not end")
	}
	heir = append([]string{}, heir...)
	for i := range heir {
		heir[i] = strings.Replace(heir[i], ":ON", ":"+strconv.Itoa(a.Port), 1)
	}
	dir := t.TempDir()
	start := func() (*animal, error) { return startZoo(dir, heir...) }
	b, err := reborn(a.PID, start, func(b *animal) int { return b.PID }, (*animal).end)
	if err != nil {
		t.Log(err)
		return false
	}
	t.Cleanup(func() {
		b.lives(t, b.PID)
		b.end()
	})
	return true
}

// TestReuse: a holder ends after it was listed, and its PID goes to an
// innocent, which lives.
func TestReuse(t *testing.T) {
	require(t, "private", "bash")
	for name, heir := range heirs {
		t.Run(name, func(t *testing.T) {
			for _, stages := range []string{
				"pidcheck | pkill2 --grace 100ms | tee ended | classify $port",
				"pkill2 --grace 0s --override --via process | tee ended | classify $port",
				"pkill2 --signal KILL | tee ended | classify",
			} {
				t.Run(strings.Fields(stages)[0], func(t *testing.T) {
					dir := t.TempDir()
					holder, record := replaced(t, heir)
					cmd := tool(limited(t), record, "bash", "-c", stages)
					cmd.Dir, cmd.Env = dir, append(os.Environ(), "port="+strconv.Itoa(holder.Port))
					res := run(t, cmd)
					ended, _ := os.ReadFile(filepath.Join(dir, "ended"))
					if got := gjson.GetBytes(ended, "pkill2.outcome").String(); got != "reused" {
						t.Errorf("outcome %q, want reused: %s", got, ended)
					}
					if checked := gjson.GetBytes(ended, "pidcheck.state"); checked.Exists() && checked.String() != "reused" {
						t.Errorf("state %q, want reused: %s", checked, ended)
					}
					judgeReused(t, name, holder, res)
				})
			}
		})
	}
}

// replaced is a holder whose PID is another's since it was listed.
func replaced(t *testing.T, heir []string) (holder *animal, record string) {
	t.Helper()
	for range 10 {
		holder = zoo(t, t.TempDir(), "serve")
		record = list(t, holder.Port)
		if holder.replace(t, heir) {
			return holder, record
		}
	}
	t.Fatal("no PID can be had again")
	return nil, ""
}

// judgeReused looks at the verdict on a port whose holder ended, and whose PID
// is another's.
func judgeReused(t *testing.T, heir string, holder *animal, res result) {
	t.Helper()
	want := map[string]string{
		"status": "cleaned", "killed": "[]", "failed": "[]", "remaining_pids": "[]", "ghost": fmt.Sprintf("[%d]", holder.PID),
	}
	code := 0
	if heir == "same_port" { // the kernel does not name the dead one any more
		want = map[string]string{
			"status": "stuck", "killed": "[]", "failed": "[]", "remaining_pids": fmt.Sprintf("[%d]", holder.PID), "ghost": "[]",
			"reason": "taken",
		}
		code = 1
	}
	for member, value := range want {
		if got := gjson.Get(res.stdout, member).String(); got != value {
			t.Errorf("%s is %s, want %s: %s", member, got, value, res.stdout)
		}
	}
	if res.code != code || res.stderr != "" {
		t.Errorf("exit code %d, want %d; stderr %q", res.code, code, res.stderr)
	}
}

// straceLine is what strace itself says when a process ends under its hands.
var straceLine = regexp.MustCompile(`(?m)^strace: .*\n`)

// TestReuseWithin: the same, within killport: between its stages there is no
// pipe to wait at, so strace holds up each pidfd_open, at whose entry the PID
// changes its meaning. The first one is that of the listing, then come those of
// the check and of the kill.
func TestReuseWithin(t *testing.T) {
	require(t, "private", "strace")
	for i, stage := range []string{"listing", "check", "kill"} {
		for _, heir := range []string{"sleep", "same_port"} {
			t.Run(stage+"_"+heir, func(t *testing.T) {
				t.Parallel()
				for range 5 {
					holder := zoo(t, t.TempDir(), "serve")
					res, inTime := holdUp(t, holder, i+1, heirs[heir])
					if !inTime {
						continue
					}
					res.stderr = straceLine.ReplaceAllString(res.stderr, "")
					if stage != "listing" { // which would not have named it
						judgeReused(t, heir, holder, res)
					}
					if killed := gjson.Get(res.stdout, "killed").String(); killed != "[]" {
						t.Errorf("killed %s: %s", killed, res.stdout)
					}
					return
				}
				t.Error("its PID was never given away in time")
			})
		}
	}
}

// holdUp has each pin of killport delayed, and replaces the holder while it is
// about to be pinned for the n-th time. It reports whether that was done before
// killport went on.
func holdUp(t *testing.T, holder *animal, n int, heir []string) (res result, inTime bool) {
	t.Helper()
	const delay = 500 * time.Millisecond
	log := filepath.Join(t.TempDir(), "strace")
	cmd := tool(limited(t), "", "strace", "-f", "--seccomp-bpf", "-o", log, "-e", "signal=none", "-e", "trace=pidfd_open",
		"-e", fmt.Sprintf("inject=pidfd_open:delay_enter=%d", delay.Microseconds()),
		"killport", strconv.Itoa(holder.Port))
	entered := func() int {
		text, _ := os.ReadFile(log) // strace writes the line of a call in two parts
		return strings.Count(string(text), fmt.Sprintf("pidfd_open(%d,", holder.PID))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if eventually(patience, func() bool { return entered() >= n }) {
		given := holder.replace(t, heir)
		text, _ := os.ReadFile(log)
		inTime = given && entered() == n && strings.Count(string(text), "(DELAYED)") == n-1
	}
	_ = cmd.Wait() // with the exit code of killport
	return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}, inTime
}

// TestReuseInGrace: a holder ends in the grace period, which goes on because of
// another one; who has its PID when the period is over is not killed.
func TestReuseInGrace(t *testing.T) {
	require(t, "private")
	for range 5 {
		if reusedInGrace(t) {
			return
		}
	}
	t.Error("its PID was never given away in time")
}

func reusedInGrace(t *testing.T) bool {
	t.Helper()
	first := zoo(t, t.TempDir(), "block-term", "127.0.0.1:0")
	other := zoo(t, t.TempDir(), "block-term", fmt.Sprintf("127.0.0.2:%d", first.Port))
	var stdout bytes.Buffer
	cmd := tool(limited(t), "", "killport", "--grace", "1500ms", strconv.Itoa(first.Port))
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !eventually(patience, func() bool { return pending(first.PID) && pending(other.PID) }) {
		t.Fatal("no SIGTERM came")
	}
	inTime := first.replace(t, heirs["sleep"]) && !other.pins[other.PID].ended()
	if err := cmd.Wait(); err != nil || gjson.Get(stdout.String(), "status").String() != "cleaned" {
		t.Errorf("%v, %s; want cleaned", err, &stdout)
	}
	return inTime
}

// forgery is a record that says something else than listeners has said.
type forgery struct {
	name    string
	edit    func(t *testing.T, record string, victim *animal) string
	outcome string // "": it is an error of the line
}

func member(name, value string) func(*testing.T, string, *animal) string {
	return func(t *testing.T, record string, _ *animal) string { return set(t, record, name, value) }
}

// set replaces a member, whose value is raw JSON.
func set(t *testing.T, record, name, value string) string {
	t.Helper()
	old := gjson.Get(record, name)
	if !old.Exists() {
		t.Fatalf("no %s in %s", name, record)
	}
	return record[:old.Index] + value + record[old.Index+len(old.Raw):]
}

// as makes the record speak of another process, whose birth is the true one.
func as(t *testing.T, record string, pid int) string {
	t.Helper()
	return set(t, set(t, record, "pid", strconv.Itoa(pid)), "birth", strconv.Quote(string(birthOf(t, pid))))
}

// birth makes a record's birth another one.
func birth(edit func(boot, ticks, inode string) string) func(*testing.T, string, *animal) string {
	return func(t *testing.T, record string, _ *animal) string {
		part := append(strings.Split(gjson.Get(record, "birth").String(), ":"), "", "")
		return set(t, record, "birth", strconv.Quote(edit(part[0], part[1], part[2])))
	}
}

var forgeries = []forgery{
	{"birth_of_other_inode", birth(func(boot, ticks, inode string) string { return boot + ":" + ticks + ":1" + inode }), "reused"},
	{"birth_without_inode", birth(func(boot, ticks, _ string) string { return boot + ":" + ticks }), "refused"},
	{"birth_of_other_boot", birth(func(boot, ticks, inode string) string {
		return "00000000-0000-4000-8000-000000000000:" + ticks + ":" + inode
	}), "refused"},
	{"birth_of_another_system", member("birth", `"133769420000000000"`), "refused"},
	{"birth_empty", member("birth", `""`), "refused"},
	{"pid_of_another", func(t *testing.T, record string, victim *animal) string {
		return set(t, record, "pid", strconv.Itoa(victim.PID))
	}, "reused"},
	{"another_with_its_birth", func(t *testing.T, record string, victim *animal) string {
		return as(t, record, victim.PID)
	}, "released"},
	{"thread", func(t *testing.T, record string, victim *animal) string {
		return set(t, as(t, record, victim.PID), "pid", strconv.Itoa(thread(t, victim.PID)))
	}, "reused"},
	{"ancestor", func(t *testing.T, record string, _ *animal) string {
		return set(t, record, "pid", strconv.Itoa(os.Getpid()))
	}, "reused"},
	{"ancestor_with_its_birth", func(t *testing.T, record string, _ *animal) string { return as(t, record, os.Getpid()) }, "released"},
	{"pid_1", member("pid", "1"), "reused"},
	{"pid_1_with_its_birth", func(t *testing.T, record string, _ *animal) string { return as(t, record, 1) }, "released"},
	{"pid_of_nobody", member("pid", "4194304"), "gone"},
	{"pid_0", member("pid", "0"), ""},
	{"pid_minus_1", member("pid", "-1"), ""},
	{"pid_beyond_32_bits", member("pid", "4294967297"), ""},
	{"pid_minus_its_own", func(t *testing.T, record string, victim *animal) string {
		return set(t, record, "pid", strconv.Itoa(-victim.PID))
	}, ""},
	{"owner_none", func(t *testing.T, record string, _ *animal) string {
		return set(t, record, "pid", `0,"owner":"none"`)
	}, "ghost"},
	{"owner_hidden", func(t *testing.T, record string, _ *animal) string {
		return set(t, record, "pid", `0,"owner":"hidden"`)
	}, "hidden"},
}

// thread is the id of a thread that does not lead the process.
func thread(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("%d tasks: %v", len(tasks), err)
	}
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil && tid != pid {
			return tid
		}
	}
	t.Fatal("no thread")
	return 0
}

// leads reports whether the record still names a socket of this boot, and nobody
// who has it: whoever has it is meant.
func (f forgery) leads() bool {
	return slices.Contains([]string{"reused", "released", "gone"}, f.outcome)
}

// TestForgery: whom a record names that is not true does not die, however much we
// are asked to. The holder of the very socket that it names does.
func TestForgery(t *testing.T) {
	require(t, "private", "bash")
	for _, f := range forgeries {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, stages := range []string{
				"pkill2 --grace 0s --override --via process",
				"pidcheck | pkill2 --signal KILL",
			} {
				f.try(t, stages)
			}
		})
	}
}

func (f forgery) try(t *testing.T, stages string) {
	holder, victim := zoo(t, t.TempDir(), "serve"), zoo(t, t.TempDir(), "serve")
	record := f.edit(t, list(t, holder.Port), victim)
	res := run(t, tool(limited(t), record, "bash", "-c", "set -o pipefail; "+stages))
	if got := gjson.Get(res.stdout, "pkill2.outcome").String(); got != f.outcome {
		t.Errorf("%s: outcome %q, want %q of %s:\n%s%s", stages, got, f.outcome, record, res.stdout, res.stderr)
	}
	if signals := gjson.Get(res.stdout, "pkill2.signals"); signals.Exists() {
		t.Errorf("%s: sent %v: %s", stages, signals, res.stdout)
	}
	if f.outcome == "" && (res.code != 2 || !strings.Contains(res.stderr, "pkill2: error: line 1: ") && !strings.Contains(res.stderr, "pidcheck: error: line 1: ")) {
		t.Errorf("%s: exit code %d, want 2, and an error of line 1: %s", stages, res.code, res.stderr)
	}
	if !f.leads() {
		holder.lives(t, holder.PID)
	} else if !eventually(patience, holder.pins[holder.PID].ended) {
		t.Error("whoever has the socket was not ended")
	}
	victim.lives(t, victim.PID)
	if pid := os.Getppid(); pid != 1 { // PID 1, who would not die alone
		t.Errorf("our parent is %d", pid)
	}
}
