package jsonl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/killport/killport/pkg/jsonl"
)

// A line is a record exactly if encoding/json takes it for one object, on one
// line, within the bounds; and a record is its line.
func FuzzParse(f *testing.F) {
	seed(f, func(line string) { f.Add([]byte(line)) })
	f.Fuzz(func(t *testing.T, line []byte) {
		trimmed := string(bytes.Trim(line, " \t"))
		want := json.Valid(line) && trimmed[0] == '{' && !strings.ContainsAny(trimmed, "\r\n") &&
			len(line) <= jsonl.MaxLine && depth(trimmed) <= jsonl.MaxDepth
		r, err := jsonl.Parse(line)
		if (err == nil) != want || r.IsZero() == want {
			t.Fatalf("Parse(%q) = %q, %v; want a record: %v", line, r, err, want)
		}
		if err != nil {
			return
		}
		if r.String() != trimmed {
			t.Errorf("Parse(%q) = %q; want %q", line, r, trimmed)
		}
		if again, err := jsonl.Parse([]byte(r.String())); err != nil || again != r {
			t.Errorf("Parse(%q) = %q, %v; want the same record again", r, again, err)
		}
	})
}

// With adds or replaces one member, readable afterwards, and leaves every
// other byte for byte as and where it was.
func FuzzWith(f *testing.F) {
	seed(f, func(line string) {
		f.Add([]byte(line), "pid", "12")
		f.Add([]byte(line), "a", "text")
		f.Add([]byte(line), "\x1b\u202e", "\x00\x7f\u009b\u202e\xff")
	})
	f.Add([]byte(`{"b":"}"}`), "a", `[{"b":[ null ]}]`)
	f.Add([]byte(`{}`), "a", nested(jsonl.MaxDepth))
	f.Fuzz(func(t *testing.T, line []byte, key, text string) {
		r, err := jsonl.Parse(line)
		if err != nil || !utf8.ValidString(key) {
			return // not a record, or not a key that a program would have
		}
		var value any = text
		if json.Valid([]byte(text)) {
			value = json.RawMessage(text)
		}
		old := members(t, r.String())
		at, alike := -1, 0
		for i, m := range old {
			if strings.EqualFold(m.name, key) {
				alike++
			}
			if m.name == key && utf8.ValidString(m.key) {
				at = i
			}
		}
		got, err := r.With(key, value)
		if err != nil {
			room := len(r.String())+6*len(key)+6*len(text)+len(`,"":""`) <= jsonl.MaxLine && depth(text) < jsonl.MaxDepth
			if !got.IsZero() || room && (alike == 0 || alike == 1 && at >= 0) {
				t.Errorf("%q.With(%q, %q) = %q, %v; want a record", r, key, text, got, err)
			}
			return
		}
		if alike > 1 || alike == 1 && at < 0 {
			t.Fatalf("%q.With(%q, %q) = %q; want an error", r, key, text, got)
		}
		if again, err := jsonl.Parse([]byte(got.String())); err != nil || again != got {
			t.Fatalf("Parse(%q) = %q, %v; want it back", got, again, err)
		}
		if again, err := got.With(key, value); err != nil || again != got {
			t.Errorf("%q.With(%q, %q) = %q, %v; want no change", got, key, text, again, err)
		}

		now := members(t, got.String())
		if at < 0 {
			at = len(old)
			old = append(old, member{name: key})
		}
		if len(now) != len(old) {
			t.Fatalf("%q.With(%q, %q) = %q; want %d members", r, key, text, got, len(old))
		}
		for i := range now {
			if i == at {
				old[i].value = now[i].value
			}
			if i == len(old)-1 && old[i].key == "" {
				old[i].key = now[i].key
			}
			if now[i] != old[i] {
				t.Errorf("%q.With(%q, %q) = %q; want %s:%s as it was", r, key, text, got, old[i].key, old[i].value)
			}
		}
		if !same(now[at].value, value) {
			t.Errorf("%q.With(%q, %q) = %q; want the value back", r, key, text, got)
		}
		if unprintable(now[at].value) {
			t.Errorf("%q.With(%q, %q) = %q; want it printable", r, key, text, got)
		}
	})
}

// same reports whether raw is the JSON of v.
func same(raw string, v any) bool {
	b, err := json.Marshal(v)
	if err != nil {
		return false
	}
	return canonical([]byte(raw)) == canonical(b)
}

// canonical is JSON in the words of encoding/json, its numbers as written.
func canonical(b []byte) string {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	b, _ = json.Marshal(v)
	return string(b)
}

// Uint agrees with a slow and strict reading of the tokens.
func FuzzUint(f *testing.F) {
	seed(f, func(line string) { f.Add([]byte(line), uint64(2), uint64(1<<22)) })
	f.Add([]byte(`{"pid":18446744073709551615}`), uint64(0), uint64(math.MaxUint64))
	f.Add([]byte(`{"pid":00}`), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, line []byte, lo, hi uint64) {
		r, err := jsonl.Parse(line)
		if err != nil {
			return // not a record
		}
		want, ok := strictUint(t, r.String(), "pid", lo, hi)
		got, err := r.Uint("pid", lo, hi)
		if got != want || (err == nil) != ok {
			t.Errorf("Uint(%d, %d) of %q = %v, %v; want %v, %v", lo, hi, r, got, err, want, ok)
		}
		if err != nil && (unprintable(err.Error()) || len(err.Error()) > 500 && len(line) < 100) {
			t.Errorf("Uint(%d, %d) of %q: error %q; want it short and printable", lo, hi, r, err)
		}
	})
}

func strictUint(tb testing.TB, line, key string, lo, hi uint64) (uint64, bool) {
	var found []member
	for _, m := range members(tb, line) {
		if strings.EqualFold(m.name, key) {
			found = append(found, m)
		}
	}
	if len(found) != 1 || found[0].name != key || strings.Trim(found[0].value, "0123456789") != "" {
		return 0, false
	}
	n, ok := new(big.Int).SetString(found[0].value, 10)
	if !ok || !n.IsUint64() || n.Uint64() < lo || n.Uint64() > hi {
		return 0, false
	}
	return n.Uint64(), true
}

// However the bytes come, each line that is not blank gives one result, the
// same as Parse, with its number.
func FuzzRead(f *testing.F) {
	seed(f, func(line string) {
		f.Add([]byte("\ufeff{}\r\n"+line+"\n\n{}"), false)
	})
	f.Add([]byte("\x00\x00{}\n{}"), false)
	f.Add([]byte("{}\x00\x00{}\n{}"), false)
	f.Add([]byte("\xef\xbb\xbf{}\x00\x00\r{}\n{}"), true)
	f.Fuzz(func(t *testing.T, b []byte, bytewise bool) {
		if bytes.Count(b, []byte{0}) > 2 {
			return // too much work
		}
		// A NUL stands for half a line, which fuzzing would not find by itself.
		b = bytes.ReplaceAll(b, []byte{0}, bytes.Repeat([]byte(" "), jsonl.MaxLine/2))
		var in io.Reader = bytes.NewReader(b)
		if bytewise && len(b) < 1<<10 {
			in = iotest.OneByteReader(in)
		} else if bytewise {
			in = iotest.DataErrReader(iotest.HalfReader(in))
		}
		var got []result
		for r, err := range jsonl.Read(in)(t.Context()) {
			bad, ok := errors.AsType[*jsonl.LineError](err)
			switch {
			case ok && r.IsZero():
				got = append(got, result{bad.Line, "error"})
			case err == nil && len(r.String()) <= jsonl.MaxLine:
				got = append(got, result{r.Line(), r.String()})
			default:
				t.Fatalf("Read(%q): pair %q, %v; want a record or a LineError", clip(string(b)), clip(r.String()), err)
			}
		}
		want := lines(bytes.TrimPrefix(b, []byte("\ufeff")))
		if len(got) != len(want) {
			t.Fatalf("Read(%q) = %d results; want %d", clip(string(b)), len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("Read(%q): result %d = %q of line %d; want %q of line %d", clip(string(b)), i, clip(got[i].text), got[i].line, clip(want[i].text), want[i].line)
			}
		}
	})
}

// lines is what Read makes of b, with all of b in memory.
func lines(b []byte) []result {
	var all []result
	n := 0
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		n++
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) <= jsonl.MaxLine && len(bytes.Trim(line, " \t\r")) == 0 {
			continue
		}
		r, err := jsonl.Parse(line)
		if err != nil {
			all = append(all, result{n, "error"})
		} else {
			all = append(all, result{n, r.String()})
		}
	}
	return all
}

func seed(f *testing.F, add func(line string)) {
	for _, tt := range malformed {
		if len(tt.line) < 10_000 {
			add(tt.line)
		}
	}
	for _, tt := range hostile {
		if len(tt.line) < 10_000 {
			add(tt.line)
		}
	}
	for _, line := range []string{
		`{}`,
		"{ \t }",
		`{"pid":12}`,
		"\t{ \"a\" : 1 , \"pid\" : 4194304 } ",
		`{"p\u0069d":2}`,
		`{"a":{"pid":3,"PID":4},"pid":2,"b":"\"pid\":5}"}`,
		`{"a":"\ud83d\ude00\ud83d\\\"","\/":-1.5e-7,"c":[true,false,null,[],{}],"a":""}`,
		"{\"a\":\"\xff\u202e\x7f\u009b\",\"\xff\":1,\"\\ud800\":2}",
		nested(jsonl.MaxDepth),
		nested(jsonl.MaxDepth + 1),
	} {
		add(line)
	}
}

// member is one of an object: its name, and the bytes of key and value.
type member struct{ name, key, value string }

// members reads an object's members with encoding/json.
func members(tb testing.TB, object string) []member {
	tb.Helper()
	d := json.NewDecoder(strings.NewReader(object))
	next := func() json.Token {
		token, err := d.Token()
		if err != nil {
			tb.Fatalf("Token of %q = %v; want valid JSON", object, err)
		}
		return token
	}
	next()
	var all []member
	for d.More() {
		start := d.InputOffset()
		name := next().(string)
		key := object[start:d.InputOffset()]
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			tb.Fatalf("Decode of %q = %v; want valid JSON", object, err)
		}
		all = append(all, member{name, key[strings.Index(key, `"`):], string(value)})
	}
	next()
	return all
}

// depth is how deep the objects and arrays of valid JSON stand within one
// another.
func depth(text string) int {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	deepest, now := 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			now++
			deepest = max(deepest, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}
