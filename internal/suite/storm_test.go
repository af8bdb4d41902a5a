//go:build linux

package suite_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// TestStorm frees ports whose holders hand them on, each to a child, faster than
// all processes can be looked at; such holders are stopped for a moment, and
// nobody else is. With -torture it is longer.
//
//	go test ./internal/suite -run TestStorm -v -timeout 0 -torture 1s
func TestStorm(t *testing.T) {
	require(t, "private")
	for _, tt := range []struct {
		name               string
		flags              []string
		rounds, longRounds int
		lost               int // how many may be, of 20
	}{
		{"5ms", []string{"--for", "5ms"}, 6, 200, 0},
		{"1ms", []string{"--for", "1ms"}, 4, 20, 1},
		{"5ms_stubborn", []string{"--for", "5ms", "--stubborn"}, 2, 20, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &storms{T: t, flags: tt.flags}
			rounds := tt.rounds
			if long() {
				rounds = tt.longRounds
			}
			for range rounds {
				s.round()
			}
			tally := fmt.Sprintf("storms %d, freed %d, innocents %d, of them stopped %d, dead %d", rounds, s.freed, s.innocents, s.stopped, s.dead)
			t.Log(tally)
			t.Attr("tally", tally)
			if lost := rounds - s.freed; lost > (tt.lost*rounds+19)/20 || s.stopped+s.dead > 0 || s.innocents < rounds {
				t.Errorf("want at most %d of 20 lost, and nobody else stopped or dead", tt.lost)
			}
		})
	}
}

// storms is what became of them, and of those beside them.
type storms struct {
	*testing.T
	flags                           []string
	freed, innocents, stopped, dead int
}

// round frees one port while innocents are born.
func (s *storms) round() {
	a, err := startZoo(s.TempDir(), append([]string{"storm"}, s.flags...)...)
	if err != nil {
		s.Fatal(err)
	}
	defer a.end()
	beside := bystanders{done: make(chan struct{})}
	beside.Go(beside.keepComing)
	res := run(s, tool(limited(s), "", "killport", "--json", "--grace=300ms", strconv.Itoa(a.Port)))
	close(beside.done)
	beside.Wait()
	left := list(s, a.Port)
	switch status := gjson.Get(res.stdout, "status").String(); {
	case res.code == 0 && left == "":
		s.freed++
	case res.code == 0 || left == "" || status != "stuck":
		s.Errorf("exit code %d, %s; still there: %s", res.code, res.stdout, left)
	default:
		s.Logf("lost: %s", res.stdout)
	}
	a.lives(s, a.PID) // who has begun it
	for _, i := range beside.all {
		s.innocents++
		switch {
		case i.ended():
			s.dead++
		case i.wasStopped():
			s.stopped++
		}
		i.end()
	}
	noneStopped(s)
}

// noneStopped fails the test if a process stands, and has it go on.
func noneStopped(t testing.TB) {
	t.Helper()
	for _, pid := range inState("T") {
		t.Errorf("PID %d was left stopped", pid)
		_ = exec.Command("kill", "-CONT", strconv.Itoa(pid)).Run()
	}
}

// TestStormInterrupted: whoever is stopped when an interrupt comes goes on. The
// holders let SIGTERM wait, so that some are stopped all the time.
func TestStormInterrupted(t *testing.T) {
	require(t, "private")
	for try := range 12 {
		a, err := startZoo(t.TempDir(), "storm", "--for", "3ms", "--stubborn")
		if err != nil {
			t.Fatal(err)
		}
		cmd := tool(limited(t), "", "killport", "--json", "--grace=1m", strconv.Itoa(a.Port))
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+7*try) * time.Millisecond) // by then it holds some
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit code %d, want 130: %s", code, out.String())
		}
		noneStopped(t)
		a.end()
	}
}

// bystanders are innocents that are born one after the other.
type bystanders struct {
	sync.WaitGroup
	done chan struct{}
	all  []*bystander
}

func (b *bystanders) keepComing() {
	for {
		if i, err := newBystander(); err == nil {
			b.all = append(b.all, i)
		}
		select {
		case <-b.done:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// bystander is an innocent that does nothing, and so never gets a processor
// again: to be stopped, and to go on, it would have to.
type bystander struct {
	*innocent
	switches string
}

func newBystander() (*bystander, error) {
	i, err := startInnocent("sleep", "1000")
	if err != nil {
		return nil, err
	}
	b := &bystander{innocent: i}
	// It sleeps once it is in nanosleep(2), and not before: a child that was just
	// forked waits for other things.
	asleep := func() bool {
		where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", i.pid()))
		return strings.Contains(string(where), "nanosleep") && procState(i.pid()) == "S"
	}
	if !eventually(patience, asleep) {
		i.end()
		return nil, os.ErrDeadlineExceeded
	}
	b.switches = switches(i.pid())
	return b, nil
}

func (b *bystander) wasStopped() bool { return switches(b.pid()) != b.switches }

var switchesOf = regexp.MustCompile(`(?m)^(non)?voluntary_ctxt_switches:.*$`)

// switches are how often a process got a processor, and gave it back, as
// /proc/PID/status has it.
func switches(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return fmt.Sprint(switchesOf.FindAllString(string(b), -1))
}

// inState are the processes in a state, of all.
func inState(state string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && procState(pid) == state {
			pids = append(pids, pid)
		}
	}
	return pids
}

// The counting itself sees one that was stopped, however short.
func TestBystanderIsSeenStopped(t *testing.T) {
	b, err := newBystander()
	if err != nil {
		t.Fatal(err)
	}
	defer b.end()
	if b.wasStopped() {
		t.Error("it was stopped, and nobody has done so")
	}
	if out, err := exec.Command("kill", "-STOP", strconv.Itoa(b.pid())).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("kill", "-CONT", strconv.Itoa(b.pid())).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !eventually(patience, b.wasStopped) {
		t.Error("it was stopped and went on, and that is not seen")
	}
}
