package jsonltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
)

func parse(tb testing.TB, line string) jsonl.Record {
	tb.Helper()
	r, err := jsonl.Parse([]byte(line))
	if err != nil {
		tb.Fatalf("Parse(%q) = %v; want a record", line, err)
	}
	return r
}

func records(tb testing.TB) func() []jsonl.Record {
	return jsonltest.Records(parse(tb, `{"n":1}`), parse(tb, "{ \"n\" : 2.50, \"\\u006e\":\"\xff\\/\" }"), parse(tb, `{"n":1}`))
}

// each is the stage that makes of every record what f does.
func each(f func(jsonl.Record) (jsonl.Record, error)) jsonl.Stage {
	return jsonl.Map(func(_ context.Context, r jsonl.Record) (jsonl.Record, error) { return f(r) })
}

func add(r jsonl.Record) (jsonl.Record, error) { return r.With("own", len(r.String()) > 0) }

var appends = each(add)

// gathers is the stage that reads all records before it yields any, and passes
// errors at once.
func gathers(_ context.Context, seq jsonl.Seq) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		var all []jsonl.Record
		for r, err := range seq {
			if err == nil {
				all = append(all, r)
			} else if !yield(r, err) {
				return
			}
		}
		for _, r := range all {
			if !yield(add(r)) {
				return
			}
		}
	}
}

// counts is the stage that makes one record of all.
func counts(_ context.Context, seq jsonl.Seq) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		n := 0
		for r, err := range seq {
			if err == nil {
				n++
			} else if !yield(r, err) {
				return
			}
		}
		yield(jsonl.New(map[string]int{"count": n}))
	}
}

// ahead is the stage that pulls in a goroutine, and waits for its end.
func ahead(_ context.Context, seq jsonl.Seq) jsonl.Seq {
	type pair struct {
		r   jsonl.Record
		err error
	}
	return func(yield func(jsonl.Record, error) bool) {
		pairs, stop := make(chan pair), make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		wg.Go(func() {
			defer close(pairs)
			for r, err := range seq {
				select {
				case pairs <- pair{r, err}:
				case <-stop:
					return
				}
			}
		})
		for p := range pairs {
			if !yield(p.r, p.err) {
				return
			}
		}
	}
}

// waits is the stage that goes on until its context, if it can, ends it.
func waits(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		for r, err := range appends(ctx, seq) {
			if !yield(r, err) {
				return
			}
		}
		if done := ctx.Done(); done != nil {
			<-done
		}
	}
}

func opens(_ context.Context, seq jsonl.Seq) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		f, err := os.Open(os.DevNull)
		if err != nil {
			yield(jsonl.Record{}, err)
			return
		}
		defer f.Close()
		seq(yield)
	}
}

func TestRightStages(t *testing.T) {
	uses := 0
	for _, tt := range []struct {
		name    string
		stage   jsonl.Stage
		options []jsonltest.Option
	}{
		{"appends", appends, []jsonltest.Option{jsonltest.Streaming()}},
		{"passes everything", jsonl.Chain(), []jsonltest.Option{jsonltest.Streaming()}},
		{"gathers", gathers, nil},
		{"counts", counts, []jsonltest.Option{jsonltest.Reducing()}},
		{"counts, with two options", counts, []jsonltest.Option{jsonltest.Reducing(), jsonltest.Streaming()}},
		{"pulls ahead", jsonl.Chain(ahead, appends), nil},
		{"waits", waits, nil},
		{"opens a file", opens, nil},
		{"never the same", each(func(r jsonl.Record) (jsonl.Record, error) {
			uses++
			return r.With("own", uses)
		}), []jsonltest.Option{jsonltest.Comparing(func(r jsonl.Record) string { return strconv.FormatBool(r.Has("own")) })}},
		{"refuses what lacks a member", each(func(r jsonl.Record) (jsonl.Record, error) {
			if !r.Has("n") {
				return r, r.Errorf("no n")
			}
			return add(r)
		}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := jsonltest.TestStage(tt.stage, records(t), tt.options...); err != nil {
				t.Errorf("TestStage = %v; want nil", err)
			}
		})
	}
}

func TestWrongStages(t *testing.T) {
	streaming, reducing := jsonltest.Streaming(), jsonltest.Reducing()
	quick := jsonltest.Within(time.Second)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	used := false
	for _, tt := range []struct {
		name    string
		stage   jsonl.Stage
		want    string
		options []jsonltest.Option
	}{
		{"yields both", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			if err != nil {
				return yield(parse(t, `{}`), err)
			}
			return yield(add(r))
		}), "errors from upstream: pair = ", nil},
		{"yields neither", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return yield(add(r)) && yield(jsonl.Record{}, nil)
		}), "records: pair = ", nil},

		{"swallows errors", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return err != nil || yield(add(r))
		}), "errors from upstream: errors from upstream that pass", nil},
		{"swallows errors, reducing", jsonl.Chain(wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return err != nil || yield(r, nil)
		}), counts), "errors from upstream: errors from upstream that pass", []jsonltest.Option{reducing}},
		{"swallows one kind of them", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return errors.Is(err, io.EOF) || yield(r, err)
		}), "errors from upstream: errors from upstream that pass", nil},
		{"wraps errors", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			if err != nil {
				return yield(r, fmt.Errorf("wrong: %w", err))
			}
			return yield(add(r))
		}), "errors from upstream: errors from upstream that pass", nil},
		{"repeats errors", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return yield(r, err) && (err == nil || yield(r, err))
		}), "errors from upstream: errors from upstream that pass", nil},
		{"ends at an error", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return yield(r, err) && err == nil
		}), "errors from upstream: it ends before its input: after 1 pairs", nil},
		{"ends at a record", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return yield(r, err) && !strings.Contains(r.String(), "2.50")
		}), "records: it ends before its input: after 2 pairs", nil},
		{"does not look at its input", func(context.Context, jsonl.Seq) jsonl.Seq {
			return jsonl.From()
		}, "records: it ends before its input: after 0 pairs", []jsonltest.Option{reducing}},
		{"turns errors around", func(_ context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				var held []error
				for r, err := range seq {
					if err != nil {
						held = append(held, err)
					} else if !yield(add(r)) {
						return
					}
				}
				for _, err := range slices.Backward(held) {
					if !yield(jsonl.Record{}, err) {
						return
					}
				}
			}
		}, "errors from upstream: errors from upstream that pass", nil},
		{"stumbles over an error", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			if _, bad := errors.AsType[*jsonl.LineError](err); bad {
				panic("stumbled")
			}
			return yield(r, err)
		}), "errors from upstream: panic: stumbled", nil},

		{"drops a record", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return strings.Contains(r.String(), "2.50") || yield(r, err)
		}), "records: pairs out = 2; want 3", nil},
		{"drops the same again", func(_ context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				seen := map[string]bool{}
				for r, err := range seq {
					if err == nil && seen[r.String()] {
						continue
					}
					seen[r.String()] = true
					if !yield(r, err) {
						return
					}
				}
			}
		}, "records: pairs out = 2; want 3", nil},
		{"makes two of one", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return yield(r, err) && (err != nil || yield(r, err))
		}), "records: pairs out = 6; want 3", nil},
		{"turns records around", func(_ context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				var held []jsonl.Record
				for r, err := range seq {
					if err == nil {
						held = append([]jsonl.Record{r}, held...)
						if len(held) < 2 {
							continue
						}
						r, held = held[0], held[1:]
					}
					if !yield(r, err) {
						return
					}
				}
				jsonl.From(held...)(yield)
			}
		}, "records: ", nil},
		{"encodes anew", each(func(r jsonl.Record) (jsonl.Record, error) {
			v := map[string]any{}
			if err := r.Decode(&v); err != nil {
				return r, err
			}
			return jsonl.New(v)
		}), "records: ", nil},
		{"rewrites a member", each(func(r jsonl.Record) (jsonl.Record, error) {
			if n, err := r.Uint("n", 0, 10); err == nil {
				return r.With("n", n+1)
			}
			return r, nil
		}), `records: {"n":2} of {"n":1}: member "n" = 2; want 1`, nil},
		{"loses a member", each(func(r jsonl.Record) (jsonl.Record, error) {
			return jsonl.New(map[string]int{"own": 1})
		}), `member = "own"; want "n" here`, nil},
		{"loses all members", each(func(r jsonl.Record) (jsonl.Record, error) {
			return jsonl.New(struct{}{})
		}), `member "n" is lost`, nil},
		{"puts its member first", each(func(r jsonl.Record) (jsonl.Record, error) {
			return jsonl.Parse([]byte(`{"own":1,` + r.String()[1:]))
		}), `member = "own"; want "n" here`, nil},
		{"adds two members", each(func(r jsonl.Record) (jsonl.Record, error) {
			r, err := add(r)
			if err != nil {
				return r, err
			}
			return r.With("more", 1)
		}), "records: {\"n\":1,\"own\":true,\"more\":1} of {\"n\":1}: members added = 2", nil},
		{"names its member by the record", each(func(r jsonl.Record) (jsonl.Record, error) {
			return r.With(fmt.Sprint("own", len(r.String())), 1)
		}), `member added = "own30"; want "own7", as before`, nil},
		{"adds its member once more", each(func(r jsonl.Record) (jsonl.Record, error) {
			body := strings.TrimSuffix(r.String(), "}")
			if body == "{" {
				return r, nil
			}
			return jsonl.Parse([]byte(body + `,"own":1}`))
		}), "on its own output: ", nil},
		{"fails on valid input", each(func(r jsonl.Record) (jsonl.Record, error) {
			return r, errors.New("not today")
		}), `records: error = "not today"`, nil},
		{"fails on valid input, reducing", each(func(r jsonl.Record) (jsonl.Record, error) {
			return r, errors.New("not today")
		}), `records: error = "not today"`, []jsonltest.Option{reducing}},

		{"says something about nothing", jsonl.Chain(appends, adds), "no records: pairs out = 1; want 0", nil},
		{"stumbles over garbage", each(func(r jsonl.Record) (jsonl.Record, error) {
			if r.String() == "{}" {
				panic("stumbled")
			}
			return r, nil
		}), "garbage: panic: stumbled", nil},
		{"skips garbage", wrong(func(yield func(jsonl.Record, error) bool, r jsonl.Record, err error) bool {
			return err == nil && !r.Has("n") || yield(r, err)
		}), "garbage: pairs out = 0; want 4", nil},

		{"remembers", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return each(func(r jsonl.Record) (jsonl.Record, error) {
				defer func() { used = true }()
				return r.With("own", used)
			})(ctx, seq)
		}, "used twice: record = ", nil},
		{"looks at the line number", each(func(r jsonl.Record) (jsonl.Record, error) {
			return r.With("own", r.Line())
		}), `piped: record = {"n":1,"own":1}; want {"n":1,"own":0}`, nil},

		{"pulls before it is asked", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			type pair struct {
				r   jsonl.Record
				err error
			}
			var all []pair
			for r, err := range seq {
				all = append(all, pair{r, err})
			}
			return func(yield func(jsonl.Record, error) bool) {
				for _, p := range all {
					if !yield(p.r, p.err) {
						return
					}
				}
			}
		}, "stopped early: after 0 of 8: it pulls before anybody ranges", nil},
		{"ranges twice", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				for range seq {
					break
				}
				seq(yield)
			}
		}, "records: it ranges over its input 2 times", nil},
		{"goes on pulling", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				on := true
				for r, err := range seq {
					on = on && yield(r, err)
				}
			}
		}, "stopped early: after 1 of 8: pairs pulled after the consumer stopped = 7", nil},
		{"goes on yielding", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				for r, err := range seq {
					yield(r, err)
				}
			}
		}, "stopped early: after 1 of 8: it yields after", nil},
		{"leaves its input open", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				next, _ := iter.Pull2(seq)
				for r, err, ok := next(); ok && yield(r, err); {
					r, err, ok = next()
				}
			}
		}, "stopped early: after 1 of 8: goroutines left behind:\n1 @ ", []jsonltest.Option{quick}},
		{"leaves a goroutine behind", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				for r, err := range seq {
					if !yield(r, err) {
						go func() { <-release }()
						return
					}
				}
			}
		}, "stopped early: after 1 of 8: goroutines left behind:\n1 @ ", []jsonltest.Option{quick}},
		{"leaves a goroutine behind at once", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			go func() { <-release }()
			return seq
		}, "no records: goroutines left behind:\n1 @ ", []jsonltest.Option{quick}},

		{"ignores its context", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				seq(yield)
				if ctx.Err() != nil {
					<-release
				}
			}
		}, "context cancelled: before: it has not ended after 1s:\n1 @ ", []jsonltest.Option{quick}},
		{"ignores its context later", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				before := ctx.Err()
				seq(yield)
				if before == nil && ctx.Err() != nil {
					<-release
				}
			}
		}, "context cancelled: at the end of the input: it has not ended after 1s:\n1 @ ", []jsonltest.Option{quick}},
		{"ignores its context while it works", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) {
				seq(yield)
				if ctx.Done() != nil && ctx.Err() == nil {
					<-release
				}
			}
		}, "context cancelled: while it works: it has not ended after 1s:\n1 @ ", []jsonltest.Option{quick}},
		{"never ends", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) { <-release }
		}, "records: it has not ended after 1s:\n1 @ ", []jsonltest.Option{quick}},
		{"ends its goroutine", func(ctx context.Context, seq jsonl.Seq) jsonl.Seq {
			return func(yield func(jsonl.Record, error) bool) { runtime.Goexit() }
		}, "records: runtime.Goexit was called", nil},

		{"gathers though streaming", gathers, "records: it pulls the next pair before", []jsonltest.Option{streaming}},
		{"counts though not reducing", counts, "records: pairs out = 1; want 3", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // most wait for the limit
			err := jsonltest.TestStage(tt.stage, records(t), tt.options...)
			if err == nil || !strings.Contains(": "+err.Error(), ": "+tt.want) {
				t.Errorf("TestStage = %v; want %q", err, tt.want)
			}
		})
	}
}

// adds is the stage that makes a record where there was nothing.
func adds(_ context.Context, seq jsonl.Seq) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		n := 0
		for r, err := range seq {
			if n++; !yield(r, err) {
				return
			}
		}
		if n == 0 {
			yield(jsonl.New(struct{}{}))
		}
	}
}

// wrong is the stage that does f for every pair.
func wrong(f func(func(jsonl.Record, error) bool, jsonl.Record, error) bool) jsonl.Stage {
	return func(_ context.Context, seq jsonl.Seq) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			for r, err := range seq {
				if !f(yield, r, err) {
					return
				}
			}
		}
	}
}

func TestSetup(t *testing.T) {
	for _, setup := range []func() []jsonl.Record{
		jsonltest.Records(),
		jsonltest.Records(parse(t, `{}`), jsonl.Record{}),
	} {
		if err := jsonltest.TestStage(appends, setup); err == nil || !strings.HasPrefix(err.Error(), "records: setup gives") {
			t.Errorf("TestStage without valid records = %v; want an error", err)
		}
	}
	// Each use has records of its own.
	n := 0
	setup := func() []jsonl.Record {
		n++
		return []jsonl.Record{parse(t, fmt.Sprintf(`{"n":%d}`, n))}
	}
	used := map[string]bool{}
	stage := each(func(r jsonl.Record) (jsonl.Record, error) {
		if r.Has("n") && !r.Has("own") && used[r.String()] {
			return r, errors.New("used before")
		}
		used[r.String()] = true
		return r.With("own", 1)
	})
	if err := jsonltest.TestStage(stage, setup, jsonltest.Comparing(func(jsonl.Record) string { return "" })); err != nil {
		t.Errorf("TestStage with fresh records = %v; want nil", err)
	}
}
