//go:build linux

package suite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// role is what is odd about a holder.
type role int

const (
	ordinary role = iota // the processes that it begins with have the socket
	handsOn              // each process hands it on to the next
	hasOther             // it listens on another port as well, which is not asked about
	hasNamesake
)

// kind is a mode that is tortured.
type kind struct {
	mode string
	role role
}

var kinds = []kind{
	{"serve 127.0.0.1:PORT", ordinary},
	{"serve --mptcp 127.0.0.1:PORT", ordinary},
	{"serve --same-port 127.0.0.1:PORT 127.0.0.2:PORT", ordinary},
	{"serve --mptcp --same-port 127.0.0.1:PORT [::1]:PORT", ordinary},
	{"ignore-term 127.0.0.1:PORT", ordinary},
	{"ignore-term --mptcp 127.0.0.1:PORT", ordinary},
	{"prefork --n=3 127.0.0.1:PORT", ordinary}, // whose workers go to PID 1 when it ends by itself
	{"prefork --n=2 --stubborn 127.0.0.1:PORT", ordinary},
	{"crowd --n=5 127.0.0.1:PORT", ordinary},
	{"crowd --n=3 --unreaped 127.0.0.1:PORT", ordinary},
	{"reuseport --n=3 127.0.0.1:PORT", ordinary},
	{"orphan 127.0.0.1:PORT", ordinary}, // its parent has ended: it is PID 1's
	{"drain --for=300ms 127.0.0.1:PORT", ordinary},
	{"slow --for=50ms 127.0.0.1:PORT", ordinary},
	{"stopped 127.0.0.1:PORT", ordinary},
	{"storm --for=50ms 127.0.0.1:PORT", handsOn},
	{"storm --for=5ms 127.0.0.1:PORT", handsOn},
	{"storm --for=5ms --stubborn 127.0.0.1:PORT", handsOn},
	{"serve 127.0.0.1:PORT 127.0.0.1:OTHER", hasOther},
	{"ignore-term 127.0.0.1:PORT 127.0.0.1:OTHER", hasOther},
	{"serve 127.0.0.1:PORT", hasNamesake},
}

// lane is where one worker frees ports, which nobody else uses.
type lane struct {
	*torturer
	port    string
	other   string          // of those that have another one; it is an innocent's as well, at another address
	shared  string          // that of the namesake, at another address
	group   string          // the cgroup of who has a namesake; "" where there are no cgroups to be had
	besides map[string]bool // the sockets of these innocents
	old     []string        // records of rounds that are over
	next    *innocent       // has the other port after its holder
}

// lane makes one, with the innocents that are there the whole time. A namesake has
// the name of a holder, and is in a cgroup that is called the same.
func (w *torturer) lane() *lane {
	first := freshPorts(3)
	l := &lane{torturer: w, port: strconv.Itoa(first), other: strconv.Itoa(first + 1), shared: strconv.Itoa(first + 2)}
	w.cherish("zoo", "serve", "--life=24h", "127.0.0.2:"+l.other)
	namesake := w.cherish("zoo", "serve", "--life=24h", "127.0.0.2:"+l.shared)
	if above, err := os.MkdirTemp(unified(), "killport-*"); err == nil {
		above, dir := cgroupIn(w, above, "web")
		l.group = dir
		_, dir = cgroupIn(w, filepath.Join(above, "elsewhere"), "web")
		if err := enter(dir, namesake.pid()); err != nil {
			w.Fatal(err)
		}
	}
	if !eventually(patience, func() bool { l.besides = l.table(); return len(l.besides) == 2 }) {
		w.Fatalf("%d innocents listen, want 2", len(l.besides))
	}
	return l
}

func enter(group string, pid int) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// table are the sockets that listen on the ports of the lane.
func (l *lane) table() map[string]bool {
	all := map[string]bool{}
	for _, port := range []string{l.port, l.other, l.shared} {
		n, _ := strconv.Atoi(port)
		for inode := range listening(l, n) {
			all[inode] = true
		}
	}
	return all
}

// work frees one port, over and over.
func (l *lane) work() {
	for l.goesOn() {
		l.round(kinds[rand.IntN(len(kinds))])
	}
	l.retire()
}

// round has one holder, or one group of them, and has its port freed.
func (l *lane) round(k kind) {
	port := l.port
	switch k.role {
	case hasOther:
		l.retire()
	case hasNamesake:
		if port = l.shared; l.group == "" {
			return
		}
	}
	mode := strings.NewReplacer("PORT", port, "OTHER", l.other).Replace(k.mode)
	a, err := startZoo(l.dir, strings.Fields(mode)...)
	if err != nil {
		l.starved.Add(1)
		l.Logf("%s: %v", k.mode, err)
		return
	}
	r := round{lane: l, kind: k, holder: a, port: port, asked: port, fleeting: rand.IntN(2) == 0}
	if k.role == hasNamesake {
		r.asked = "127.0.0.1:" + port
		if err := enter(l.group, a.PID); err != nil {
			l.Error(err)
		}
	}
	l.rounds.Add(1)
	if !r.fleeting {
		l.steady.Add(1)
	}
	r.free()
	a.end()
	if k.role == handsOn && !eventually(patience, func() bool { return len(r.listening()) == 0 }) {
		r.fail("the storm does not end")
	}
	if k.role == hasOther {
		l.succeed()
	}
}

// succeed has an innocent listen where a holder did, of whom there are records.
func (l *lane) succeed() {
	l.next, _ = l.innocent("zoo", "serve", "--life=24h", "127.0.0.1:"+l.other)
}

// retire ends that innocent.
func (l *lane) retire() {
	if l.next != nil {
		l.next.end()
		l.next = nil
	}
}

// round is a holder, or several, and the freeing of its port.
type round struct {
	*lane
	kind
	holder    *animal
	port      string
	asked     string // the argument of the commands
	fleeting  bool   // the holder ends by itself meanwhile
	listedYet atomic.Bool
	successor atomic.Pointer[innocent] // has the port afterwards
	said      bytes.Buffer
}

// free has the port freed, while the holder has its fate.
func (r *round) free() {
	var fate sync.WaitGroup
	if r.fleeting {
		fate.Go(r.fate)
	}
	if rand.IntN(3) == 0 {
		r.killport()
	} else {
		r.pipe()
	}
	fate.Wait()
	if i := r.successor.Load(); i != nil {
		i.end()
	}
	if r.role == handsOn {
		r.storms.Add(1)
	}
}

// fate ends the holder, and gives its PID to an innocent: to one that sleeps,
// or, once the records are there, to another server on the same port.
func (r *round) fate() {
	time.Sleep(rand.N(80 * time.Millisecond)) // the input of this test
	pid := r.holder.PID
	p := r.holder.pins[pid]
	p.signal(unix.SIGKILL)
	eventually(time.Second, p.ended)
	if !r.listedYet.Load() || r.role == handsOn || rand.IntN(2) == 0 {
		r.heir(pid, "sleep", "2")
		return
	}
	if i := r.heir(pid, "zoo", "serve", "--life=24h", "127.0.0.1:"+r.port); i != nil {
		r.successor.Store(i)
	}
}

func (r *round) killport() {
	before := r.listening()
	code, out := r.command("", "killport", "--grace=200ms", r.asked)
	for _, pid := range gjson.Get(out, "killed").Array() {
		if pid.Int() != 0 {
			r.terminated.Add(1) // or killed: it does not say
		}
	}
	r.judge(code, out, before)
}

func (r *round) pipe() {
	before := r.listening()
	code, out := r.command("", "listeners", r.asked)
	if code != 0 {
		return
	}
	r.listedYet.Store(true)
	records := slices.Collect(strings.Lines(out))
	r.listed.Add(int64(len(records)))
	r.checkListed(before, out)
	var in strings.Builder
	in.WriteString(out)
	for range min(3, len(r.old)) {
		in.WriteString(r.old[rand.IntN(len(r.old))])
	}
	if r.role == hasOther { // by the next time it will be an innocent's
		if code, out := r.command("", "listeners", "127.0.0.1:"+r.other); code == 0 {
			records = append(records, slices.Collect(strings.Lines(out))...)
		}
	}
	time.Sleep(rand.N(100 * time.Millisecond)) // the input of this test
	before = r.listening()
	code, out = r.endAndClassify(in.String())
	r.judge(code, out, before)
	// A record of nobody that could be seen is a failure for good, whoever has the port later.
	records = slices.DeleteFunc(records, func(line string) bool { return gjson.Get(line, "pid").Int() == 0 })
	r.old = append(r.old, records...)
	r.old = r.old[max(0, len(r.old)-50):]
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
		if !pids[pid] && r.role != handsOn {
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
	status, taken, done := r.verdict(out)
	free := isFree(status)
	after := r.listening()
	stays := false
	for inode := range before {
		stays = stays || after[inode]
	}
	taken = taken && len(before)+len(after) == 0 && r.successor.Load() == nil
	if free && stays || done != (code == 0) || taken {
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
	switch {
	case r.role == handsOn && stays: // it may be faster, and yet it is there
		r.outrun.Add(1)
		if status == "ghost" {
			r.untrue.Add(1)
			r.fail("it is called a ghost")
		}
	case !r.fleeting && status != "cleaned" && r.role != handsOn:
		r.unfree.Add(1)
		r.fail("not freed: %q", status)
	}
}

// verdict is what is said of the port. There may be verdicts on others beside it,
// of which there were old records; done says that all of them are good.
func (r *round) verdict(out string) (status string, taken, done bool) {
	done = true
	for line := range strings.Lines(out) {
		of := gjson.Get(line, "status").Str
		done = done && isFree(of)
		if gjson.Get(line, "port").String() == r.port {
			status, taken = of, gjson.Get(line, "still_listening").Bool()
		}
	}
	return status, taken, done
}

func isFree(status string) bool { return status == "free" || status == "cleaned" }

func (r *round) fail(format string, args ...any) {
	r.Errorf("%s: %s, PIDs %v\n%s", r.mode, fmt.Sprintf(format, args...), r.holder.PIDs, r.said.String())
}

// listening are the sockets on the port that are asked about.
func (r *round) listening() map[string]bool {
	port, _ := strconv.Atoi(r.port)
	all := listening(r, port)
	maps.DeleteFunc(all, func(inode string, _ bool) bool { return r.besides[inode] })
	return all
}

// endless is how long a command has before it is said to hang: pkill2 gives a storm
// that goes on up after 12 seconds of an idle machine.
const endless = 3 * patience

// command runs a command; code -1 means that it says nothing.
func (r *round) command(stdin string, argv ...string) (code int, stdout string) {
	ctx, cancel := context.WithTimeout(context.Background(), endless)
	defer cancel()
	cmd := tool(ctx, stdin, argv...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	said := r.hear()
	err := cmd.Run()
	said(fmt.Sprintf("%v: %v\n%s%s", cmd.Args, err, &out, &errs))
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
	ctx, cancel := context.WithTimeout(context.Background(), endless)
	defer cancel()
	check := tool(ctx, in, "pidcheck")
	end := exec.CommandContext(ctx, "pkill2", "--grace=200ms")
	classify := exec.CommandContext(ctx, "classify", r.asked)
	var ended, judged, checkErr, endErr, classifyErr bytes.Buffer
	said := r.hear()
	defer func() {
		said(fmt.Sprintf("pidcheck | pkill2 | classify %s:\n%s--\n%s%s--\n%s%s%s", r.asked, in, &ended, &endErr, &judged, &checkErr, &classifyErr))
	}()
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
