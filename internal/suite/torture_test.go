//go:build linux

package suite_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const shortTorture = 15 * time.Second

var torture = flag.Duration("torture", shortTorture,
	"how long TestTorture lasts; if it is set, TestInjection is longer, too")

func long() bool { return *torture != shortTorture }

// killsVar makes TestTorture go on until so many have been killed.
const killsVar = "KILLPORT_TORTURE_KILLS"

// tortureVar is set for the test binary in the PID namespace of TestTorture.
const tortureVar = "KILLPORT_SUITE_TORTURE"

// tallied is what a torturer prints of its tally.
var tallied = regexp.MustCompile(`(?s)rounds \d+ .* rounds starved \d+`)

// TestTorture frees ports where PIDs are given away all the time: there are
// only a few hundred, processes come and go by the hundred a second, holders
// end by themselves, hand their sockets on, or lose their parents, and their PIDs
// go to innocents at once. Records are delayed by up to 100 ms, and old ones are
// mixed in. It counts who dies, and says of each by whose hand.
//
//	go test ./internal/suite -run TestTorture -v -timeout 0 -torture 10m
//	KILLPORT_TORTURE_KILLS=20000 go test ./internal/suite -run TestTorture -v -timeout 0
func TestTorture(t *testing.T) {
	require(t, "private", "lastpid")
	if os.Getenv(tortureVar) != "" {
		newTorturer(t).run()
		return
	}
	t.Run("namesakes", func(t *testing.T) { cgroup(t, unified(), "") }) // says why there are none, if so
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := namespaces(nil, self, "-test.run=^TestTorture$", "-test.v", "-torture="+torture.String(), "-test.timeout=0")
	cmd.Env = append(os.Environ(), tortureVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // who interrupts us is not to interrupt innocents
	stop := time.AfterFunc(longest()+2*patience, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	t.Attr("tally", strings.Join(strings.Fields(string(tallied.Find(out))), " "))
	if err != nil {
		t.Error(err)
	}
}

// killsWanted is how many are to be killed; 0 if it is about time.
func killsWanted() int64 {
	n, _ := strconv.ParseInt(os.Getenv(killsVar), 10, 64)
	return n
}

// longest is how long it may take. A kill takes 40 ms where nothing else is done.
func longest() time.Duration { return max(*torture, time.Duration(killsWanted())*500*time.Millisecond) }

// unified is where the cgroups of v2 are.
func unified() string {
	if _, err := os.Stat(filepath.Join(freezerV2.root, "cgroup.procs")); err != nil {
		return "/sys/fs/cgroup" // of systems without v1
	}
	return freezerV2.root
}

// The PIDs up to 300 are used once only: RESERVED_PIDS of kernel/pid.c.
const (
	reservedPIDs = 300
	maxPID       = 800
	workers      = 6 // that free ports at the same time, each one of its own
	churners     = 6 // that start innocents one after the other
)

// shrink sees to it that there are only some hundred PIDs in this namespace.
func shrink() {
	if kernelAtLeast(6, 14) { // before that, pid_max was that of the whole machine
		if os.WriteFile("/proc/sys/kernel/pid_max", []byte(strconv.Itoa(maxPID)), 0o644) == nil {
			return
		}
	}
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			_ = rewind()
		}
	}()
}

// rewind starts again at the lowest PID, if the highest was reached.
func rewind() error {
	aiming.Lock()
	defer aiming.Unlock()
	text, err := os.ReadFile(lastPID)
	if err != nil {
		return err
	}
	if last, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || last < maxPID {
		return err
	}
	return os.WriteFile(lastPID, []byte(strconv.Itoa(reservedPIDs)), 0o644)
}

// torturer is one run of TestTorture.
type torturer struct {
	*testing.T
	dir   string
	until time.Time
	keep  []*innocent
	cared sync.WaitGroup
	ooms  string // what the kernel counts of its own kills
	witnesses
	tally
}

// tally is what is counted.
type tally struct {
	rounds, steady, listed   atomic.Int64
	terminated, killed       atomic.Int64
	released, gone, reused   atomic.Int64
	refused, otherOutcomes   atomic.Int64
	innocents, givenAway     atomic.Int64 // processes; of them, those that had a dead holder's PID
	dead, stopped            atomic.Int64 // innocents
	lost                     atomic.Int64 // innocents that ended by no hand of ours; see cause
	missed, unlisted, unfree atomic.Int64 // holders, holders, ports of steady holders
	untrue                   atomic.Int64 // verdicts
	storms, outrun           atomic.Int64 // storms; of them, those that went on
	starved                  atomic.Int64 // rounds without a verdict, for want of PIDs
}

func (c *tally) kills() int64 { return c.terminated.Load() + c.killed.Load() }

func (c *tally) String() string {
	return fmt.Sprintf("rounds %d (%d of them with holders that stay), records %d, innocents %d (%d with the PID of a holder)\n"+
		"kills %d (terminated %d, killed %d), released %d, gone %d, reused %d, refused %d, other %d\n"+
		"innocents dead %d, stopped %d, lost otherwise %d, holders missed %d, listeners not listed %d, ports not freed %d, false verdicts %d\n"+
		"storms %d, of them not won %d, rounds starved %d",
		c.rounds.Load(), c.steady.Load(), c.listed.Load(), c.innocents.Load(), c.givenAway.Load(),
		c.kills(), c.terminated.Load(), c.killed.Load(),
		c.released.Load(), c.gone.Load(), c.reused.Load(), c.refused.Load(), c.otherOutcomes.Load(),
		c.dead.Load(), c.stopped.Load(), c.lost.Load(), c.missed.Load(), c.unlisted.Load(), c.unfree.Load(), c.untrue.Load(),
		c.storms.Load(), c.outrun.Load(), c.starved.Load())
}

func newTorturer(t *testing.T) *torturer {
	return &torturer{T: t, dir: t.TempDir(), until: time.Now().Add(longest()), ooms: ooms()}
}

// goesOn: not yet.
func (w *torturer) goesOn() bool {
	return time.Now().Before(w.until) && (killsWanted() == 0 || w.kills() < killsWanted())
}

func (w *torturer) run() {
	shrink()
	began := time.Now()
	for range 6 {
		w.cherish("sleep", "100000")
	}
	for range 3 {
		w.cherish("zoo", "serve", "--life=24h", "127.0.0.1:"+strconv.Itoa(freshPorts(1)))
	}
	w.cherish("zoo", "churn", "--n=1", "--life=24h", "--for="+(longest()+time.Hour).String())
	lanes := make([]*lane, workers)
	for i := range lanes {
		lanes[i] = w.lane()
	}
	var work, watch sync.WaitGroup
	for range churners {
		work.Go(w.churn)
	}
	for _, l := range lanes {
		work.Go(l.work)
	}
	watching, blind := context.WithCancel(w.Context())
	watch.Go(func() { w.watch(watching) })
	work.Wait()
	blind()
	watch.Wait()
	for _, i := range w.keep {
		i.end()
	}
	w.cared.Wait()
	w.Logf("%v\n%v", time.Since(began).Round(time.Second), &w.tally)
	switch {
	case w.kills() == 0 || w.reused.Load() == 0 || w.givenAway.Load() == 0 || w.storms.Load() == 0:
		w.Error("nobody was killed, no PID was given away, or no socket was handed on: this tests nothing")
	case w.starved.Load()*20 > w.rounds.Load():
		w.Error("there are too few PIDs for so much at a time")
	}
}

// innocent starts one that nobody may end, nor stop, but itself and we.
func (w *torturer) innocent(argv ...string) (*innocent, error) {
	i, err := startInnocent(argv...)
	if err == nil {
		w.care(i)
	}
	return i, err
}

// cherish starts an innocent that lives until the end.
func (w *torturer) cherish(argv ...string) *innocent {
	i, err := startInnocent(argv...)
	if err != nil {
		w.Fatal(err)
	}
	i.cherished = true
	w.keep = append(w.keep, i)
	w.care(i)
	return i
}

// care looks after an innocent until it has ended, and then looks why.
func (w *torturer) care(i *innocent) {
	w.innocents.Add(1)
	w.attend(i)
	w.cared.Go(func() {
		<-i.done
		w.leave(i)
		w.inquest(i, time.Now())
	})
}

// churn starts innocents that end by themselves soon, one after the other.
func (w *torturer) churn() {
	for w.goesOn() {
		i, err := w.innocent("sleep", fmt.Sprintf("0.%03d", rand.IntN(40)))
		if err != nil { // there is no PID just now
			time.Sleep(time.Millisecond)
			continue
		}
		<-i.done
	}
}

// heir gives the PID of a process that has ended to an innocent.
func (w *torturer) heir(pid int, argv ...string) *innocent {
	start := func() (*innocent, error) { return w.innocent(argv...) }
	i, err := reborn(pid, start, (*innocent).pid, (*innocent).end)
	if err != nil {
		return nil // somebody else has it: an innocent, or a thread of one
	}
	w.givenAway.Add(1)
	return i
}
