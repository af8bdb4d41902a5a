//go:build linux

package suite_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// witnesses know what has happened of late: who lives, and what the commands have said.
type witnesses struct {
	mu      sync.Mutex
	living  map[*innocent]bool
	running map[*transcript]bool
	over    []*transcript // commands that have ended, of the last seconds
}

// transcript is what a command was given, and what it said.
type transcript struct {
	began, ended time.Time
	text         string
}

// remembered is longer than a command takes.
const remembered = 2 * patience

func (w *witnesses) attend(i *innocent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.living == nil {
		w.living, w.running = map[*innocent]bool{}, map[*transcript]bool{}
	}
	w.living[i] = true
}

func (w *witnesses) leave(i *innocent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.living, i)
}

func (w *witnesses) alive() []*innocent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.living))
}

// hear is about a command that begins; what it returns, about what it has said.
func (w *witnesses) hear() (said func(text string)) {
	t := &transcript{began: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[t] = true
	return func(text string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.running, t)
		t.ended, t.text = time.Now(), text
		w.over = slices.DeleteFunc(append(w.over, t), func(t *transcript) bool { return time.Since(t.ended) > remembered })
	}
}

// around are the transcripts of the commands that ran at that time, or not long
// before, once they have all ended.
func (w *witnesses) around(at time.Time) (all []string) {
	eventually(patience, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for t := range w.running {
			if t.began.Before(at) {
				return false
			}
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.over {
		if t.began.Before(at) && t.ended.After(at.Add(-time.Second)) {
			all = append(all, fmt.Sprintf("%s to %s: %s", t.began.Format(clock), t.ended.Format(clock), t.text))
		}
	}
	return all
}

const clock = "15:04:05.000"

// watch asks all innocents whether they stand still, or did so: nobody has a
// reason to stop them either, not for a moment.
func (w *torturer) watch(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, i := range w.alive() {
			if i.wasStopped() {
				w.stopped.Add(1)
				w.accuse(i, time.Now(), "was stopped")
			}
		}
	}
}

// inquest finds out why an innocent has ended.
func (w *torturer) inquest(i *innocent, at time.Time) {
	status := i.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch cause := w.innocently(i, status); {
	case i.letGo.Load(), cause == "" && !status.Signaled() && !i.cherished:
	case cause != "":
		w.lost.Add(1)
		w.Logf("innocent %v, PID %d: %v: %s", i.cmd.Args, i.pid(), i.cmd.ProcessState, cause)
	case !status.Signaled():
		w.lost.Add(1)
		w.Errorf("innocent %v, PID %d, ended by itself: %v: %s", i.cmd.Args, i.pid(), i.cmd.ProcessState, &i.stderr)
	default:
		w.dead.Add(1)
		w.accuse(i, at, i.cmd.ProcessState.String())
	}
}

// innocently is why it ended by no signal of others; "" if that is not known. A Go
// program that can have no thread, since there is no PID, ends itself: by abort(3)
// where it is linked with C (SIGABRT), else with exit code 2.
func (w *torturer) innocently(i *innocent, status syscall.WaitStatus) string {
	said := i.stderr.String()
	switch {
	case strings.Contains(said, "pthread_create failed"), strings.Contains(said, "failed to create new OS thread"):
		return "there was no PID for a thread of its own"
	case status.Signaled() && status.Signal() == syscall.SIGKILL && ooms() != w.ooms:
		return "the kernel has killed for want of memory: " + ooms()
	}
	return ""
}

// ooms is how often the kernel has killed for want of memory.
func ooms() string {
	text, _ := os.ReadFile("/proc/vmstat")
	at := bytes.Index(text, []byte("oom_kill "))
	line, _, _ := bytes.Cut(text[max(at, 0):], []byte("\n"))
	return string(line)
}

// accuse says what became of an innocent, and what the commands say of that PID.
func (w *torturer) accuse(i *innocent, at time.Time, what string) {
	all := w.around(at)
	var records []string
	for _, text := range all {
		for line := range strings.Lines(text) {
			if names(line, i.pid()) {
				records = append(records, line)
			}
		}
	}
	w.Errorf("innocent %v, PID %d, inode %d, since %s, at %s: %s: %s\nrecords of that PID:\n%s\nall that ran:\n%s",
		i.cmd.Args, i.pid(), i.inode, i.began.Format(clock), at.Format(clock), what, verdictOn(i, records),
		strings.Join(records, ""), strings.Join(all, "\n"))
}

// verdictOn says by whose hand.
func verdictOn(i *innocent, records []string) string {
	taken := "killport does not say that it was it"
	for _, line := range records {
		if outcome := gjson.Get(line, "pkill2.outcome").Str; outcome != "" {
			if !gjson.Get(line, "pkill2.signals").Exists() {
				continue
			}
			if strings.HasSuffix(gjson.Get(line, "birth").Str, ":"+strconv.FormatUint(i.inode, 10)) {
				return "killport took it for a holder, of its own birth"
			}
			taken = "killport signalled that PID, as a process of another birth"
		} else if slices.Contains(pids(line, "killed"), i.pid()) {
			taken = "killport signalled that PID"
		}
	}
	return taken
}

// names reports whether a record has that PID in it.
func names(line string, pid int) bool {
	return int(gjson.Get(line, "pid").Int()) == pid ||
		slices.ContainsFunc([]string{"killed", "failed", "released", "ghost", "remaining_pids"}, func(member string) bool {
			return slices.Contains(pids(line, member), pid)
		})
}

func pids(line, member string) (all []int) {
	for _, pid := range gjson.Get(line, member).Array() {
		all = append(all, int(pid.Int()))
	}
	return all
}

// TestVerdictOn: an innocent that has ended is not without a cause, if the commands
// say that they have signalled somebody of that PID.
func TestVerdictOn(t *testing.T) {
	i := sleeper(t)
	record := func(birth uint64, done string) string {
		return fmt.Sprintf(`{"pid":%d,"birth":"b:1:%d","pkill2":%s}`+"\n", i.pid(), birth, done)
	}
	for want, records := range map[string][]string{
		"killport took it for a holder, of its own birth":            {record(i.inode, `{"outcome":"terminated","signals":["SIGTERM"]}`)},
		"killport signalled that PID, as a process of another birth": {record(i.inode+1, `{"outcome":"killed","signals":["SIGKILL"]}`)},
		"killport signalled that PID":                                {fmt.Sprintf(`{"port":1,"killed":[%d]}`, i.pid())},
		"killport does not say that it was it":                       {record(i.inode, `{"outcome":"reused"}`), fmt.Sprintf(`{"failed":[%d]}`, i.pid())},
	} {
		for _, line := range records {
			if !names(line, i.pid()) || names(line, i.pid()+1) {
				t.Errorf("whom does it name? %s", line)
			}
		}
		if got := verdictOn(i, records); got != want {
			t.Errorf("%q: %s; want %s", records, got, want)
		}
	}
}
