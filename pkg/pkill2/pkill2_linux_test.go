package pkill2_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pkill2"
)

// childEnv makes the test binary a server on ports of the kernel's choice: it
// prints them, and ends when its stdin does.
const childEnv = "PKILL2_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		child(mode)
	}
	os.Exit(m.Run())
}

func child(mode string) {
	switch {
	case strings.HasPrefix(mode, "drain "):
		drain(mode)
	case strings.HasPrefix(mode, "master"):
		master(mode)
	case strings.HasPrefix(mode, "worker"):
		work(mode)
	case mode == "bound":
		bind()
	}
	if strings.Contains(mode, "ignore") {
		signal.Ignore(syscall.SIGTERM)
	}
	if strings.Contains(mode, "deaf") {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	}
	ports, count := "", 1+strings.Count(mode, "two")
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		defer l.Close()
		ports += " " + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	fmt.Println(strings.TrimSpace(ports))
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// server is a child of this test.
type server struct {
	cmd   *exec.Cmd
	out   *bufio.Reader // what it says
	ports []uint16
	ended chan error
}

func start(t *testing.T, mode string) *server {
	t.Helper()
	return startAs(t, os.Args[0], mode)
}

// startAs starts a server whose program is that file.
func startAs(t *testing.T, program, mode string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(program), ended: make(chan error, 1)}
	s.cmd.Env = append(os.Environ(), childEnv+"="+mode)
	stdin, leash := pipe(t) // of our own, so that it outlives the server
	out, stdout := pipe(t)
	s.cmd.Stdin, s.cmd.Stdout, s.out = stdin, stdout, bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	t.Cleanup(func() { leash.Close() })
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(line) {
		port, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		s.ports = append(s.ports, uint16(port))
	}
	go func() { s.ended <- s.cmd.Wait() }()
	return s
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// records are those of listeners for the server's ports.
func (s *server) records(t *testing.T) []jsonl.Record {
	t.Helper()
	var queries []listeners.Query
	for _, port := range s.ports {
		queries = append(queries, listeners.Query{Proto: listeners.TCP, Port: port})
	}
	found, err := listeners.List(t.Context(), queries...)
	if err != nil {
		t.Fatal(err)
	}
	var out []jsonl.Record
	for _, l := range found {
		r, err := jsonl.New(l)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	if len(out) != len(s.ports) {
		t.Fatalf("listeners.List = %v; want one for each of %v", out, s.ports)
	}
	return out
}

// signalled returns the signal that ended the server.
func (s *server) signalled(t *testing.T) syscall.Signal {
	t.Helper()
	select {
	case <-s.ended:
		return s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
	case <-time.After(10 * time.Second):
		t.Fatal("the server has not ended")
		return 0
	}
}

func (s *server) lives() bool {
	select {
	case err := <-s.ended:
		s.ended <- err
		return false
	default:
		return true
	}
}

type result struct {
	pid     uint64
	outcome string
	reason  string
	signals string
}

// run gives what the stage makes of the records; errors of the sequence are
// returned beside.
func run(t *testing.T, ctx context.Context, opts pkill2.Options, in ...jsonl.Record) ([]result, []error) {
	t.Helper()
	var out []result
	var errs []error
	for r, err := range pkill2.Stage(opts)(ctx, jsonl.From(in...)) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pid, err := r.Uint("pid", 0, 1<<32)
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ Pkill2 pkill2.Result }
		if err := r.Decode(&v); err != nil {
			t.Fatal(err)
		}
		out = append(out, result{pid, string(v.Pkill2.Outcome), v.Pkill2.Reason, strings.Join(v.Pkill2.Signals, " ")})
	}
	return out, errs
}

// one is run for one record and no error.
func one(t *testing.T, opts pkill2.Options, in jsonl.Record) result {
	t.Helper()
	out, errs := run(t, t.Context(), opts, in)
	if len(out) != 1 || len(errs) > 0 {
		t.Fatalf("Stage(%v) = %v, %v; want one record", in, out, errs)
	}
	return out[0]
}

func TestTerminates(t *testing.T) {
	s := start(t, "plain")
	got := one(t, pkill2.Options{Grace: time.Minute}, s.records(t)[0])
	want := result{uint64(s.cmd.Process.Pid), "terminated", "", "SIGTERM"}
	if got != want {
		t.Errorf("Stage = %v; want %v", got, want)
	}
	if sig := s.signalled(t); sig != syscall.SIGTERM {
		t.Errorf("ended by %v; want SIGTERM", sig)
	}
}

func TestEscalates(t *testing.T) {
	s := start(t, "ignore")
	began := time.Now()
	got := one(t, pkill2.Options{Grace: 100 * time.Millisecond}, s.records(t)[0])
	if got.outcome != "killed" || got.signals != "SIGTERM SIGKILL" {
		t.Errorf("Stage = %v; want killed by SIGTERM and SIGKILL", got)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("Stage took %v; want all of the grace period", took)
	}
	if sig := s.signalled(t); sig != syscall.SIGKILL {
		t.Errorf("ended by %v; want SIGKILL", sig)
	}
}

func TestSignalKillIsAtOnce(t *testing.T) {
	s := start(t, "ignore")
	got := one(t, pkill2.Options{Grace: time.Hour, Signal: syscall.SIGKILL}, s.records(t)[0])
	if got.outcome != "killed" || got.signals != "SIGKILL" {
		t.Errorf("Stage = %v; want killed by SIGKILL alone", got)
	}
}

func TestOneProcessTwoPorts(t *testing.T) {
	s := start(t, "two")
	out, errs := run(t, t.Context(), pkill2.Options{Grace: time.Minute}, s.records(t)...)
	want := result{uint64(s.cmd.Process.Pid), "terminated", "", "SIGTERM"}
	if !slices.Equal(out, []result{want, want}) || len(errs) > 0 {
		t.Errorf("Stage = %v, %v; want twice %v", out, errs, want)
	}
}

func TestOneGracePeriodForAll(t *testing.T) {
	const grace = time.Second
	var in []jsonl.Record
	for range 3 {
		in = append(in, start(t, "ignore").records(t)...)
	}
	began := time.Now()
	out, errs := run(t, t.Context(), pkill2.Options{Grace: grace}, in...)
	if took := time.Since(began); took > 2*grace {
		t.Errorf("Stage took %v; want one grace period of %v for all", took, grace)
	}
	for _, got := range out {
		if got.outcome != "killed" {
			t.Errorf("Stage = %v, %v; want all killed", out, errs)
		}
	}
}

func TestDryRunSendsNothing(t *testing.T) {
	s := start(t, "plain")
	got := one(t, pkill2.Options{Grace: time.Minute, DryRun: true}, s.records(t)[0])
	if got.outcome != "would_terminate" || got.signals != "SIGTERM" {
		t.Errorf("Stage = %v; want would_terminate by SIGTERM", got)
	}
	if again := s.records(t); !s.lives() || len(again) != 1 {
		t.Error("the server has ended in a dry run")
	}
}

func TestInterrupted(t *testing.T) {
	s := start(t, "ignore")
	ctx, cancel := context.WithCancel(t.Context())
	in := s.records(t)
	waiting := func([]int, time.Duration) { cancel() } // within the grace period, whenever that is
	out, errs := run(t, ctx, pkill2.Options{Grace: time.Minute, Waiting: waiting}, in...)
	if len(out) != 1 || out[0].outcome != "interrupted" || out[0].signals != "SIGTERM" || len(errs) > 0 {
		t.Errorf("Stage = %v, %v; want interrupted after SIGTERM", out, errs)
	}
	if !s.lives() {
		t.Error("the server was ended by an interrupted run")
	}
}

// set is r with another value of a member.
func set(t *testing.T, r jsonl.Record, key string, v any) jsonl.Record {
	t.Helper()
	r, err := r.With(key, v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRefuses(t *testing.T) {
	s := start(t, "plain")
	real := s.records(t)[0]
	with := func(key string, v any) jsonl.Record { return set(t, real, key, v) }
	uncooked := func(r jsonl.Record) jsonl.Record { // as read from /proc/net, where sockets have no cookies
		var l listeners.Listener
		if err := r.Decode(&l); err != nil {
			t.Fatal(err)
		}
		return set(t, r, "socket", map[string]uint64{"inode": l.Socket.Inode})
	}
	elsewhere := "00000000-0000-0000-0000-000000000000:1:1"
	innocent := start(t, "plain")
	type refusal struct {
		name    string
		in      jsonl.Record
		outcome string
		reason  string
	}
	tests := []refusal{
		{"foreign birth", with("birth", elsewhere), "refused", "unverified"},
		{"no birth", with("birth", ""), "refused", "unverified"},
		{"no socket", with("socket", map[string]int{"inode": 0}), "refused", "unverified"},
		{"another socket", with("socket", map[string]int{"inode": 1}), "released", ""},
		{"another process", uncooked(with("pid", innocent.cmd.Process.Pid)), "reused", "held"},
		{"ourselves", uncooked(with("pid", os.Getpid())), "reused", "held"},
		{"no process", uncooked(with("pid", 1<<22)), "gone", "held"},
		{"no process, of another boot", set(t, with("pid", 1<<22), "birth", elsewhere), "gone", "held"},
		{"managed", with("pidcheck", map[string]any{"managed_by": map[string]any{"kind": "unit", "name": "x.service"}}), "refused", "managed"},
		{"a neighbour of listeners", with("protected", "pipeline"), "protected", "pipeline"},
		{"a neighbour of pidcheck", with("pidcheck", map[string]any{"protected": "pipeline"}), "protected", "pipeline"},
		{"hidden, and gone", hidden(t, with("socket", map[string]any{"inode": 1, "cookie": "0x1"})), "released", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := one(t, pkill2.Options{Grace: time.Minute, Via: pkill2.ViaAuto, DryRun: true}, tt.in)
			got2 := one(t, pkill2.Options{Grace: time.Minute, Via: pkill2.ViaAuto}, tt.in)
			if got2.outcome != tt.outcome || got2.reason != tt.reason || got2.signals != "" {
				t.Errorf("Stage(%v) = %v; want %v (%v), and nothing sent", tt.in, got2, tt.outcome, tt.reason)
			}
			if got.signals != "" || got.outcome == "would_terminate" {
				t.Errorf("Stage(%v) = %v in a dry run; want nothing that would be sent", tt.in, got)
			}
			if !s.lives() || !innocent.lives() {
				t.Fatal("somebody died")
			}
		})
	}
	at := slices.IndexFunc(tests, func(tt refusal) bool { return tt.name == "managed" })
	got := one(t, pkill2.Options{Grace: time.Minute, Via: pkill2.ViaProcess}, tests[at].in)
	if got.outcome != "terminated" {
		t.Errorf("Stage(%v) = %v via process; want terminated", tests[at].in, got)
	}
}

// hidden is the record of a holder that nobody may see.
func hidden(t *testing.T, r jsonl.Record) jsonl.Record {
	t.Helper()
	for key, v := range map[string]any{"pid": 0, "owner": "hidden"} {
		r = set(t, r, key, v)
	}
	return r
}

func TestBadRecordsStopNothing(t *testing.T) {
	s := start(t, "plain")
	bad, err := jsonl.Parse([]byte(`{"pid":true,"local_port":1}`))
	if err != nil {
		t.Fatal(err)
	}
	out, errs := run(t, t.Context(), pkill2.Options{Grace: time.Minute}, bad, s.records(t)[0], bad)
	if len(errs) != 2 || len(out) != 1 || out[0].outcome != "terminated" {
		t.Errorf("Stage = %v, %v; want two errors and one terminated", out, errs)
	}
}

func TestLaws(t *testing.T) {
	setup := func() []jsonl.Record {
		return slices.Concat(start(t, "plain").records(t), start(t, "two").records(t))
	}
	outcome := func(r jsonl.Record) string {
		var v struct{ Pkill2 pkill2.Result }
		if err := r.Decode(&v); err != nil {
			t.Error(err)
		}
		return string(v.Pkill2.Outcome)
	}
	err := jsonltest.TestStage(pkill2.Stage(pkill2.Options{Grace: time.Hour}), setup, jsonltest.Comparing(outcome))
	if err != nil {
		t.Error(err)
	}
}
