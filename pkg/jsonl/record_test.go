package jsonl_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/pkg/jsonl"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"an object", `{"pid":12}`, `{"pid":12}`},
		{"no members", `{}`, `{}`},
		{"blanks around", " \t{\"pid\":12} \t", `{"pid":12}`},
		{"blanks within", `{ "pid" : 12 }`, `{ "pid" : 12 }`},
		{"the same member twice", `{"a":1,"a":2}`, `{"a":1,"a":2}`},
		{"escapes", `{"p\u0069d":"\ud83d\ude00\n"}`, `{"p\u0069d":"\ud83d\ude00\n"}`},
		{"half a surrogate pair", `{"a":"\ud83d"}`, `{"a":"\ud83d"}`},
		{"invalid UTF-8 in text", "{\"a\":\"\xff\xc3(\"}", "{\"a\":\"\xff\xc3(\"}"},
		{"DEL, C1 and bidi in text", "{\"a\":\"\x7f\u009b\u202e\"}", "{\"a\":\"\x7f\u009b\u202e\"}"},
		{"numbers of any size", `{"a":-1.5e400,"b":18446744073709551616}`, `{"a":-1.5e400,"b":18446744073709551616}`},
		{"as deep as allowed", nested(jsonl.MaxDepth), nested(jsonl.MaxDepth)},
		{"brackets in text are no depth", `{"a":"` + strings.Repeat(`[{\"`, 1000) + `"}`, `{"a":"` + strings.Repeat(`[{\"`, 1000) + `"}`},
		{"siblings are no depth", `{"a":[` + strings.Repeat(`[],`, 1000) + `{}]}`, `{"a":[` + strings.Repeat(`[],`, 1000) + `{}]}`},
		{"as long as allowed", sized(jsonl.MaxLine), sized(jsonl.MaxLine)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := jsonl.Parse([]byte(tt.line))
			if got := r.String(); err != nil || got != tt.want {
				t.Errorf("Parse(%q) = %q, %v; want %q", clip(tt.line), clip(got), err, clip(tt.want))
			}
			if r.IsZero() || r.Line() != 0 {
				t.Errorf("Parse(%q): IsZero() = %v, Line() = %v; want false, 0", clip(tt.line), r.IsZero(), r.Line())
			}
		})
	}
}

// malformed holds the lines that are no records.
var malformed = []struct{ name, line, want string }{
	{"words", `hello`, "not a JSON object"},
	{"array", `[{"pid":12}]`, "not a JSON object"},
	{"string", `"pid"`, "not a JSON object"},
	{"null", `null`, "not a JSON object"},
	{"number", `12`, "not a JSON object"},
	{"boolean", `true`, "not a JSON object"},
	{"two values", `{"pid":12}{"pid":13}`, "not valid JSON"},
	{"two values with a blank", `{"pid":12} {"pid":13}`, "not valid JSON"},
	{"two values with a comma", `{"pid":12},{"pid":13}`, "not valid JSON"},
	{"a value and words", `{"pid":12} and more`, "not valid JSON"},
	{"cut within a number", `{"pid":12`, "not valid JSON"},
	{"cut within text", `{"pid":12,"name":"no`, "not valid JSON"},
	{"cut after an escape", `{"name":"\`, "not valid JSON"},
	{"no quotes", `{pid:12}`, "not valid JSON"},
	{"single quotes", `{'pid':12}`, "not valid JSON"},
	{"comma at the end", `{"pid":12,}`, "not valid JSON"},
	{"comment", `{"pid":12} // node`, "not valid JSON"},
	{"not a number", `{"pid":NaN}`, "not valid JSON"},
	{"leading zero", `{"pid":012}`, "not valid JSON"},
	{"plus", `{"pid":+12}`, "not valid JSON"},
	{"hexadecimal", `{"pid":0x1f}`, "not valid JSON"},
	{"underscore", `{"pid":1_2}`, "not valid JSON"},
	{"closed wrongly", `{"pid":[12}]`, "not valid JSON"},
	{"unknown escape", `{"a":"\x41"}`, "not valid JSON"},
	{"raw NUL", "{\"a\":\"\x00\"}", "not valid JSON"},
	{"raw ESC", "{\"a\":\"\x1b[2J\"}", "not valid JSON"},
	{"raw tab in text", "{\"a\":\"\t\"}", "not valid JSON"},
	{"raw control between members", "{\"a\":1,\x07\"b\":2}", "not valid JSON"},
	{"raw carriage return", "{\"a\":1}\r{\"pid\":12}", "one line"},
	{"vertical tab alone", "\v", "not a JSON object"},
	{"no-break space alone", "\u00a0", "not a JSON object"},
	{"byte order mark twice", "\ufeff\ufeff{}", "not a JSON object"},
	{"UTF-16", "{\x00\"\x00a\x00\"\x00:\x001\x00}\x00", "not valid JSON"},
	{"one too deep", nested(jsonl.MaxDepth + 1), "within one another"},
	{"a million deep", `{"a":` + strings.Repeat("[", 1e6), "within one another"},
	{"half a million deep and out again", `{"a":` + strings.Repeat("[", 5e5) + strings.Repeat("]", 5e5) + "}", "within one another"},
	{"a million objects deep", strings.Repeat(`{"a":`, 1e6), "longer than"},
	{"one byte too long", sized(jsonl.MaxLine + 1), "longer than"},
	{"too long by blanks", `{"pid":12}` + strings.Repeat(" ", jsonl.MaxLine), "longer than"},
}

func TestParseMalformed(t *testing.T) {
	for _, tt := range append(malformed, []struct{ name, line, want string }{
		{"nothing", "", "not a JSON object"},
		{"blanks", " \t", "not a JSON object"},
		{"the line's end", "{\"a\":1}\n", "one line"},
		{"a newline within", "{\n}", "one line"},
		{"CRLF", "{}\r\n", "one line"},
	}...) {
		t.Run(tt.name, func(t *testing.T) {
			r, err := jsonl.Parse([]byte(tt.line))
			if !r.IsZero() || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%q) = %q, %v; want an error with %q", clip(tt.line), clip(r.String()), err, tt.want)
			}
			if err != nil && (len(err.Error()) > 500 || unprintable(err.Error())) {
				t.Errorf("Parse(%q): error %q; want it short and printable", clip(tt.line), clip(err.Error()))
			}
		})
	}
}

// hostile holds the records that name no PID to act on, whatever their authors
// or another parser may think.
var hostile = []struct{ name, line, want string }{
	{"missing", `{"port":8000}`, `member "pid" is missing`},
	{"no members", `{}`, `member "pid" is missing`},
	{"missing here, there deeper", `{"a":{"pid":12},"b":["pid",12]}`, `member "pid" is missing`},
	{"null", `{"pid":null}`, `is null`},
	{"float", `{"pid":12.0}`, `is 12.0`},
	{"exponent", `{"pid":1e3}`, `is 1e3`},
	{"string", `{"pid":"12"}`, `is "12"`},
	{"true", `{"pid":true}`, `is true`},
	{"false", `{"pid":false}`, `is false`},
	{"array", `{"pid":[12]}`, `is [12]`},
	{"object", `{"pid":{"pid":12}}`, `is {"pid":12}`},
	{"minus one", `{"pid":-1}`, `is -1`},
	{"minus zero", `{"pid":-0}`, `is -0`},
	{"negative", `{"pid":-4242}`, `is -4242`},
	{"zero", `{"pid":0}`, `is 0`},
	{"init", `{"pid":1}`, `is 1`},
	{"too great by one", `{"pid":4194305}`, `is 4194305`},
	{"2^32+12", `{"pid":4294967308}`, `is 4294967308`},
	{"2^64+12", `{"pid":18446744073709551628}`, `is 18446744073709551628`},
	{"huge", `{"pid":` + strings.Repeat("9", 1e5) + `}`, `is 9999`},
	{"there twice", `{"pid":12,"pid":13}`, `there twice`},
	{"there twice, the same", `{"pid":12,"pid":12}`, `there twice`},
	{"there twice, by an escape", `{"pid":12,"p\u0069d":13}`, `there twice`},
	{"there twice, by an escape before", `{"\u0070\u0069\u0064":13,"a":0,"pid":12}`, `there twice`},
	{"there twice, one of them null", `{"pid":null,"pid":12}`, `there twice`},
	{"upper case", `{"PID":12}`, `spelled "PID"`},
	{"upper case too", `{"pid":12,"PID":13}`, `spelled "PID"`},
	{"upper case before", `{"Pid":13,"pid":12}`, `spelled "Pid"`},
	{"upper case by an escape", `{"pid":12,"\u0050id":13}`, `spelled "Pid"`},
	{"DEL, C1 and bidi", "{\"pid\":\"\x7f\u009b31m\u202e\x9b\"}", `is "\u007f\u009b31m\u202e\ufffd"`},
}

func TestUintHostile(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(t, tt.line).Uint("pid", 2, 1<<22)
			if got != 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Uint of %q = %v, %v; want 0 and an error with %q", clip(tt.line), got, err, tt.want)
			}
			if err != nil && (len(err.Error()) > 500 || unprintable(err.Error())) {
				t.Errorf("Uint of %q: error %q; want it short and printable", clip(tt.line), clip(err.Error()))
			}
		})
	}
}

func TestUint(t *testing.T) {
	for _, tt := range []struct {
		line   string
		lo, hi uint64
		want   uint64
	}{
		{`{"pid":2}`, 2, 1 << 22, 2},
		{`{"pid":4194304}`, 2, 1 << 22, 1 << 22},
		{`{"pid":0}`, 0, 0, 0},
		{`{"pid":18446744073709551615}`, 0, math.MaxUint64, math.MaxUint64},
		{`{ "pid" : 12 }`, 2, 1 << 22, 12},
		{`{"p\u0069d":12}`, 2, 1 << 22, 12},
		{`{"a":{"pid":13,"PID":14},"pid":12,"b":"\"pid\":15"}`, 2, 1 << 22, 12},
		{`{"ppid":13,"pid":12,"pid ":14,"pi":15,"":16}`, 2, 1 << 22, 12},
	} {
		if got, err := parse(t, tt.line).Uint("pid", tt.lo, tt.hi); err != nil || got != tt.want {
			t.Errorf("Uint(%d, %d) of %q = %v, %v; want %v", tt.lo, tt.hi, tt.line, got, err, tt.want)
		}
	}
}

func TestUintOfZeroRecord(t *testing.T) {
	var r jsonl.Record
	if got, err := r.Uint("pid", 0, 1<<22); got != 0 || !errors.Is(err, jsonl.ErrMissing) {
		t.Errorf("Uint of the zero Record = %v, %v; want 0, %v", got, err, jsonl.ErrMissing)
	}
}

func TestText(t *testing.T) {
	for _, tt := range []struct{ line, want, err string }{
		{`{"name":"node"}`, "node", ""},
		{`{"name":""}`, "", ""},
		{`{"name":"\u0041\ud83d\ude00\t\/\\\"\u0000"}`, "A😀\t/\\\"\x00", ""},
		{`{"n\u0061me":"node"}`, "node", ""},
		{`{}`, "", "is missing"},
		{`{"name":null}`, "", "is null"},
		{`{"name":12}`, "", "is 12"},
		{`{"name":["node"]}`, "", `is ["node"]`},
		{`{"name":"a","name":"a"}`, "", "there twice"},
		{`{"Name":"node"}`, "", `spelled "Name"`},
	} {
		got, err := parse(t, tt.line).Text("name")
		if got != tt.want || !says(err, tt.err) {
			t.Errorf("Text of %q = %q, %v; want %q, %q", tt.line, got, err, tt.want, tt.err)
		}
		want := tt.err
		if want == "is missing" {
			want = ""
		}
		got, err = parse(t, tt.line).OptionalText("name")
		if got != tt.want || !says(err, want) {
			t.Errorf("OptionalText of %q = %q, %v; want %q, %q", tt.line, got, err, tt.want, want)
		}
	}
}

func TestOptionalTexts(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
		err  string
	}{
		{`{"names":["a","b"]}`, []string{"a", "b"}, ""},
		{`{"names":[]}`, nil, ""},
		{`{}`, nil, ""},
		{`{"names":null}`, nil, "is null"},
		{`{"names":"a"}`, nil, `is "a"`},
		{`{"names":["a",1]}`, nil, `"names[1]" is 1`},
		{`{"names":[],"names":[]}`, nil, "there twice"},
	} {
		got, err := parse(t, tt.line).OptionalTexts("names")
		if !slices.Equal(got, tt.want) || !says(err, tt.err) {
			t.Errorf("OptionalTexts of %q = %q, %v; want %q, %q", tt.line, got, err, tt.want, tt.err)
		}
	}
}

func TestHas(t *testing.T) {
	for _, tt := range []struct {
		line string
		want bool
	}{
		{`{"pid":12}`, true},
		{`{"pid":null}`, true},
		{`{"p\u0069d":12}`, true},
		{`{"pid":12,"pid":13}`, true},
		{`{"PID":12}`, true},
		{`{}`, false},
		{`{"a":{"pid":12}}`, false},
	} {
		if got := parse(t, tt.line).Has("pid"); got != tt.want {
			t.Errorf("Has of %q = %v; want %v", tt.line, got, tt.want)
		}
	}
}

func TestObject(t *testing.T) {
	r := read(t, "\n\n"+`{"pidcheck":{ "state":"alive","ppid":7,"x":{"y":1} },"a":[{}],"b":null}`)
	o, err := r.Object("pidcheck")
	if err != nil || o.String() != `{ "state":"alive","ppid":7,"x":{"y":1} }` || o.Line() != 3 {
		t.Fatalf("Object(%q) = %q, %v, of line %d; want its bytes, of line 3", "pidcheck", o, err, o.Line())
	}
	if got, err := o.Uint("ppid", 0, 10); err != nil || got != 7 {
		t.Errorf("Uint(%q) = %v, %v; want 7", "ppid", got, err)
	}
	if got, err := o.Text("name"); !says(err, `line 3: member "pidcheck.name" is missing`) {
		t.Errorf("Text(%q) = %q, %v; want the line and the member named", "name", got, err)
	}
	if x, err := o.Object("x"); err != nil {
		t.Errorf("Object(%q) = %v; want it", "x", err)
	} else if _, err := x.Text("y"); !says(err, `line 3: member "pidcheck.x.y" is 1, want a string`) {
		t.Errorf("Text(%q) = %v; want the line and the member named", "y", err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if got, err := r.Object(key); err == nil || !got.IsZero() {
			t.Errorf("Object(%q) = %q, %v; want an error", key, got, err)
		}
	}
}

func TestDecode(t *testing.T) {
	r := read(t, `{"name":"node","argv":["node","a.js"]}`)
	var v struct{ Argv []string }
	if err := r.Decode(&v); err != nil || len(v.Argv) != 2 {
		t.Errorf("Decode = %v, %v; want two arguments", v, err)
	}
	var wrong struct{ Argv string }
	if err := r.Decode(&wrong); !says(err, "line 1: ") {
		t.Errorf("Decode = %v; want an error with the line", err)
	}
}

func TestNew(t *testing.T) {
	type socket struct {
		Inode  uint64 `json:"inode"`
		Cookie string `json:"cookie,omitempty"`
	}
	for _, tt := range []struct {
		v    any
		want string
	}{
		{socket{Inode: math.MaxUint64}, `{"inode":18446744073709551615}`},
		{&socket{12, "<&>"}, `{"inode":12,"cookie":"<&>"}`},
		{map[string]any{"b": 1, "a": "\x1b"}, `{"a":"\u001b","b":1}`},
		{struct{}{}, `{}`},
		{json.RawMessage("{ \"a\":\n1 }"), `{"a":1}`},
	} {
		if got, err := jsonl.New(tt.v); err != nil || got.String() != tt.want || got.Line() != 0 {
			t.Errorf("New(%#v) = %q, %v; want %q", tt.v, got, err, tt.want)
		}
	}
	for _, v := range []any{nil, 12, "a", []int{1}, math.NaN(), func() {}, json.RawMessage("{"), strings.Repeat("a", jsonl.MaxLine)} {
		if got, err := jsonl.New(v); err == nil || !got.IsZero() {
			t.Errorf("New(%T) = %q, %v; want an error", v, clip(got.String()), err)
		}
	}
}

func TestWith(t *testing.T) {
	type result struct {
		Outcome string `json:"outcome"`
	}
	for _, tt := range []struct {
		name, line, key string
		v               any
		want            string
	}{
		{"to no members", `{}`, "a", 1, `{"a":1}`},
		{"to no members with blanks", "{ \t }", "a", 1, `{"a":1}`},
		{"to members", `{"pid":12}`, "pkill2", result{"gone"}, `{"pid":12,"pkill2":{"outcome":"gone"}}`},
		{"blanks at the end", "{ \"pid\" : 12 \t }  ", "a", 1, `{ "pid" : 12,"a":1}`},
		{"a brace in text at the end", `{"b":"}"}`, "a", 1, `{"b":"}","a":1}`},
		{"an object at the end", `{"b":{}}`, "a", 1, `{"b":{},"a":1}`},
		{
			"bytes stay",
			"{\"n\":1.50e+1,\"\\u0062\":\"\\/\xff\u202e\",\"n\":[ 1 ,2],\"é\":\"\\u00e9\"}",
			"a", 1,
			"{\"n\":1.50e+1,\"\\u0062\":\"\\/\xff\u202e\",\"n\":[ 1 ,2],\"é\":\"\\u00e9\",\"a\":1}",
		},
		{"first replaced", `{"a": {"x":[1]} ,"b":2}`, "a", "new", `{"a": "new" ,"b":2}`},
		{"last replaced", `{"b":2, "a":"old\"}" }`, "a", 1, `{"b":2, "a":1 }`},
		{"null replaced", `{"b":2,"a":null,"c":3}`, "a", 1, `{"b":2,"a":1,"c":3}`},
		{"replaced by its escaped name", `{"\u0061":0}`, "a", 1, `{"\u0061":1}`},
		{"deeper ones stay", `{"b":{"a":0},"a":0}`, "a", 1, `{"b":{"a":0},"a":1}`},
		{"hostile key", `{}`, "\x1b\"\u202e\u009b", 1, `{"\u001b\"\u202e\u009b":1}`},
		{"empty key", `{"b":2}`, "", 1, `{"b":2,"":1}`},
		{"nil", `{}`, "a", nil, `{"a":null}`},
		{"raw JSON on several lines", `{}`, "a", json.RawMessage("[\n1,\r\n2 ]"), `{"a":[1,2]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(t, tt.line)
			before := r.String()
			got, err := r.With(tt.key, tt.v)
			if err != nil || got.String() != tt.want {
				t.Errorf("%q.With(%q, %v) = %q, %v; want %q", tt.line, tt.key, tt.v, got, err, tt.want)
			}
			if r.String() != before {
				t.Errorf("With changed its receiver to %q; want %q", r, before)
			}
			again, err := got.With(tt.key, tt.v)
			if err != nil || again.String() != tt.want {
				t.Errorf("%q.With(%q, %v) = %q, %v; want no change", got, tt.key, tt.v, again, err)
			}
		})
	}
}

// What other programs call themselves must not steer the terminal that shows it.
func TestWithHostileText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"NUL", "\x00", `\u0000`},
		{"BEL", "\a", `\u0007`},
		{"ESC", "\x1b[2J", `\u001b[2J`},
		{"OSC", "\x1b]0;x\a", `\u001b]0;x\u0007`},
		{"newline", "a\r\nb", `a\r\nb`},
		{"quotes", `") R 1\`, `\") R 1\\`},
		{"DEL", "\x7f", `\u007f`},
		{"CSI, a C1 control", "\u009b2J", `\u009b2J`},
		{"NEL", "\u0085", `\u0085`},
		{"no-break space", "\u00a0", `\u00a0`},
		{"soft hyphen", "\u00ad", `\u00ad`},
		{"bidi override", "\u202eexe", `\u202eexe`},
		{"bidi isolate", "\u2066", `\u2066`},
		{"right-to-left mark", "\u200f", `\u200f`},
		{"zero-width joiner", "\u200d", `\u200d`},
		{"line separator", "\u2028\u2029", `\u2028\u2029`},
		{"byte order mark", "\ufeff", `\ufeff`},
		{"private use", "\ue000", `\ue000`},
		{"tag", "\U000e0041", `\udb40\udc41`},
		{"bytes that are not UTF-8", "\xff\x9b", `\ufffd\ufffd`},
		{"HTML", "<a&b>", "<a&b>"},
		{"letters", "né 日本語", "né 日本語"},
		{"emoji", "😀❤️", "😀❤️"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parse(t, `{"b":1}`).With("a", tt.text)
			if want := `{"b":1,"a":"` + tt.want + `"}`; err != nil || r.String() != want {
				t.Errorf("With(%q) = %q, %v; want %q", tt.text, r, err, want)
			}
			if got, err := r.Text("a"); err != nil || got != strings.Join(strings.Split(tt.text, "\xff\x9b"), "\ufffd\ufffd") {
				t.Errorf("Text after With(%q) = %q, %v; want it back", tt.text, got, err)
			}
		})
	}
	raw, err := parse(t, `{}`).With("a", json.RawMessage("\"\x7f\u202e\x9b\""))
	if want := `{"a":"\u007f\u202e\ufffd"}`; err != nil || raw.String() != want {
		t.Errorf("With of raw JSON = %q, %v; want %q", raw, err, want)
	}
}

func TestWithRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		v          any
		want       string
	}{
		{"there twice", `{"a":1,"a":2}`, 1, "there twice"},
		{"there twice by an escape", `{"a":1,"\u0061":2}`, 1, "there twice"},
		{"spelled otherwise", `{"A":1}`, 1, `spelled "A"`},
		{"a value without JSON", `{}`, math.Inf(1), "a: json: "},
		{"raw JSON that is none", `{}`, json.RawMessage(`{"b":`), "a: "},
		{"longer than a line", `{"b":"` + strings.Repeat("b", jsonl.MaxLine/2) + `"}`, strings.Repeat("a", jsonl.MaxLine/2), "longer than"},
		{"too deep", `{}`, json.RawMessage(nested(jsonl.MaxDepth)), "within one another"},
		{"too deep where it replaces", `{"a":1}`, json.RawMessage(nested(jsonl.MaxDepth)), "within one another"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(t, tt.line).With("a", tt.v)
			if !got.IsZero() || !says(err, tt.want) || !says(err, "line 1: ") {
				t.Errorf("%q.With = %q, %v; want an error with the line and %q", clip(tt.line), clip(got.String()), err, tt.want)
			}
		})
	}
	if got, err := (jsonl.Record{}).With("a", 1); !got.IsZero() || err == nil {
		t.Errorf("With on the zero Record = %q, %v; want an error", got, err)
	}
	deep, err := parse(t, `{}`).With("a", json.RawMessage(nested(jsonl.MaxDepth-1)))
	if err != nil {
		t.Fatalf("With of a value of depth %d = %v; want it", jsonl.MaxDepth-1, err)
	}
	parse(t, deep.String())
}

func TestErrorf(t *testing.T) {
	cause := errors.New("cause")
	err := parse(t, `{}`).Errorf("x: %w", cause)
	if _, ok := errors.AsType[*jsonl.LineError](err); ok || err.Error() != "x: cause" || !errors.Is(err, cause) {
		t.Errorf("Errorf = %#v; want x: cause, of no line", err)
	}
	err = read(t, "\n\n{}").Errorf("x: %w", cause)
	line, ok := errors.AsType[*jsonl.LineError](err)
	if !ok || line.Line != 3 || err.Error() != "line 3: x: cause" || !errors.Is(err, cause) {
		t.Errorf("Errorf = %#v; want line 3: x: cause", err)
	}
}

// parse is Parse of what must be a record.
func parse(tb testing.TB, line string) jsonl.Record {
	tb.Helper()
	r, err := jsonl.Parse([]byte(line))
	if err != nil {
		tb.Fatalf("Parse(%q) = %v; want a record", clip(line), err)
	}
	return r
}

// read returns the one record of text.
func read(tb testing.TB, text string) jsonl.Record {
	tb.Helper()
	var found jsonl.Record
	for r, err := range jsonl.Read(strings.NewReader(text))(tb.Context()) {
		if err != nil || !found.IsZero() {
			tb.Fatalf("Read(%q) = %q, %v, …; want one record", clip(text), r, err)
		}
		found = r
	}
	return found
}

// nested is a record of n objects and arrays within one another.
func nested(n int) string {
	return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"
}

// sized is a record of n bytes.
func sized(n int) string {
	return `{"a":"` + strings.Repeat("x", n-len(`{"a":""}`)) + `"}`
}

// says reports whether err says want; "" is for no error.
func says(err error, want string) bool {
	if err == nil || want == "" {
		return err == nil && want == ""
	}
	return strings.Contains(err.Error(), want)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
