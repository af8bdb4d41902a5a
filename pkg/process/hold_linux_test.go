package process_test

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/process"
)

// threadStates are those of all threads of a process: "T" where all are stopped.
func threadStates(t *testing.T, pid int) string {
	t.Helper()
	var states []string
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(dir + "/" + task.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		states = append(states, fields[0])
	}
	slices.Sort(states)
	return strings.Join(slices.Compact(states), "")
}

// One that is held stands, with all of its threads, and goes on however the pin
// is done with.
func TestHold(t *testing.T) {
	for name, done := range map[string]func(*process.Pin) error{
		"resumed": (*process.Pin).Resume,
		"closed":  (*process.Pin).Close,
		"asked":   func(p *process.Pin) error { return p.Terminate(syscall.Signal(0)) }, // which sends SIGCONT alone
	} {
		c := start(t, nil)
		p, err := process.Open(c.pid())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Hold(5 * time.Second); err != nil || threadStates(t, c.pid()) != "T" {
			t.Errorf("Hold = %v, threads %s; want all of them stopped", err, threadStates(t, c.pid()))
		}
		if !process.Holding() {
			t.Error("somebody is held, and Holding() = false")
		}
		c.order(t, "be there")
		if err := done(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if process.Holding() {
			t.Errorf("%s: Holding() = true", name)
		}
		if got := c.answer(t); got != "done" {
			t.Errorf("%s: it says %q", name, got)
		}
		p.Close()
	}
}

// One that somebody else has stopped is left as it is.
func TestHoldOfStopped(t *testing.T) {
	c := start(t, nil)
	p := pin(t, c.pid())
	c.order(t, "stop")
	for end := time.Now().Add(20 * time.Second); threadStates(t, c.pid()) != "T"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not stop")
		}
	}
	if err := p.Hold(time.Second); err != nil {
		t.Error(err)
	}
	if err := p.Resume(); err != nil || threadStates(t, c.pid()) != "T" {
		t.Errorf("Resume = %v, threads %s; want it stopped as it was", err, threadStates(t, c.pid()))
	}
}

func TestHoldOfGone(t *testing.T) {
	c := start(t, nil)
	p := pin(t, c.pid())
	c.dismiss(t, p)
	if err := p.Hold(time.Second); err != nil && err != process.ErrGone {
		t.Errorf("Hold of one that has ended = %v", err)
	}
	if process.Holding() {
		t.Error("nobody is there, and Holding() = true")
	}
	if err := p.Resume(); err != nil {
		t.Errorf("Resume of one that has ended = %v", err)
	}
}

// A birth is since the moment before it, and not since that after its tick.
func TestMoment(t *testing.T) {
	before := process.Now()
	c := start(t, nil)
	b := birth(t, pin(t, c.pid()))
	time.Sleep(20 * time.Millisecond) // two ticks
	after := process.Now()
	if !b.Since(before) || b.Since(after) || before >= after {
		t.Errorf("%q since %d = %v, since %d = %v; want only the first", b, before, b.Since(before), after, b.Since(after))
	}
	if process.Birth("").Since(0) || process.Birth("x:y").Since(0) {
		t.Error("what is no birth was born")
	}
	for pids, want := range map[*[]int]bool{new(process.Born([]int{os.Getpid()}, before)): true, new(process.Born([]int{os.Getpid()}, after)): false} {
		if slices.Contains(*pids, c.pid()) != want {
			t.Errorf("Born of ourselves = %v; want %d among them: %v", *pids, c.pid(), want)
		}
	}
}

func TestOfThisBoot(t *testing.T) {
	b := birth(t, pin(t, os.Getpid()))
	for birth, want := range map[process.Birth]bool{b: true, "": false, "00000000-0000-0000-0000-000000000000:1:1": false} {
		if birth.OfThisBoot() != want {
			t.Errorf("Birth(%q).OfThisBoot() = %v; want %v", birth, !want, want)
		}
	}
}

// Where /proc does not tell the boot, a birth that has none may be of any.
func TestOfUnknownBoot(t *testing.T) {
	const unknown = "KILLPORT_TEST_UNKNOWN_BOOT"
	if os.Getenv(unknown) != "" {
		if b := process.Birth(":1:2"); b.OfThisBoot() {
			t.Errorf("Birth(%q).OfThisBoot() = true", b)
		}
		return
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t proc -o subset=pid proc /proc && exec "$0" -test.run='^TestOfUnknownBoot$'`, os.Args[0])
	cmd.Env = append(os.Environ(), unknown+"=yes")
	out, err := cmd.CombinedOutput()
	switch {
	case bytes.Contains(out, []byte("FAIL")):
		t.Errorf("%s", out)
	case err != nil:
		t.Skipf("no /proc of processes alone: %v: %s", err, out)
	}
}

// The newest is a thread of a child that was started just now, or of somebody
// else's; it is the number before once PIDs begin again.
func TestNewest(t *testing.T) {
	for range 20 {
		c := start(t, nil)
		if more := process.Newest() - c.pid(); more >= 0 && more < 1000 {
			return
		}
	}
	t.Error("Newest is never near the newest")
}
