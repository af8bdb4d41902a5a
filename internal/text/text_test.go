package text_test

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
	"github.com/killport/killport/pkg/process"
)

func TestSafe(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"plain", "node server.js --port=8000", "node server.js --port=8000"},
		{"letters of other scripts", "Zürich 東京 🦊", "Zürich 東京 🦊"},
		{"ESC", "\x1b[2J\x1b[31mred", `\x1b[2J\x1b[31mred`},
		{"OSC and BEL", "\x1b]0;title\a", `\x1b]0;title\a`},
		{"C1", "\u009b31m\u0085", `\u009b31m\u0085`},
		{"a lone byte of C1", "a\x9bb", "a\ufffdb"},
		{"bidi", "\u202egpj.exe\u2066\u200f", `\u202egpj.exe\u2066\u200f`},
		{"newlines", "a\nb\r\nc\u2028d\vx", `a\nb\r\nc\u2028d\vx`},
		{"tab, DEL, NUL", "\t\x7f\x00", `\t\x7f\x00`},
		{"blanks that are none", "a\u00a0b\u200bc\ufeff", `a\u00a0b\u200bc\ufeff`},
		{"a tag beyond the BMP", "\U000e0041", `\U000e0041`},
		{"not UTF-8", "\xff\xc3", "\ufffd\ufffd"},
		{"200 characters", strings.Repeat("é", 200), strings.Repeat("é", 200)},
		{"201 characters", strings.Repeat("é", 201), strings.Repeat("é", 200) + "…"},
		{"4 MiB", strings.Repeat("x", 4<<20), strings.Repeat("x", 200) + "…"},
	} {
		if got := text.Safe(tt.in); got != tt.want {
			t.Errorf("%s: Safe = %q; want %q", tt.name, got, tt.want)
		}
	}
}

// Whatever is in them, what Safe gives has no control character, and ends.
func FuzzSafe(f *testing.F) {
	f.Add("node")
	f.Add("\x1b]0;title\a\u009b\u202e\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := text.Safe(s)
		if i := strings.IndexFunc(got, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 || !utf8.ValidString(got) {
			t.Errorf("Safe(%q) = %q", s, got)
		}
		if n := utf8.RuneCountInString(got); n > 200*len(`\U000e0041`)+1 {
			t.Errorf("Safe(%q) has %d characters", s, n)
		}
	})
}

// A row is what the first three stages put out together.
type row struct {
	listeners.Listener
	Check pidcheck.Result `json:"pidcheck"`
	Done  pkill2.Result   `json:"pkill2"`
}

var renderers = []struct {
	name string
	of   any // an example of its record
	say  func(jsonl.Record) string
}{
	{"Listener", row{}, text.Listener},
	{"Checked", row{}, text.Checked},
	{"Ended", row{}, text.Ended},
	{"Status", classify.Result{}, text.Status},
	{"Report", portdiag.Report{}, text.Report},
}

const hostile = "\x1b[2J\x1b]0;x\a\n\r\u009b\u202e\x7f\u2028"

// A record may come from anywhere, and so may each string in it.
func TestNothingMovesTheCursor(t *testing.T) {
	for _, tt := range renderers {
		for _, evil := range []string{hostile, strings.Repeat(hostile, 30)} {
			said := tt.say(record(t, fill(tt.of, evil)))
			if !strings.HasSuffix(said, "\n") {
				t.Errorf("%s = %q; want it to end its line", tt.name, said)
			}
			for line := range strings.Lines(said) {
				line = strings.TrimSuffix(line, "\n")
				if i := strings.IndexFunc(line, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
					t.Errorf("%s: line %q", tt.name, line)
					break
				}
				if n := utf8.RuneCountInString(line); n > 10000 {
					t.Errorf("%s: a line of %d characters", tt.name, n)
				}
			}
		}
	}
}

// fill sets everything in a value: strings to s, numbers to 1, lists to two.
func fill(v any, s string) any {
	to := reflect.New(reflect.TypeOf(v)).Elem()
	fillValue(to, s)
	return to.Interface()
}

func fillValue(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem(), s)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fillValue(v.Index(i), s)
		}
	case reflect.Struct:
		if _, ok := v.Interface().(time.Time); ok {
			return
		}
		for _, field := range v.Fields() {
			if field.CanSet() { // no record has the others
				fillValue(field, s)
			}
		}
	}
}

func record(t *testing.T, v any) jsonl.Record {
	t.Helper()
	r, err := jsonl.New(v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The texts, as people see them.
func TestTexts(t *testing.T) {
	const (
		at     = `"proto":"TCP","local_addr":"127.0.0.1","local_port":8000,"socket":{"inode":1},"user":"ann","uid":1000`
		held   = at + `,"pid":4242`
		check  = held + `,"pidcheck":{"exists":true,"state":"alive","name":"node","argv":["node","server.js"]}`
		status = `"port":8000,"failed":[],"ghost":[],"killed":[],"remaining_pids":[]`
	)
	for _, tt := range []struct {
		say      func(jsonl.Record) string
		in, want string
	}{
		{text.Listener, held, "TCP  127.0.0.1:8000         4242 ann\n"},
		{text.Listener, at + `,"pid":0,"owner":"hidden"`, "TCP  127.0.0.1:8000         hidden, of ann\n"},
		{text.Listener, strings.Replace(at, `"user":"ann"`, `"user":""`, 1) + `,"pid":0,"owner":"hidden"`, "TCP  127.0.0.1:8000         hidden, of uid 1000\n"},
		{text.Listener, at + `,"pid":0,"owner":"none"`, "TCP  127.0.0.1:8000         nobody: a ghost\n"},
		{text.Checked, check, "TCP  127.0.0.1:8000         4242 node alive  node server.js\n"},
		{text.Ended, check + `,"pkill2":{"outcome":"would_terminate","signals":["SIGTERM"]}`, "TCP  127.0.0.1:8000         4242 node would terminate by SIGTERM\n"},
		{
			text.Ended, check + `,"pkill2":{"outcome":"killed","signals":["SIGTERM","SIGKILL"],"took_ms":3004}`,
			"TCP  127.0.0.1:8000         4242 node killed by SIGTERM, SIGKILL in 3004 ms\n",
		},
		{
			text.Ended, check + `,"pkill2":{"outcome":"protected","reason":"ancestor","detail":"bash","hint":"--override ends it all the same"}`,
			"TCP  127.0.0.1:8000         4242 node protected: ancestor: bash\n  hint: --override ends it all the same\n",
		},
		{text.Status, `"port":8000,"status":"free"`, "TCP port 8000: free\n"},
		{text.Status, `"port":53,"proto":"UDP","status":"free"`, "UDP port 53: free\n"},
		{text.Status, status + `,"status":"cleaned","killed":[4242,4243],"took_ms":12`, "TCP port 8000: cleaned, ended PID 4242, PID 4243 in 12 ms\n"},
		{text.Status, status + `,"status":"cleaned","released":[4242]`, "TCP port 8000: cleaned, released by PID 4242\n"},
		{
			text.Ended, check + `,"pkill2":{"outcome":"terminated","signals":["SIGTERM"],"took_ms":3,"taken_by":[{"pid":7,"name":"no\u001bde"},{"pid":8}]}`,
			"TCP  127.0.0.1:8000         4242 node terminated by SIGTERM in 3 ms, its port is taken by no\\x1bde (PID 7) and 1 more\n",
		},
		{
			text.Ended, check + `,"pkill2":{"outcome":"gone","reason":"held","taken_by":[{"pid":0,"owner":"hidden"}]}`,
			"TCP  127.0.0.1:8000         4242 node gone: held, its port is taken by somebody unseen\n",
		},
		{
			text.Status, status + `,"status":"cleaned","killed":[4242,4243],"forced":[4243],"took_ms":3002`,
			"TCP port 8000: cleaned, ended PID 4242, PID 4243 in 3002 ms (by " + process.KillName() + ": PID 4243)\n",
		},
		{
			text.Status, status + `,"status":"stuck","killed":[4242],"remaining_pids":[7],"reason":"not_asked","detail":"python3 (PID 7)","hint":"who has it: portdiag 8000"`,
			"TCP port 8000: stuck, ended PID 4242, still held by PID 7, which was not asked about: python3 (PID 7)\n  hint: who has it: portdiag 8000\n",
		},
		{text.Status, `"port":8000,"addr":"[::1]","status":"free"`, "TCP [::1]:8000: free\n"},
		{
			text.Status, status + `,"status":"partial","failed":[4242],"stopped":["unit a.service"],"reason":"outlived","detail":"unit a.service","hint":"h"`,
			"TCP port 8000: partial, stopped unit a.service, not ended PID 4242 (outlived: unit a.service)\n  hint: h\n",
		},
		{
			text.Status, status + `,"status":"partial","failed":[0],"remaining_pids":[0],"reason":"hidden","hint":"run it as root"`,
			"TCP port 8000: partial, not ended somebody unseen, still held by somebody unseen (hidden)\n  hint: run it as root\n",
		},
		{
			text.Status, status + `,"status":"stuck","reason":"taken","diagnostics":{"findings":[{"cause":"listener","summary":"node listens","remedy":{"command":["killport","8000"]}}]}`,
			"TCP port 8000: stuck (taken)\n  listener: node listens\n    killport 8000\n",
		},
		{
			text.Status, status + `,"status":"stuck","reason":"taken","diagnostics":{"findings":[{"cause":"dnat","summary":"s","remedy":{"command":["iptables","--comment","old; reboot\n"]}}]}`,
			"TCP port 8000: stuck (taken)\n  dnat: s\n    iptables --comment " + text.Safe(shell.Join("old; reboot\n")) + "\n",
		},
		{
			text.Ended, check + `,"pkill2":{"outcome":"would_stop","stop":["systemctl","stop","a\\x2db; x.service"],"hint":"` + strings.Repeat("h", 300) + `"}`,
			"TCP  127.0.0.1:8000         4242 node would stop by systemctl stop " + shell.Join(`a\x2db; x.service`) + "\n  hint: " + strings.Repeat("h", 300) + "\n",
		},
		{
			text.Report, `"port":8000,"verdict":"free","findings":[{"cause":"dnat","summary":"s","remedy":{"command":["nft","` + strings.Repeat("x", 1000) + `"]}}]`,
			"TCP port 8000: free\n  dnat: s\n    (a command of 1004 characters: --json has it)\n",
		},
		{text.Report, `"port":8000,"verdict":"free"`, "TCP port 8000: free\n"},
		{text.Listener, held + `,"device":"eth0"`, "TCP  127.0.0.1:8000 on eth0  4242 ann\n"},
		{text.Listener, held + `,"state":"bound"`, "TCP  127.0.0.1:8000         4242 ann bound, and does not listen\n"},
		{text.Status, `"port":8000,"addr":"127.0.0.1","status":"free"`, "TCP 127.0.0.1:8000: free\n"},
		{text.Status, `"port":53,"proto":"UDP","addr":"[fe80::5%eth0]","status":"free"`, "UDP [fe80::5%eth0]:53: free\n"},
		{text.Status, `"port":8000,"status":"free","isolated":["net"]`, "TCP port 8000: free\n  this is a sandbox: the ports outside of it cannot be seen\n"},
		{
			text.Status, status + `,"status":"cleaned","killed":[4242],"isolated":["pid"]`,
			"TCP port 8000: cleaned, ended PID 4242\n  this is a sandbox: the processes outside of it cannot be seen\n",
		},
		{
			text.Status, status + `,"status":"stuck","reason":"in_use","detail":"1 connection has it","hint":"h","diagnostics":{"findings":[]}`,
			"TCP port 8000: stuck (in_use: 1 connection has it)\n  hint: h\n",
		},
		{
			text.Report, `"port":8000,"addr":"[::1]","verdict":"free","isolated":["pid","net"]`,
			"TCP [::1]:8000: free\n  this is a sandbox: the ports and processes outside of it cannot be seen\n",
		},
		{
			text.Report, `"port":8000,"verdict":"blocked","bind_error":"EADDRINUSE","unseen":["sock_diag: refused"]`,
			"TCP port 8000: blocked: bind says EADDRINUSE\n  could not look: sock_diag: refused\n",
		},
	} {
		r, err := jsonl.Parse([]byte("{" + tt.in + "}"))
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.say(r); got != tt.want {
			t.Errorf("text of {%s}:\n%s\nwant:\n%s", tt.in, got, tt.want)
		}
	}
}
