//go:build linux

package suite_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

const shortTorture = 15 * time.Second

var torture = flag.Duration("torture", shortTorture,
	"how long TestTorture lasts; if it is set, TestInjection is longer, too")

func long() bool { return *torture != shortTorture }

// tortureVar is set for the test binary in the PID namespace of TestTorture.
const tortureVar = "KILLPORT_SUITE_TORTURE"

// tallied is what a torturer prints of its tally.
var tallied = regexp.MustCompile(`(?s)rounds \d+ .* rounds starved \d+`)

// TestTorture frees ports where PIDs are given away all the time: there are
// only a few hundred, processes come and go by the hundred a second, holders
// end by themselves, and their PIDs go to innocents at once. Records are
// delayed by up to 100 ms, and old ones are mixed in. It counts who dies.
//
//	go test ./internal/suite -run TestTorture -v -timeout 0 -torture 10m
func TestTorture(t *testing.T) {
	require(t, "private", "lastpid")
	if os.Getenv(tortureVar) != "" {
		newTorturer(t).run()
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := namespaces(nil, self, "-test.run=^TestTorture$", "-test.v", "-torture="+torture.String(), "-test.timeout=0")
	cmd.Env = append(os.Environ(), tortureVar+"=1")
	stop := time.AfterFunc(*torture+2*patience, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	t.Attr("tally", strings.Join(strings.Fields(string(tallied.Find(out))), " "))
	if err != nil {
		t.Error(err)
	}
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
	over  atomic.Bool // from here on, innocents may be ended by us
	keep  []*innocent
	wg    sync.WaitGroup
	tally
}

// tally is what is counted.
type tally struct {
	rounds, steady, listed   atomic.Int64
	terminated, killed       atomic.Int64
	released, gone, reused   atomic.Int64
	refused, otherOutcomes   atomic.Int64
	innocents, givenAway     atomic.Int64 // processes; of them, those that had a dead holder's PID
	dead                     atomic.Int64 // innocents
	missed, unlisted, unfree atomic.Int64 // holders, holders, ports of steady holders
	untrue                   atomic.Int64 // verdicts
	starved                  atomic.Int64 // rounds without a verdict, for want of PIDs
}

func (c *tally) String() string {
	return fmt.Sprintf("rounds %d (%d of them with holders that stay), records %d, innocents %d (%d with the PID of a holder)\n"+
		"kills %d (terminated %d, killed %d), released %d, gone %d, reused %d, refused %d, other %d\n"+
		"innocents dead %d, holders missed %d, listeners not listed %d, ports not freed %d, false verdicts %d, rounds starved %d",
		c.rounds.Load(), c.steady.Load(), c.listed.Load(), c.innocents.Load(), c.givenAway.Load(),
		c.terminated.Load()+c.killed.Load(), c.terminated.Load(), c.killed.Load(),
		c.released.Load(), c.gone.Load(), c.reused.Load(), c.refused.Load(), c.otherOutcomes.Load(),
		c.dead.Load(), c.missed.Load(), c.unlisted.Load(), c.unfree.Load(), c.untrue.Load(), c.starved.Load())
}

func newTorturer(t *testing.T) *torturer {
	return &torturer{T: t, dir: t.TempDir(), until: time.Now().Add(*torture)}
}

func (w *torturer) run() {
	shrink()
	for range 6 {
		w.cherish("sleep", "100000")
	}
	for range 3 {
		w.cherish("zoo", "serve", "--life=24h", "127.0.0.1:"+strconv.Itoa(freshPorts(1)))
	}
	w.cherish("zoo", "churn", "--n=1", "--life=24h", "--for="+(*torture+time.Hour).String())
	for range churners {
		w.wg.Go(w.churn)
	}
	for range workers {
		w.wg.Go(w.work)
	}
	w.wg.Wait()
	w.over.Store(true)
	for _, i := range w.keep {
		i.end()
	}
	w.Logf("%v\n%v", *torture, &w.tally)
	switch {
	case w.terminated.Load()+w.killed.Load() == 0 || w.reused.Load() == 0 || w.givenAway.Load() == 0:
		w.Error("nobody was killed, or no PID was given away: this tests nothing")
	case w.starved.Load()*20 > w.rounds.Load():
		w.Error("there are too few PIDs for so much at a time")
	}
}

// cherish starts an innocent that lives until the end.
func (w *torturer) cherish(argv ...string) {
	i, err := startInnocent(argv...)
	if err != nil {
		w.Fatal(err)
	}
	w.keep = append(w.keep, i)
	w.innocents.Add(1)
	go func() {
		if <-i.done; !w.over.Load() {
			w.mourn(i)
		}
	}()
}

func (w *torturer) mourn(i *innocent) {
	w.dead.Add(1)
	w.Errorf("innocent %v, PID %d: %v", i.cmd.Args, i.pid(), i.cmd.ProcessState)
}

// churn starts innocents that end by themselves soon, one after the other.
func (w *torturer) churn() {
	for time.Now().Before(w.until) {
		i, err := startInnocent("sleep", fmt.Sprintf("0.%03d", rand.IntN(40)))
		if err != nil { // there is no PID just now
			time.Sleep(time.Millisecond)
			continue
		}
		w.innocents.Add(1)
		if i.hit() != 0 {
			w.mourn(i)
		}
	}
}

// heir gives the PID of a process that has ended to an innocent.
func (w *torturer) heir(pid int) {
	i, err := rebornSleeper(pid, 2*time.Second)
	if err != nil {
		return // somebody else has it: an innocent, or a thread of one
	}
	w.innocents.Add(1)
	w.givenAway.Add(1)
	w.wg.Go(func() {
		if i.hit() != 0 {
			w.mourn(i)
		}
	})
}

// holders are the modes that are tortured; %s is the port.
var holders = []string{
	"serve 127.0.0.1:%s",
	"serve --mptcp 127.0.0.1:%s",
	"serve --same-port 127.0.0.1:%s 127.0.0.2:%[1]s",
	"serve --mptcp --same-port 127.0.0.1:%s [::1]:%[1]s",
	"ignore-term 127.0.0.1:%s",
	"ignore-term --mptcp 127.0.0.1:%s",
	"prefork --n=3 127.0.0.1:%s",
	"prefork --n=2 --stubborn 127.0.0.1:%s",
	"reuseport --n=3 127.0.0.1:%s",
	"orphan 127.0.0.1:%s",
	"drain --for=300ms 127.0.0.1:%s",
	"slow --for=50ms 127.0.0.1:%s",
	"stopped 127.0.0.1:%s",
}

// work frees one port, over and over.
func (w *torturer) work() {
	port := strconv.Itoa(freshPorts(1))
	var old []string // records of rounds that are over
	for time.Now().Before(w.until) {
		mode := holders[rand.IntN(len(holders))]
		a, err := startZoo(w.dir, strings.Fields(fmt.Sprintf(mode, port))...)
		if err != nil {
			w.starved.Add(1)
			w.Logf("%s: %v", mode, err)
			continue
		}
		r := round{torturer: w, holder: a, port: port, mode: mode, fleeting: rand.IntN(2) == 0}
		w.rounds.Add(1)
		if !r.fleeting {
			w.steady.Add(1)
		}
		old = r.free(old)
		a.end()
	}
}

// round is a holder, or several, and the freeing of its port.
type round struct {
	*torturer
	holder    *animal
	port      string
	mode      string
	fleeting  bool // the holder ends by itself meanwhile
	listedYet atomic.Bool
	successor atomic.Pointer[innocent] // has the port afterwards
	said      bytes.Buffer
}

// free returns the old records with those of this round.
func (r *round) free(old []string) []string {
	var fate sync.WaitGroup
	if r.fleeting {
		fate.Go(r.fate)
	}
	defer func() {
		fate.Wait()
		if i := r.successor.Load(); i != nil {
			if i.ended() && i.hit() != 0 { // by itself it ends if the port is taken
				r.mourn(i)
			}
			i.end()
		}
	}()
	if rand.IntN(3) == 0 {
		r.killport()
		return old
	}
	return r.pipe(old)
}

// fate ends the holder, and gives its PID to an innocent: to one that sleeps,
// or, once the records are there, to another server on the same port.
func (r *round) fate() {
	time.Sleep(rand.N(80 * time.Millisecond)) // the input of this test
	pid := r.holder.PID
	p := r.holder.pins[pid]
	p.signal(unix.SIGKILL)
	eventually(time.Second, p.ended)
	if !r.listedYet.Load() || rand.IntN(2) == 0 {
		r.heir(pid)
		return
	}
	start := func() (*innocent, error) { return startInnocent("zoo", "serve", "--life=24h", "127.0.0.1:"+r.port) }
	i, err := reborn(pid, start, (*innocent).pid, (*innocent).end)
	if err != nil {
		return
	}
	r.innocents.Add(1)
	r.givenAway.Add(1)
	r.successor.Store(i)
}

func (r *round) killport() {
	before := r.listening()
	code, out := r.command("", "killport", "--grace=200ms", r.port)
	for _, pid := range gjson.Get(out, "killed").Array() {
		if pid.Int() != 0 {
			r.terminated.Add(1) // or killed: it does not say
		}
	}
	r.judge(code, out, before)
}

func (r *round) pipe(old []string) []string {
	before := r.listening()
	code, out := r.command("", "listeners", r.port)
	if code != 0 {
		return old
	}
	r.listedYet.Store(true)
	records := slices.Collect(strings.Lines(out))
	r.listed.Add(int64(len(records)))
	r.checkListed(before, out)
	var in strings.Builder
	in.WriteString(out)
	for range min(2, len(old)) {
		in.WriteString(old[rand.IntN(len(old))])
	}
	time.Sleep(rand.N(100 * time.Millisecond)) // the input of this test
	before = r.listening()
	code, out = r.endAndClassify(in.String())
	r.judge(code, out, before)
	return append(old, records...)[max(0, len(old)+len(records)-50):]
}

// checkListed: a holder that was there the whole time is in the list.
func (r *round) checkListed(before map[string]bool, out string) {
	if r.fleeting {
		return
	}
	after := r.listening()
	pids := map[int]bool{}
	for line := range strings.Lines(out) {
		pids[int(gjson.Get(line, "pid").Int())] = gjson.Get(line, "birth").Exists()
		if inode := gjson.Get(line, "socket.inode").String(); !before[inode] || !after[inode] {
			r.unlisted.Add(1)
			r.fail("the table has no socket %s", inode)
		}
	}
	for _, pid := range r.holder.PIDs {
		if !pids[pid] {
			r.unlisted.Add(1)
			r.fail("PID %d is not listed", pid)
		}
	}
}

// judge compares the verdict with the kernel's table. Sockets that were there
// before and are there now were there all the time.
func (r *round) judge(code int, out string, before map[string]bool) {
	if code < 0 {
		return
	}
	status := gjson.Get(out, "status").String()
	free := status == "free" || status == "cleaned"
	after := r.listening()
	stays := false
	for inode := range before {
		stays = stays || after[inode]
	}
	taken := gjson.Get(out, "still_listening").Bool() && len(before)+len(after) == 0 && r.successor.Load() == nil
	if free && stays || free != (code == 0) || taken {
		r.untrue.Add(1)
		r.fail("false verdict %q: before %v, after %v", status, before, after)
	}
	if free {
		for pid, p := range r.holder.pins {
			if has(pid, before) && !p.ended() {
				r.missed.Add(1)
				r.fail("PID %d was missed", pid)
			}
		}
	}
	if !r.fleeting && status != "cleaned" {
		r.unfree.Add(1)
		r.fail("not freed: %q", status)
	}
}

func (r *round) fail(format string, args ...any) {
	r.Errorf("%s: %s, PIDs %v\n%s", r.mode, fmt.Sprintf(format, args...), r.holder.PIDs, r.said.String())
}

func (r *round) listening() map[string]bool {
	port, _ := strconv.Atoi(r.port)
	return listening(r, port)
}

// command runs a command; code -1 means that it says nothing.
func (r *round) command(stdin string, argv ...string) (code int, stdout string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := tool(ctx, stdin, argv...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return r.exited(ctx, cmd, err, out.String(), errs.String()), out.String()
}

// exited is the exit code. Who could start no thread, since there was no PID,
// has none.
func (r *round) exited(ctx context.Context, cmd *exec.Cmd, err error, stdout, stderr string) int {
	fmt.Fprintf(&r.said, "%v: %v\n%s%s", cmd.Args, err, stdout, stderr)
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		r.fail("%v hangs", cmd.Args)
		return -1
	case errors.Is(err, unix.EAGAIN), strings.Contains(stderr, "pthread_create failed"), strings.Contains(stderr, "failed to create new OS thread"):
		r.starved.Add(1)
		return -1
	case err == nil:
		return 0
	case !ended || exit.ExitCode() < 0 || exit.ExitCode() > 1:
		r.fail("%v: %v", cmd.Args, err)
		return -1
	}
	return exit.ExitCode()
}

// endAndClassify is pidcheck | pkill2 | classify.
func (r *round) endAndClassify(in string) (code int, stdout string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check := tool(ctx, in, "pidcheck")
	end := exec.CommandContext(ctx, "pkill2", "--grace=200ms")
	classify := exec.CommandContext(ctx, "classify", r.port)
	var ended, judged, checkErr, endErr, classifyErr bytes.Buffer
	checked, err1 := check.StdoutPipe()
	passed, err2 := end.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		r.Error(err)
		return -1, ""
	}
	end.Stdin = checked
	classify.Stdin, classify.Stdout = io.TeeReader(passed, &ended), &judged
	check.Stderr, end.Stderr, classify.Stderr = &checkErr, &endErr, &classifyErr
	if code = r.exited(ctx, check, check.Start(), "", ""); code != 0 {
		return code, ""
	}
	if code = r.exited(ctx, end, end.Start(), "", ""); code != 0 {
		cancel()
		_ = check.Wait()
		return code, ""
	}
	err := classify.Run()
	err2, err1 = end.Wait(), check.Wait()
	for line := range strings.Lines(ended.String()) {
		r.count(gjson.Get(line, "pkill2.outcome").String())
	}
	if r.exited(ctx, check, err1, "", checkErr.String()) < 0 || r.exited(ctx, end, err2, ended.String(), endErr.String()) < 0 {
		return -1, ""
	}
	return r.exited(ctx, classify, err, judged.String(), classifyErr.String()), judged.String()
}

func (r *round) count(outcome string) {
	counters := map[string]*atomic.Int64{
		"terminated": &r.terminated, "killed": &r.killed, "released": &r.released,
		"gone": &r.gone, "reused": &r.reused, "refused": &r.refused,
	}
	c, ok := counters[outcome]
	if !ok {
		c = &r.otherOutcomes
	}
	c.Add(1)
}
