package jsonl_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
)

// with is the stage that appends key.
func with(key string) jsonl.Stage {
	return jsonl.Map(func(_ context.Context, r jsonl.Record) (jsonl.Record, error) { return r.With(key, true) })
}

func TestLaws(t *testing.T) {
	records := jsonltest.Records(parse(t, `{"pid":12}`), parse(t, `{ "pid" : 13, "pid":"\u0000\/" }`), parse(t, `{"pid":12}`), parse(t, `{}`))
	for _, tt := range []struct {
		name  string
		stage jsonl.Stage
	}{
		{"Map", with("a")},
		{"Chain()", jsonl.Chain()},
		{"Chain of one", jsonl.Chain(with("a"))},
		{"Chain of two alike", jsonl.Chain(with("a"), with("a"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := jsonltest.TestStage(tt.stage, records, jsonltest.Streaming()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestChainOrder(t *testing.T) {
	for r, err := range jsonl.Chain(with("a"), with("b"), jsonl.Chain(), with("c"))(t.Context(), jsonl.From(parse(t, `{}`))) {
		if want := `{"a":true,"b":true,"c":true}`; err != nil || r.String() != want {
			t.Errorf("Chain = %q, %v; want %q", r, err, want)
		}
	}
}

// An error of f stands where the record stood, and no record beside it.
func TestMapError(t *testing.T) {
	refusal := errors.New("refused")
	stage := jsonl.Map(func(_ context.Context, r jsonl.Record) (jsonl.Record, error) {
		if r.Has("bad") {
			return r, refusal
		}
		return r, nil
	})
	var got []string
	in := []jsonl.Record{parse(t, `{"a":1}`), parse(t, `{"bad":2}`), parse(t, `{"a":3}`)}
	for r, err := range stage(t.Context(), jsonl.From(in...)) {
		got = append(got, fmt.Sprint(r, err))
	}
	if want := []string{`{"a":1} <nil>`, " refused", `{"a":3} <nil>`}; !slices.Equal(got, want) {
		t.Errorf("Map = %q; want %q", got, want)
	}
}

func TestMapContext(t *testing.T) {
	type key struct{}
	stage := jsonl.Map(func(ctx context.Context, r jsonl.Record) (jsonl.Record, error) { return r.With("a", ctx.Value(key{})) })
	for r, err := range stage(context.WithValue(t.Context(), key{}, 12), jsonl.From(parse(t, `{}`))) {
		if want := `{"a":12}`; err != nil || r.String() != want {
			t.Errorf("Map = %q, %v; want %q", r, err, want)
		}
	}
}

func TestFail(t *testing.T) {
	failure := errors.New("no table")
	n := 0
	for r, err := range jsonl.Fail(failure) {
		if n++; err != failure || !r.IsZero() {
			t.Errorf("Fail = %q, %v; want %v", r, err, failure)
		}
	}
	if n != 1 {
		t.Errorf("pairs of Fail = %d; want 1", n)
	}
}

func TestFromStops(t *testing.T) {
	n := 0
	for range jsonl.From(parse(t, `{}`), parse(t, `{}`), parse(t, `{}`)) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("records of From until the second = %d; want 2", n)
	}
}
