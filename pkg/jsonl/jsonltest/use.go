package jsonltest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/killport/killport/pkg/jsonl"
)

// all, as a number of pairs, is for no limit.
const all = -1

// use lets the stage make a sequence of in, takes so many pairs of it, and
// returns what went in and what came out. It checks what holds for every use.
func (c *check) use(ctx context.Context, in jsonl.Seq, take int) (*upstream, []pair, error) {
	var up upstream
	var out []pair
	late := false
	err := c.watch(func() {
		seq := c.stage(ctx, up.watch(in))
		if take == 0 {
			return
		}
		seq(func(r jsonl.Record, err error) bool {
			if late = late || len(out) == take; late {
				return false
			}
			out = append(out, pair{r, err})
			if c.streaming && !c.reducing {
				up.expect(len(out))
			}
			if len(out) == take {
				up.stop()
			}
			return len(out) != take
		})
	})
	if err != nil {
		return nil, nil, err
	}
	if late {
		return nil, nil, errors.New("it yields after the consumer stopped")
	}
	for _, p := range out {
		if (p.err == nil) == p.record.IsZero() {
			return nil, nil, fmt.Errorf("pair = %q, %v; want exactly one of them", p.record, p.err)
		}
	}
	return &up, out, up.judge(take)
}

// upstream is what the stage pulls from.
type upstream struct {
	mu      sync.Mutex
	sent    []pair
	begun   int
	ended   int
	drained bool // there was nothing left
	stopped bool // the consumer has
	lost    int  // pairs sent since then
	eager   bool // more was pulled than came out
}

func (u *upstream) watch(seq jsonl.Seq) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		u.do(func() { u.begun++ })
		defer u.do(func() { u.ended++ })
		for r, err := range seq {
			u.do(func() {
				u.sent = append(u.sent, pair{r, err})
				if u.stopped {
					u.lost++
				}
			})
			if !yield(r, err) {
				return
			}
		}
		u.do(func() { u.drained = true })
	}
}

func (u *upstream) stop() {
	u.do(func() { u.stopped = true })
}

// expect notes whether more was pulled than n pairs.
func (u *upstream) expect(n int) {
	u.do(func() { u.eager = u.eager || len(u.sent) > n })
}

// judge says what was wrong with the pulling until so many pairs were out.
func (u *upstream) judge(take int) (err error) {
	u.do(func() {
		switch {
		case take == 0 && u.begun > 0:
			err = errors.New("it pulls before anybody ranges over its sequence")
		case u.begun > 1:
			err = fmt.Errorf("it ranges over its input %d times; want once", u.begun)
		case u.ended < u.begun:
			err = errors.New("it ends before its input has")
		case u.lost > 1:
			err = fmt.Errorf("pairs pulled after the consumer stopped = %d; want none", u.lost)
		case u.eager:
			err = errors.New("it pulls the next pair before it yields what it has")
		}
	})
	return err
}

func (u *upstream) do(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f()
}

// label marks the goroutines of one use, which goroutines they start inherit.
const label = "jsonltest"

var uses atomic.Int64

// watch runs f, with a limit to its time, and looks for what it leaves behind.
func (c *check) watch(f func()) error {
	use := strconv.FormatInt(uses.Add(1), 10)
	before := files()
	done := make(chan error, 1)
	go pprof.Do(context.Background(), pprof.Labels(label, use), func(context.Context) {
		ended := errors.New("runtime.Goexit was called")
		defer func() {
			if p := recover(); p != nil {
				ended = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			done <- ended
		}()
		f()
		ended = nil
	})
	select {
	case err := <-done:
		if err != nil || !c.warm {
			return err
		}
	case <-time.After(c.limit):
		return fmt.Errorf("it has not ended after %v:\n%s", c.limit, goroutines(use))
	}

	var left string
	for deadline := time.Now().Add(c.limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if left = goroutines(use); left != "" {
			left = "goroutines left behind:\n" + left
			continue
		}
		if left = opened(before, files()); left == "" {
			return nil
		}
		left = "files left open: " + left
	}
	return errors.New(left)
}

// goroutines returns the stacks of the goroutines of a use.
func goroutines(use string) string {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return err.Error()
	}
	var found []string
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", label, use)) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

// files returns the numbers and names of this process's open files, which
// Linux tells. Under Wine they would be those of wineserver, which loses the
// lock by which it is found when one of them, its lock file, is opened.
func files() map[string]bool {
	if runtime.GOOS != "linux" {
		return nil
	}
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	open := map[string]bool{}
	for _, e := range entries {
		// What was open for reading the directory has no link any more.
		if name, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open[e.Name()+" "+name] = true
		}
	}
	return open
}

// opened names the files that are open after and were not before.
func opened(before, after map[string]bool) string {
	maps.DeleteFunc(after, func(file string, _ bool) bool { return before[file] })
	return strings.Join(slices.Sorted(maps.Keys(after)), ", ")
}

// member is one of a record, as written.
type member struct{ key, value string }

// members reads a record's members with another parser than its own.
func members(r jsonl.Record) ([]member, error) {
	line := r.String()
	d := json.NewDecoder(strings.NewReader(line))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	var all []member
	for d.More() {
		start := d.InputOffset()
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		key := line[start:d.InputOffset()]
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all = append(all, member{key[strings.IndexByte(key, '"'):], string(value)})
	}
	return all, nil
}
