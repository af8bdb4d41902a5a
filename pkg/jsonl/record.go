package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Bounds on what one line may hold; beyond them it is an error.
const (
	MaxLine  = 1 << 20 // bytes, without the line's end
	MaxDepth = 256     // objects and arrays within one another

	MaxObjects = 1 << 10 // in an array that is read by Objects
)

// ErrMissing says that a record lacks a member that was asked for.
var ErrMissing = errors.New("is missing")

// Record is one JSON object on one line. It is validated once, immutable, and
// never re-encoded: members that nobody asks for pass through byte for byte.
// The zero Record stands for no record.
//
// Its accessors are strict, since processes live or die by what they return: a
// number is written in digits only, a member is there once, and one whose name
// differs in case alone does not pass for it. (gjson alone reads true as 1 and
// a missing number as 0; encoding/json takes "PID" for "pid" and the last of
// two.)
type Record struct {
	raw  string
	line int
	path string // of a nested object: "pidcheck."
}

// Parse takes one line, without its end, as a record.
func Parse(line []byte) (Record, error) { return parseAt(line, 0) }

func parseAt(line []byte, n int) (Record, error) {
	r := Record{line: n}
	trimmed := bytes.Trim(line, " \t")
	switch {
	case len(line) > MaxLine:
		return Record{}, r.Errorf("line is longer than %d bytes", MaxLine)
	case len(trimmed) == 0 || trimmed[0] != '{':
		return Record{}, r.Errorf("not a JSON object: %q", clip(line))
	case bytes.ContainsAny(line, "\r\n"):
		return Record{}, r.Errorf("a record is one line: %q", clip(line))
	case depth(trimmed) > MaxDepth:
		return Record{}, r.Errorf("more than %d objects and arrays within one another", MaxDepth)
	case !gjson.ValidBytes(trimmed):
		return Record{}, r.Errorf("not valid JSON: %q", clip(line))
	}
	r.raw = string(trimmed)
	return r, nil
}

// New makes a record of a Go struct (or of a map), as encoding/json does.
func New(v any) (Record, error) {
	b, err := marshal(v)
	if err != nil {
		return Record{}, err
	}
	return Parse(b)
}

// String returns the record's line, without a line's end.
func (r Record) String() string { return r.raw }

// Line returns the number of the line that the record was read from, from 1
// on; 0 for a record made in this process.
func (r Record) Line() int { return r.line }

// IsZero reports whether r stands for no record.
func (r Record) IsZero() bool { return r.raw == "" }

// Errorf makes an error that names the record's line, if it has one.
func (r Record) Errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if r.line == 0 {
		return err
	}
	return &LineError{Line: r.line, Err: err}
}

// With returns r with one member more: key, with the JSON of v. A member of
// that name is replaced where it stands; everything else stays as it is, byte
// for byte.
func (r Record) With(key string, v any) (Record, error) {
	if r.IsZero() {
		return Record{}, fmt.Errorf("%q: no record to add it to", key)
	}
	value, err := marshal(v)
	if err != nil {
		return Record{}, r.Errorf("%s: %w", key, err)
	}
	if depth(value) >= MaxDepth {
		return Record{}, r.Errorf("more than %d objects and arrays within one another with %q", MaxDepth, key)
	}
	old, err := r.find(key)
	switch {
	case errors.Is(err, ErrMissing):
		r.raw = insert(r.raw, key, string(value))
	case err != nil:
		return Record{}, err
	default:
		r.raw = r.raw[:old.Index] + string(value) + r.raw[old.Index+len(old.Raw):]
	}
	if len(r.raw) > MaxLine {
		return Record{}, r.Errorf("line is longer than %d bytes with %q", MaxLine, key)
	}
	return r, nil
}

// Has reports whether r has a member named key, well-formed or not.
func (r Record) Has(key string) bool {
	_, err := r.find(key)
	return !errors.Is(err, ErrMissing)
}

// Uint returns the member key, a whole number from lo to hi, written in
// digits alone.
func (r Record) Uint(key string, lo, hi uint64) (uint64, error) {
	v, err := r.find(key)
	if err != nil {
		return 0, err
	}
	n, perr := strconv.ParseUint(v.Raw, 10, 64)
	if v.Type != gjson.Number || perr != nil || n < lo || n > hi {
		return 0, r.wrong(key, v, fmt.Sprintf("a whole number from %d to %d", lo, hi))
	}
	return n, nil
}

// Text returns the member key, a string.
func (r Record) Text(key string) (string, error) {
	v, err := r.find(key)
	if err != nil {
		return "", err
	}
	if v.Type != gjson.String {
		return "", r.wrong(key, v, "a string")
	}
	return v.String(), nil
}

// OptionalText is Text, where an absent member is "".
func (r Record) OptionalText(key string) (string, error) {
	s, err := r.Text(key)
	if errors.Is(err, ErrMissing) {
		return "", nil
	}
	return s, err
}

// OptionalTexts returns the member key, an array of strings, where an absent
// member is nil.
func (r Record) OptionalTexts(key string) ([]string, error) {
	v, err := r.find(key)
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !v.IsArray() {
		return nil, r.wrong(key, v, "an array of strings")
	}
	var all []string
	for i, item := range v.Array() {
		if item.Type != gjson.String {
			return nil, r.wrong(fmt.Sprintf("%s[%d]", key, i), item, "a string")
		}
		all = append(all, item.String())
	}
	return all, nil
}

// Object returns the member key, an object, as a record of its own whose
// errors name the line and the member.
func (r Record) Object(key string) (Record, error) {
	v, err := r.find(key)
	if err != nil {
		return Record{}, err
	}
	if !v.IsObject() {
		return Record{}, r.wrong(key, v, "an object")
	}
	return Record{raw: v.Raw, line: r.line, path: r.path + key + "."}, nil
}

// Objects returns the member key, an array of objects, each as a record of its
// own as Object gives it.
func (r Record) Objects(key string) ([]Record, error) {
	v, err := r.find(key)
	if err != nil {
		return nil, err
	}
	if !v.IsArray() {
		return nil, r.wrong(key, v, "an array of objects")
	}
	var all []Record
	v.ForEach(func(_, item gjson.Result) bool { // its Array would have all of them at once
		switch name := fmt.Sprintf("%s[%d]", key, len(all)); {
		case len(all) >= MaxObjects:
			err = r.Errorf("member %q has more than %d objects", r.path+key, MaxObjects)
		case !item.IsObject():
			err = r.wrong(name, item, "an object")
		default:
			all = append(all, Record{raw: item.Raw, line: r.line, path: r.path + name + "."})
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Decode is for what is shown to people, not acted on: it reads the whole
// record into a Go struct as encoding/json does.
func (r Record) Decode(v any) error {
	if err := json.Unmarshal([]byte(r.raw), v); err != nil {
		return r.Errorf("%w", err)
	}
	return nil
}

// find returns the one member named key.
func (r Record) find(key string) (gjson.Result, error) {
	var found gjson.Result
	var err error
	gjson.Parse(r.raw).ForEach(func(k, v gjson.Result) bool {
		switch name := k.String(); {
		case name == key && found.Exists():
			err = r.Errorf("member %q is there twice", r.path+key)
		case name == key:
			found = v
		case strings.EqualFold(name, key):
			err = r.Errorf("member %q is spelled %q", r.path+key, r.path+name)
		}
		return err == nil
	})
	if err == nil && !found.Exists() {
		err = r.Errorf("member %q %w", r.path+key, ErrMissing)
	}
	return found, err
}

func (r Record) wrong(key string, v gjson.Result, want string) error {
	return r.Errorf("member %q is %s, want %s", r.path+key, escape(clip([]byte(v.Raw))), want)
}

// insert appends a member to the object raw.
func insert(raw, key, value string) string {
	body := strings.TrimRight(strings.TrimSuffix(raw, "}"), " \t")
	comma := ","
	if body == "{" {
		comma = ""
	}
	return body + comma + string(quote(key)) + ":" + value + "}"
}

func quote(s string) []byte {
	b, _ := marshal(s) // a string always has a JSON form
	return b
}

// marshal is encoding/json on one line, with every character that could move a
// cursor, ring a bell or turn text around as a \u escape. encoding/json leaves
// DEL, C1 controls and format characters (bidi among them) as they are, and
// bytes that are not UTF-8 in a json.RawMessage.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return escape(bytes.TrimSuffix(buf.Bytes(), []byte("\n"))), nil
}

func escape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		c, size := utf8.DecodeRune(b)
		switch {
		case c == utf8.RuneError && size == 1:
			out = append(out, `\ufffd`...)
		case unicode.IsPrint(c):
			out = append(out, b[:size]...)
		case c > 0xffff:
			hi, lo := utf16.EncodeRune(c)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, c)
		}
		b = b[size:]
	}
	return out
}

// depth returns how deep the objects and arrays of b stand within one another.
// It is asked before gjson, which recurses, looks at b.
func depth(b []byte) int {
	deepest, now, text := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// clip shortens what an error quotes.
func clip(b []byte) []byte {
	const most = 60
	if len(b) <= most {
		return b
	}
	return append(bytes.Clone(b[:most]), "…"...)
}
