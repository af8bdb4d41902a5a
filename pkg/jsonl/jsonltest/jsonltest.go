// Package jsonltest checks that a stage keeps the contract of package jsonl,
// in the manner of testing/fstest.TestFS.
package jsonltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/killport/killport/pkg/jsonl"
)

// TestStage uses stage about fifteen times and returns the first law that it
// breaks, or nil. The laws:
//
//   - A pair is a record or an error, never both or neither.
//   - The stage does nothing before its sequence is ranged over, and ranges
//     over its input once.
//   - Errors from upstream pass: the same, each once, in their order.
//   - To each record in, in the same order, belongs one record out (or, if the
//     record was no valid input, one error). It has all members of the former,
//     byte for byte and in their order, and at most one more, which has the
//     same name in all of them. Using the stage on what it made replaces that
//     member and adds none.
//   - Without records nothing comes out; garbage gives errors and no panic.
//   - A second use gives what the first gave, and so does a use on what went
//     through [jsonl.Write] and [jsonl.Read]; what comes out survives them.
//   - When the consumer stops, after no pair, one or all of them, the stage
//     stops pulling: its input has ended when it ends, and at most one pair
//     that was under way is lost.
//   - It ends when its context is cancelled, provided that its input does:
//     cancelled before, at the end of the input, and while the stage works.
//   - When it ends it leaves no goroutine and, on Linux, no open file behind.
//
// For each use setup gives the records, which are valid input, lack the
// stage's own member, and make it yield no errors. If they stand for things
// that the stage changes, they are new each time, and what setup made is for
// the caller to clean up; see [Records] for others.
//
// Goroutines are told apart by a profiler label, files are not: files that
// tests running in parallel open and keep open count as left behind.
//
// TestStage returns an error instead of taking a *testing.T, so that it can be
// tested itself; setup may well call methods of one, since it is called by the
// goroutine that called TestStage.
func TestStage(stage jsonl.Stage, setup func() []jsonl.Record, options ...Option) error {
	c := &check{
		stage: stage,
		setup: setup,
		equal: jsonl.Record.String,
		limit: 10 * time.Second,
	}
	for _, option := range options {
		option(c)
	}
	for _, law := range []struct {
		name  string
		holds func(*check) error
	}{
		{"records", (*check).records},
		{"no records", (*check).empty},
		{"errors from upstream", (*check).errors},
		{"garbage", (*check).garbage},
		{"on its own output", (*check).again},
		{"used twice", (*check).twice},
		{"piped", (*check).piped},
		{"stopped early", (*check).stopped},
		{"context cancelled", (*check).cancelled},
	} {
		if err := law.holds(c); err != nil {
			return fmt.Errorf("%s: %w", law.name, err)
		}
	}
	return nil
}

// Records is the setup of records that can be used again and again.
func Records(records ...jsonl.Record) func() []jsonl.Record {
	return func() []jsonl.Record { return slices.Clone(records) }
}

// Option says what is special about a stage.
type Option func(*check)

// Reducing is for stages that consume records and make others of them. They
// may yield records without having been given any.
func Reducing() Option { return func(c *check) { c.reducing = true } }

// Streaming is for stages whose every pair is out before they pull the next.
func Streaming() Option { return func(c *check) { c.streaming = true } }

// Comparing is for stages whose records differ from one use to the next, by a
// PID or a time: two of them count as the same if f is the same for both.
func Comparing(f func(jsonl.Record) string) Option { return func(c *check) { c.equal = f } }

// Within sets how long one use may last; otherwise it is 10 s. A stage that
// waits for something is best given longer than that to do so, which then only
// the context can cut short.
func Within(limit time.Duration) Option { return func(c *check) { c.limit = limit } }

type check struct {
	stage     jsonl.Stage
	setup     func() []jsonl.Record
	equal     func(jsonl.Record) string
	limit     time.Duration
	reducing  bool
	streaming bool

	warm  bool   // what a program opens once, for good, is open
	key   string // of the stage's own member, as written; "" while unknown
	first []pair // what came out when only records went in
	most  int    // pairs out when errors stand between the records
}

type pair struct {
	record jsonl.Record
	err    error
}

// records also warms up, and learns what other laws ask for.
func (c *check) records() error {
	records := c.setup()
	if len(records) == 0 || slices.ContainsFunc(records, jsonl.Record.IsZero) {
		return errors.New("setup gives none, or a zero one: nothing to test with")
	}
	var err error
	c.first, err = c.all(jsonl.From(records...))
	c.warm = true
	return err
}

func (c *check) empty() error {
	for _, in := range []jsonl.Seq{jsonl.From(), read(""), read("\n \r\n\n")} {
		if _, err := c.all(in); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) errors() error {
	if _, err := c.all(mixed(nil)); err != nil {
		return err
	}
	out, err := c.all(mixed(c.setup()))
	c.most = len(out)
	return err
}

func (c *check) garbage() error {
	const text = "\ufeffnot JSON\n[]\nnull\n\x00\n{\"a\":1}{\"a\":2}\n{}\n\n{ \"\" : \"\" }\r\n" +
		"{\"a\":\"\\u0000\xff\",\"a\":[[{}]],\"A\":-1e400}\n\ufeff{}\n{}\n{\"a\":\"tr"
	up, out, err := c.use(context.Background(), read(text), all)
	if err != nil {
		return err
	}
	_, err = c.lawful(up, out)
	return err
}

func (c *check) again() error {
	if c.reducing {
		return nil
	}
	chained := *c
	chained.stage = jsonl.Chain(c.stage, c.stage)
	_, err := chained.all(jsonl.From(c.setup()...))
	return err
}

func (c *check) twice() error {
	out, err := c.all(jsonl.From(c.setup()...))
	if err != nil {
		return err
	}
	return same(c.first, out, c.equal)
}

func (c *check) piped() error {
	in, err := wire(jsonl.From(c.setup()...))
	if err != nil {
		return err
	}
	piped, err := c.all(in)
	if err != nil {
		return err
	}
	if err := same(c.first, piped, c.equal); err != nil {
		return err
	}
	out, err := wire(sequence(piped))
	if err != nil {
		return err
	}
	var back []pair
	for r, err := range out {
		back = append(back, pair{r, err})
	}
	return same(piped, back, jsonl.Record.String)
}

func (c *check) stopped() error {
	for _, n := range []int{0, 1, c.most} {
		if _, _, err := c.use(context.Background(), mixed(c.setup()), n); err != nil {
			return fmt.Errorf("after %d of %d: %w", n, c.most, err)
		}
	}
	return nil
}

func (c *check) cancelled() error {
	for _, when := range []struct {
		name   string
		before bool
		at     func(cancel func())
	}{
		{"before", true, func(func()) {}},
		{"at the end of the input", false, func(cancel func()) { cancel() }},
		{"while it works", false, func(cancel func()) { time.AfterFunc(20*time.Millisecond, cancel) }},
	} {
		records := c.setup()
		ctx, cancel := context.WithCancel(context.Background())
		if when.before {
			cancel()
		}
		_, _, err := c.use(ctx, func(yield func(jsonl.Record, error) bool) {
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			when.at(cancel)
		}, all)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", when.name, err)
		}
	}
	return nil
}

// all uses the stage on valid input and returns all that comes out.
func (c *check) all(in jsonl.Seq) ([]pair, error) {
	up, out, err := c.use(context.Background(), in, all)
	if err != nil {
		return nil, err
	}
	own, err := c.lawful(up, out)
	if err != nil {
		return nil, err
	}
	for _, p := range own {
		if p.err != nil {
			return nil, fmt.Errorf("error = %q; want none, the input is valid", p.err)
		}
	}
	return out, nil
}

// lawful checks what came out against what went in, and returns that without
// the errors from upstream.
func (c *check) lawful(up *upstream, out []pair) ([]pair, error) {
	if !up.drained {
		return nil, fmt.Errorf("it ends before its input: after %d pairs of it", len(up.sent))
	}
	var want, passed []error
	var records, own []pair
	for _, p := range up.sent {
		if p.err != nil {
			want = append(want, p.err)
		} else {
			records = append(records, p)
		}
	}
	for _, p := range out {
		if p.err != nil && slices.Contains(want, p.err) {
			passed = append(passed, p.err)
		} else {
			own = append(own, p)
		}
	}
	if !slices.Equal(passed, want) {
		return nil, fmt.Errorf("errors from upstream that pass unchanged = %q; want %q", passed, want)
	}
	if c.reducing {
		return own, nil
	}
	if len(own) != len(records) {
		return nil, fmt.Errorf("pairs out = %d; want %d, one for each record in: %v", len(own), len(records), own)
	}
	for i, p := range own {
		if p.err != nil {
			continue
		}
		if err := c.extends(records[i].record, p.record); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", p.record, records[i].record, err)
		}
	}
	return own, nil
}

// extends checks that out is in and at most the stage's own member.
func (c *check) extends(in, out jsonl.Record) error {
	before, err := members(in)
	if err != nil {
		return err
	}
	after, err := members(out)
	if err != nil {
		return err
	}
	for i, m := range before {
		switch {
		case i >= len(after):
			return fmt.Errorf("member %s is lost", m.key)
		case after[i].key != m.key:
			return fmt.Errorf("member = %s; want %s here", after[i].key, m.key)
		case after[i].value != m.value && m.key != c.key:
			return fmt.Errorf("member %s = %s; want %s, byte for byte", m.key, after[i].value, m.value)
		}
	}
	switch added := after[len(before):]; {
	case len(added) > 1:
		return fmt.Errorf("members added = %d; want one at most", len(added))
	case len(added) == 1 && c.key == "":
		c.key = added[0].key
	case len(added) == 1 && added[0].key != c.key:
		return fmt.Errorf("member added = %s; want %s, as before", added[0].key, c.key)
	}
	return nil
}

func same(a, b []pair, of func(jsonl.Record) string) error {
	if len(a) != len(b) {
		return fmt.Errorf("records = %d; want %d, as before", len(b), len(a))
	}
	for i := range a {
		if got, want := of(b[i].record), of(a[i].record); got != want {
			return fmt.Errorf("record = %s; want %s, as before", got, want)
		}
	}
	return nil
}

func read(text string) jsonl.Seq {
	return jsonl.Read(strings.NewReader(text))(context.Background())
}

// wire is seq after a pipe.
func wire(seq jsonl.Seq) (jsonl.Seq, error) {
	var b bytes.Buffer
	var errs []error
	err := jsonl.Write(&b, seq, func(err error) { errs = append(errs, err) })
	return jsonl.Read(&b)(context.Background()), errors.Join(append(errs, err)...)
}

// mixed is the sequence of records with an error before each, and two at the
// end.
func mixed(records []jsonl.Record) jsonl.Seq {
	var pairs []pair
	for i, r := range records {
		pairs = append(pairs, pair{err: disturbance(i)}, pair{record: r})
	}
	return sequence(append(pairs, pair{err: disturbance(len(records))}, pair{err: disturbance(len(records) + 1)}))
}

// disturbance is an error that a stage may be tempted to treat as special.
func disturbance(i int) error {
	switch i % 4 {
	case 0:
		return &jsonl.LineError{Line: i + 1, Err: errors.New("disturbance")}
	case 1:
		return fmt.Errorf("disturbance %d: %w", i, context.Canceled)
	case 2:
		return fmt.Errorf("disturbance %d: %w", i, jsonl.ErrMissing)
	default:
		return io.EOF
	}
}

func sequence(pairs []pair) jsonl.Seq {
	return func(yield func(jsonl.Record, error) bool) {
		for _, p := range pairs {
			if !yield(p.record, p.err) {
				return
			}
		}
	}
}
