package listeners_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// record reads line as a pipe's third.
func record(t *testing.T, line string) jsonl.Record {
	t.Helper()
	for r, err := range jsonl.Read(strings.NewReader("\n\n" + line))(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Fatalf("%q holds no record", line)
	return jsonl.Record{}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line string
		want listeners.Listener
	}{
		{
			`{"pid":4242,"local_port":8000}`,
			listeners.Listener{Proto: listeners.TCP, PID: 4242, LocalPort: 8000},
		},
		{
			`{"local_port":65535,"pid":2,"proto":"UDP","mine":{"pid":-1},"pids":null}`,
			listeners.Listener{Proto: listeners.UDP, PID: 2, LocalPort: 65535},
		},
		{
			`{"pid":4242,"local_port":8000,"protected":"pipeline"}`,
			listeners.Listener{Proto: listeners.TCP, PID: 4242, LocalPort: 8000, Protected: process.ProtectedPipeline},
		},
		{
			`{"pid":0,"owner":"hidden","local_port":1}`,
			listeners.Listener{Proto: listeners.TCP, Owner: listeners.OwnerHidden, LocalPort: 1},
		},
		{
			`{"pid":0,"owner":"none","local_port":1,"socket":{"inode":18446744073709551615}}`,
			listeners.Listener{
				Proto: listeners.TCP, Owner: listeners.OwnerNone, LocalPort: 1,
				Socket: listeners.ID{Inode: 1<<64 - 1},
			},
		},
		{
			`{"proto":"TCP","local_addr":"[::1]","local_port":8000,"pid":4242,"birth":"b:1:2","fd":3,"uid":1000,"user":"ann","socket":{"inode":7,"cookie":"0x1","mine":1}}`,
			listeners.Listener{
				Proto: listeners.TCP, LocalAddr: "[::1]", LocalPort: 8000, PID: 4242, Birth: "b:1:2", FD: new(3),
				Socket: listeners.ID{Inode: 7, Cookie: "0x1"},
			},
		},
	} {
		got, err := listeners.Parse(record(t, tt.line))
		if err != nil {
			t.Errorf("Parse(%s): %v", tt.line, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Parse(%s) (-want +got):\n%s", tt.line, diff)
		}
	}
}

// Nothing that is not certain is acted on, and the error names the line.
func TestParseIsStrict(t *testing.T) {
	const good = `{"proto":"TCP","local_addr":"127.0.0.1","local_port":8000,"pid":4242,"birth":"b:1:2","fd":3,"socket":{"inode":7,"cookie":"0x1"}}`
	if _, err := listeners.Parse(record(t, good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, new string }{
		{`"pid":4242,`, ``},
		{`"pid":4242`, `"pid":null`},
		{`"pid":4242`, `"pid":true`},
		{`"pid":4242`, `"pid":"4242"`},
		{`"pid":4242`, `"pid":[4242]`},
		{`"pid":4242`, `"pid":{"pid":4242}`},
		{`"pid":4242`, `"pid":4242.0`},
		{`"pid":4242`, `"pid":4.242e3`},
		{`"pid":4242`, `"pid":-1`},
		{`"pid":4242`, `"pid":-0`},
		{`"pid":4242`, `"pid":0`},
		{`"pid":4242`, `"pid":4294967297`},
		{`"pid":4242`, `"pid":18446744073709555858`},
		{`"pid":4242`, `"pid":` + strconv.Itoa(process.MaxPID+1)},
		{`"pid":4242`, `"PID":4242`},
		{`"pid":4242`, `"pid":4242,"PID":4243`},
		{`"pid":4242`, `"pid":4242,"pid":4242`},
		{`"pid":4242`, `"pid":4242,"p\u0069d":4243`},
		{`"pid":4242`, `"pid":4242,"owner":"none"`},
		{`"pid":4242`, `"pid":4242,"owner":"hidden"`},
		{`"pid":4242`, `"pid":0,"owner":"nobody"`},
		{`"pid":4242`, `"pid":4242,"protected":"ancestor"`},
		{`"pid":4242`, `"pid":4242,"protected":true`},
		{`"pid":4242`, `"pid":4242,"protected":null`},
		{`"pid":4242`, `"pid":4242,"Protected":"pipeline"`},
		{`"pid":4242`, `"pid":0,"owner":"none","protected":"pipeline"`},
		{`"pid":4242`, `"pid":0,"owner":null`},
		{`"pid":4242`, `"pid":0,"owner":0`},
		{`"local_port":8000,`, ``},
		{`"local_port":8000`, `"local_port":0`},
		{`"local_port":8000`, `"local_port":65536`},
		{`"local_port":8000`, `"local_port":"8000"`},
		{`"local_port":8000`, `"local_port":8000,"local_port":8001`},
		{`"TCP"`, `"tcp"`},
		{`"TCP"`, `"SCTP"`},
		{`"TCP"`, `null`},
		{`"127.0.0.1"`, `127`},
		{`"b:1:2"`, `null`},
		{`"b:1:2"`, `12`},
		{`"birth"`, `"birth":"b:1:3","birth"`},
		{`"birth"`, `"Birth"`},
		{`"fd":3`, `"fd":-1`},
		{`"fd":3`, `"fd":"3"`},
		{`"fd":3`, `"fd":2147483648`},
		{`{"inode":7,"cookie":"0x1"}`, `7`},
		{`{"inode":7,"cookie":"0x1"}`, `null`},
		{`{"inode":7,"cookie":"0x1"}`, `[]`},
		{`{"inode":7,"cookie":"0x1"}`, `{}`},
		{`"inode":7`, `"inode":"7"`},
		{`"inode":7`, `"inode":-7`},
		{`"inode":7`, `"inode":18446744073709551616`},
		{`"inode":7`, `"inode":7,"inode":8`},
		{`"inode":7`, `"Inode":7`},
		{`"0x1"`, `1`},
	} {
		if !strings.Contains(good, tt.old) {
			t.Fatalf("%s is not in the record", tt.old)
		}
		line := strings.Replace(good, tt.old, tt.new, 1)
		got, err := listeners.Parse(record(t, line))
		bad, ok := errors.AsType[*jsonl.LineError](err)
		if !ok || bad.Line != 3 {
			t.Errorf("Parse(%s) = %+v, %v; want an error of line 3", line, got, err)
		}
	}
}

// Whatever is accepted says its PID once, in digits, as another parser reads it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"pid":4242,"local_port":8000}`, `{"pid":0,"owner":"none","local_port":1}`, `{"local_port":8000,"pid":1e3}`,
		`{"pid":12,"PID":13,"local_port":1}`, `{"pid":12,"p\u0069d":13,"local_port":1}`, `{"pid":{"pid":12},"local_port":1}`,
		`{"a":{"pid":1},"pid":2,"local_port":3,"socket":{"inode":4,"cookie":""},"birth":"x","fd":0,"proto":"UDP"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := jsonl.Parse(line)
		if err != nil {
			return
		}
		l, err := listeners.Parse(r)
		if err != nil {
			return
		}
		if l.PID < 0 || l.PID > process.MaxPID || l.LocalPort == 0 || (l.PID == 0) != (l.Owner != "") {
			t.Fatalf("Parse(%q) = %+v", line, l)
		}
		var pids []string
		for _, m := range topLevel(t, r.String()) {
			if strings.EqualFold(m.name, "pid") {
				pids = append(pids, m.name+"="+m.value)
			}
		}
		if want := "pid=" + strconv.Itoa(l.PID); len(pids) != 1 || pids[0] != want {
			t.Fatalf("Parse(%q) reads PID %d of %q", line, l.PID, pids)
		}
	})
}

type member struct{ name, value string }

// topLevel reads the members of an object, twice named ones as well.
func topLevel(t *testing.T, object string) []member {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(object))
	var all []member
	for _, err := d.Token(); d.More(); {
		name, nameErr := d.Token()
		var value json.RawMessage
		if err = errors.Join(err, nameErr, d.Decode(&value)); err != nil {
			t.Fatalf("%q: %v", object, err)
		}
		all = append(all, member{name.(string), string(value)})
	}
	return all
}

func TestSame(t *testing.T) {
	for _, tt := range []struct {
		a, b listeners.ID
		want bool
	}{
		{listeners.ID{Inode: 7, Cookie: "0x1"}, listeners.ID{Inode: 7, Cookie: "0x1"}, true},
		{listeners.ID{Inode: 7, Cookie: "0x1"}, listeners.ID{Inode: 7, Cookie: "0x2"}, false}, // the inode was given again
		{listeners.ID{Inode: 7, Cookie: "0x1"}, listeners.ID{Inode: 7, Source: "proc_net"}, true},
		{listeners.ID{Inode: 7}, listeners.ID{Inode: 8}, false},
	} {
		if got := tt.a.Same(tt.b); got != tt.want {
			t.Errorf("%+v.Same(%+v) = %v; want %v", tt.a, tt.b, got, tt.want)
		}
		if got := tt.b.Same(tt.a); got != tt.want {
			t.Errorf("%+v.Same(%+v) = %v; want %v", tt.b, tt.a, got, tt.want)
		}
	}
}
