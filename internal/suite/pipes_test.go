//go:build linux

package suite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// rows are pipelines with a server in them, as people type them. SERVE is the
// server, which ends with its stdin, WAIT waits until it listens. What the tool
// says goes to the file out, and the file done is made after that.
var rows = []struct {
	name, script string
	needs        []string
	path, want   string // of a member of what the tool says
}{
	{"plain", `SERVE | sh -c 'WAIT; killport $P >out; : >done'`, nil, "reason", "pipeline"},
	{"override", `SERVE | sh -c 'WAIT; killport --override $P >out; : >done'`, nil, "reason", "pipeline"},
	{"timeout", `SERVE | timeout 60 sh -c 'WAIT; killport $P >out; : >done'`, nil, "reason", "pipeline"},
	{"timeout alone", `SERVE | { WAIT; timeout 60 killport $P >out; : >done; }`, nil, "reason", "pipeline"},
	{"setsid", `SERVE | { setsid -w sh -c 'WAIT; exec killport $P >out'; : >done; }`, nil, "reason", "pipeline"},
	{"env", `SERVE | { env -i PATH="$PATH" P="$P" sh -c 'WAIT; exec setsid -w killport $P >out'; : >done; }`, nil, "reason", "pipeline"},
	{"a terminal between", `SERVE | script -qec "sh -c 'WAIT; killport $P >out; : >done'" /dev/null`, []string{"script"}, "reason", "pipeline"}, // as sudo has it
	{"fifo", `mkfifo f; exec 3<&0; SERVE <&3 >f & sh -c 'WAIT; exec killport $P >out' <f; : >done; wait`, nil, "reason", "pipeline"},
	{"stderr", `SERVE 2>&1 >/dev/null | sh -c 'WAIT; killport $P >out; : >done'`, nil, "reason", "pipeline"},
	{"others between", `SERVE | setsid -w cat | { WAIT; timeout 60 killport $P >out; : >done; }`, nil, "reason", "pipeline"},
	{"behind", `{ WAIT; timeout 60 killport $P; } | setsid -w zoo run-holding 127.0.0.1:$P -- cat >out; : >done`, nil, "reason", "pipeline"},
	{"listeners in the pipe", `SERVE | sh -c 'WAIT; exec listeners $P' | { cat >listed; cat listed; } | { pidcheck >out; : >done; }`, nil, "protected", "pipeline"},
	{"pidcheck behind listeners", `SERVE | sh -c 'WAIT; exec listeners $P' | { cat >listed; cat listed; } | { pidcheck >out; : >done; }`, nil, "pidcheck.protected", "pipeline"},
	{"pkill2 behind them", `SERVE | sh -c 'WAIT; exec listeners $P' | { cat >listed; cat listed; } | pidcheck | { pkill2 --override >out; : >done; }`, nil, "pkill2.reason", "pipeline"},
	{"the same log", `{ SERVE <&3 & WAIT; killport $P | tee out; : >done; } 3<&0 | cat; wait`, nil, "status", "cleaned"},
	{"the same log by FIFO", `mkfifo f; { cat f >log & } ; { SERVE <&3 & WAIT; killport $P; } 3<&0 >f; tail -n1 log >out; : >done; wait`, nil, "status", "cleaned"},
	{"the same input", `cat | { zoo serve --life=1m 127.0.0.1:$P <&0 & WAIT; killport $P >out; : >done; }`, nil, "status", "cleaned"},
}

// TestRows: who stands before or behind us in a pipe is left alone, whatever
// process group or session it is in; who only shares our pipe is not.
func TestRows(t *testing.T) {
	require(t, "private", "bash")
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require(t, tt.needs...)
			dir, port := t.TempDir(), freshPorts(1)
			script := strings.NewReplacer(
				"SERVE", "zoo serve --leash --life=1m 127.0.0.1:$P", "WAIT", `until listeners $P | grep -q .; do sleep 0.01; done`,
			).Replace(tt.script)
			r, leash, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd := tool(t.Context(), "", "env", fmt.Sprintf("P=%d", port), "bash", "-c", script)
			cmd.Dir, cmd.Stdin = dir, r
			s := begin(t, cmd)
			done := func() bool { _, err := os.Stat(filepath.Join(dir, "done")); return err == nil }
			if !eventually(patience, done) {
				t.Error("it does not end")
			}
			alive := len(listening(t, port)) > 0
			leash.Close()
			s.finish(t, 0)
			out, err := os.ReadFile(filepath.Join(dir, "out"))
			if got := gjson.GetBytes(out, tt.path).Str; got != tt.want || err != nil {
				t.Errorf("%s is %q, want %q: %s%s", tt.path, got, tt.want, out, s.stderr.String())
			}
			if err := fitsSchema(string(out)); err != nil {
				t.Error(err)
			}
			if spared := tt.want == "pipeline"; alive != spared && !strings.Contains(tt.script, "run-holding") {
				t.Errorf("the server lives: %v, want %v", alive, spared)
			}
		})
	}
}
