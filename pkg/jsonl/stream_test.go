package jsonl_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"unicode"
	"unicode/utf8"

	"github.com/killport/killport/pkg/jsonl"
)

// result is one pair of a sequence, in words.
type result struct {
	line int
	text string // of the record, or "error"
}

func results(tb testing.TB, r io.Reader) []result {
	tb.Helper()
	var all []result
	for r, err := range jsonl.Read(r)(tb.Context()) {
		switch bad, ok := errors.AsType[*jsonl.LineError](err); {
		case ok && r.IsZero():
			all = append(all, result{bad.Line, "error"})
		case err == nil && !r.IsZero():
			all = append(all, result{r.Line(), r.String()})
		default:
			all = append(all, result{-1, fmt.Sprint(r, err)})
		}
	}
	return all
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []result
	}{
		{"nothing", "", nil},
		{"no final newline", "{}", []result{{1, "{}"}}},
		{"final newline", "{}\n", []result{{1, "{}"}}},
		{"several", "{\"a\":1}\n{\"a\":2}\n", []result{{1, `{"a":1}`}, {2, `{"a":2}`}}},
		{"CRLF", "{}\r\n[]\r\n{}\r\n", []result{{1, "{}"}, {2, "error"}, {3, "{}"}}},
		{"CR at the end", "{}\r", []result{{1, "{}"}}},
		{"blank lines", "\n \n{}\n\t\r\n\r\n\n{}\n\n", []result{{3, "{}"}, {7, "{}"}}},
		{"nothing but blank lines", "\r\n \n\n\t", nil},
		{"byte order mark", "\ufeff{}\n{}", []result{{1, "{}"}, {2, "{}"}}},
		{"byte order mark alone", "\ufeff", nil},
		{"byte order mark and CRLF", "\ufeff\r\n{}\r\n", []result{{2, "{}"}}},
		{"byte order mark later", "{}\n\ufeff{}\n{}", []result{{1, "{}"}, {2, "error"}, {3, "{}"}}},
		{"half a byte order mark", "\xef\xbb", []result{{1, "error"}}},
		{"invalid UTF-8 in text", "{\"a\":\"\xff\"}\n", []result{{1, "{\"a\":\"\xff\"}"}}},
		{"line separator in text", "{\"a\":\"\u2028\u0085\"}\n", []result{{1, "{\"a\":\"\u2028\u0085\"}"}}},
		{"indented JSON", "{\n  \"pid\": 12\n}\n", []result{{1, "error"}, {2, "error"}, {3, "error"}}},
		{"cut in the last line", "{}\n{\"pid\":12", []result{{1, "{}"}, {2, "error"}}},
		{"as long as allowed", sized(jsonl.MaxLine) + "\n{}", []result{{1, sized(jsonl.MaxLine)}, {2, "{}"}}},
		{"as long as allowed, CRLF", "{}\n" + sized(jsonl.MaxLine) + "\r\n{}", []result{{1, "{}"}, {2, sized(jsonl.MaxLine)}, {3, "{}"}}},
		{"as long as allowed, byte order mark and CRLF", "\ufeff" + sized(jsonl.MaxLine) + "\r\n{}", []result{{1, sized(jsonl.MaxLine)}, {2, "{}"}}},
		{"as long as allowed, no newline", sized(jsonl.MaxLine), []result{{1, sized(jsonl.MaxLine)}}},
		{"too long, no newline", sized(jsonl.MaxLine + 1), []result{{1, "error"}}},
		{"too long, blanks and a record", strings.Repeat(" ", jsonl.MaxLine+10) + "{}\n{}", []result{{1, "error"}, {2, "{}"}}},
		{"too long, a record and more", `{}` + strings.Repeat(" ", jsonl.MaxLine) + "{}\n{}", []result{{1, "error"}, {2, "{}"}}},
		{"too long, a record and more, byte order mark", "\ufeff{}" + strings.Repeat(" ", jsonl.MaxLine) + "{}\n{}", []result{{1, "error"}, {2, "{}"}}},
		{"too long, CR where it is cut", "{}" + strings.Repeat(" ", jsonl.MaxLine-1) + "\r{}\n{}", []result{{1, "error"}, {2, "{}"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, by := range []struct {
				name string
				r    io.Reader
			}{
				{"at once", strings.NewReader(tt.in)},
				{"in halves", iotest.HalfReader(strings.NewReader(tt.in))},
				{"with the end", iotest.DataErrReader(strings.NewReader(tt.in))},
			} {
				if got := results(t, by.r); !slices.Equal(got, tt.want) {
					t.Errorf("Read(%q) %s = %.200q; want %.200q", clip(tt.in), by.name, fmt.Sprint(got), fmt.Sprint(tt.want))
				}
			}
			if len(tt.in) < 1000 {
				if got := results(t, iotest.OneByteReader(strings.NewReader(tt.in))); !slices.Equal(got, tt.want) {
					t.Errorf("Read(%q) byte by byte = %v; want %v", tt.in, got, tt.want)
				}
			}
		})
	}
}

// A bad line is an error with its number in its place; the good lines go on.
func TestReadMalformed(t *testing.T) {
	for _, tt := range malformed {
		t.Run(tt.name, func(t *testing.T) {
			in := "{\"pid\":1}\n" + tt.line + "\n{\"pid\":3}\n"
			want := []result{{1, `{"pid":1}`}, {2, "error"}, {3, `{"pid":3}`}}
			if got := results(t, strings.NewReader(in)); !slices.Equal(got, want) {
				t.Errorf("Read(%q) = %.200q; want %v", clip(in), fmt.Sprint(got), want)
			}
		})
	}
}

// A record that names no PID to act on says so with its line.
func TestReadHostile(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			var lines []int
			for r, err := range jsonl.Read(strings.NewReader("{\"pid\":12}\n" + tt.line + "\n{\"pid\":12}\n"))(t.Context()) {
				if err != nil {
					t.Fatalf("Read(%q) = %v; want records", clip(tt.line), err)
				}
				_, err := r.Uint("pid", 2, 1<<22)
				if bad, ok := errors.AsType[*jsonl.LineError](err); ok {
					lines = append(lines, bad.Line)
				}
			}
			if want := []int{2}; !slices.Equal(lines, want) {
				t.Errorf("lines refused with %q = %v; want %v", clip(tt.line), lines, want)
			}
		})
	}
}

func TestReadBoundsMemory(t *testing.T) {
	const length, most = 100 << 20, 16 << 20
	for _, tt := range []struct{ name, start, fill string }{
		{"text", `{"a":"`, "x"},
		{"blanks", "", " "},
		{"brackets", `{"a":`, "["},
		{"objects", "", `{"a":`},
		{"records", "", "{} "},
		{"carriage returns", "", "\r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := io.MultiReader(
				strings.NewReader("{\"pid\":1}\n"+tt.start),
				io.LimitReader(repeat(tt.fill), length),
				strings.NewReader("\n{\"pid\":3}\n"),
			)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := results(t, in)
			runtime.ReadMemStats(&after)
			if want := []result{{1, `{"pid":1}`}, {2, "error"}, {3, `{"pid":3}`}}; !slices.Equal(got, want) {
				t.Errorf("Read = %.200q; want %v", fmt.Sprint(got), want)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > most {
				t.Errorf("memory for a line of %d bytes = %d; want at most %d", length, used, most)
			}
		})
	}
}

// endless is a reader of block, again and again.
type endless struct {
	block string
	at    int
}

func repeat(s string) io.Reader { return &endless{block: strings.Repeat(s, 10_000)} }

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.block[e.at:])
	e.at = (e.at + n) % len(e.block)
	return n, nil
}

// Each record is there as soon as its line is; else this bubble deadlocks.
func TestReadSlowProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := []string{"{\"a\":1}\n", "oops\n", "\n{\"a\":2}\r\n", "{\"a\":3}"}
		in, out := io.Pipe()
		next := func() {
			if len(lines) == 0 {
				out.Close()
				return
			}
			io.WriteString(out, lines[0])
			if lines = lines[1:]; len(lines) == 0 {
				out.Close() // the last line has no end but that of the input
			}
		}
		go next()
		var got []string
		for r, err := range jsonl.Read(in)(t.Context()) {
			got = append(got, cmp.Or(r.String(), "error"))
			if (err != nil) != r.IsZero() {
				t.Errorf("pair = %q, %v; want one of them", r, err)
			}
			synctest.Wait() // until the producer has nothing more to say
			if len(lines) > 0 {
				go next()
			}
		}
		if want := []string{`{"a":1}`, "error", `{"a":2}`, `{"a":3}`}; !slices.Equal(got, want) {
			t.Errorf("Read = %q; want %q", got, want)
		}
	})
}

func TestReadFailingReader(t *testing.T) {
	failure := errors.New("disk on fire")
	for _, tt := range []struct {
		in   string
		good int
	}{
		{"", 0},
		{"{}\n{}\n", 2},
		{"{}\n{}\n{\"pid\":12", 2},
		{"{}\n" + strings.Repeat("x", jsonl.MaxLine+10), 1},
	} {
		var good int
		var last error
		for r, err := range jsonl.Read(io.MultiReader(strings.NewReader(tt.in), iotest.ErrReader(failure)))(t.Context()) {
			if !r.IsZero() {
				good++
			}
			last = err
		}
		if _, bad := errors.AsType[*jsonl.LineError](last); good != tt.good || !errors.Is(last, failure) || bad {
			t.Errorf("Read(%q, then %v) = %d records, then %v; want %d, then it, of no line", clip(tt.in), failure, good, last, tt.good)
		}
	}
}

func TestReadStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for range jsonl.Read(repeat("{}\n"))(ctx) {
		if n++; n == 3 {
			cancel()
		}
	}
	if n != 3 {
		t.Errorf("records with the context cancelled at the third = %d; want 3", n)
	}
	for range jsonl.Read(repeat("{}\n"))(ctx) {
		t.Error("a record with the context cancelled before; want none")
		break
	}
	for range jsonl.Read(repeat("{}\n"))(t.Context()) {
		break // else this would not end
	}
	for range jsonl.Read(iotest.ErrReader(io.ErrUnexpectedEOF))(t.Context()) {
		break
	}
}

// writes is a writer that notes each write, and fails from the one numbered
// fail on.
type writes struct {
	fail int
	got  []string
}

func (w *writes) Write(p []byte) (int, error) {
	if len(w.got) == w.fail {
		return 0, io.ErrShortWrite
	}
	w.got = append(w.got, string(p))
	return len(p), nil
}

func TestWrite(t *testing.T) {
	bad := []error{errors.New("first"), &jsonl.LineError{Line: 7, Err: errors.New("second")}, io.EOF}
	long := sized(jsonl.MaxLine)
	pulled := 0
	seq := func(yield func(jsonl.Record, error) bool) {
		for _, p := range []struct {
			r   jsonl.Record
			err error
		}{
			{err: bad[0]},
			{r: parse(t, " {\"a\" :1} ")},
			{err: bad[1]},
			{r: parse(t, long)},
			{r: parse(t, `{"b":2}`)},
			{err: bad[2]},
		} {
			pulled++
			if !yield(p.r, p.err) {
				return
			}
		}
	}
	for _, tt := range []struct {
		fail     int
		pulled   int
		lines    []string
		reported []error
		err      error
	}{
		{99, 6, []string{"{\"a\" :1}\n", long + "\n", "{\"b\":2}\n"}, bad, nil},
		{0, 2, nil, bad[:1], io.ErrShortWrite},
		{1, 4, []string{"{\"a\" :1}\n"}, bad[:2], io.ErrShortWrite},
		{2, 5, []string{"{\"a\" :1}\n", long + "\n"}, bad[:2], io.ErrShortWrite},
	} {
		pulled = 0
		w := writes{fail: tt.fail}
		var reported []error
		err := jsonl.Write(&w, seq, func(err error) { reported = append(reported, err) })
		if !errors.Is(err, tt.err) {
			t.Errorf("Write that fails after %d = %v; want %v", tt.fail, err, tt.err)
		}
		if !slices.Equal(w.got, tt.lines) {
			t.Errorf("Write that fails after %d: writes %.200q; want %.200q", tt.fail, w.got, tt.lines)
		}
		if !slices.Equal(reported, tt.reported) {
			t.Errorf("Write that fails after %d: reports %v; want %v", tt.fail, reported, tt.reported)
		}
		if pulled != tt.pulled {
			t.Errorf("Write that fails after %d: pulls %d; want %d", tt.fail, pulled, tt.pulled)
		}
	}
}

func TestWriteThenRead(t *testing.T) {
	want := []result{{1, `{}`}, {2, "{\"a\":\"\xff\u2028\"}"}, {3, sized(jsonl.MaxLine)}, {4, nested(jsonl.MaxDepth)}}
	var seq []jsonl.Record
	for _, r := range want {
		seq = append(seq, parse(t, r.text))
	}
	var b bytes.Buffer
	if err := jsonl.Write(&b, jsonl.From(seq...), func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	if got := results(t, &b); !slices.Equal(got, want) {
		t.Errorf("Read after Write = %.200q; want %.200q", fmt.Sprint(got), fmt.Sprint(want))
	}
}

// unprintable reports whether s could steer a terminal.
func unprintable(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
