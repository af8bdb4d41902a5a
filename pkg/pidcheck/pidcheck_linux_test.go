package pidcheck_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// childVar makes this test binary, run again, a child that listens.
const childVar = "KILLPORT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		if err := serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve listens, says on which port, closes the listener at the first line of
// in, says so, and ends with in.
func serve(in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr().(*net.TCPAddr).Port)
	lines := bufio.NewReader(in)
	if _, err := lines.ReadString('\n'); err != nil {
		return nil
	}
	if err := l.Close(); err != nil {
		return err
	}
	fmt.Fprintln(out, "closed")
	_, err = io.Copy(io.Discard, lines)
	return err
}

// A server is a child that listens.
type server struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	said   *bufio.Reader
	listed listeners.Listener
}

func start(t *testing.T) *server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: exec.Command(self, "a\x1b[2Jb", "--port=0")}
	s.cmd.Env = append(os.Environ(), childVar+"=yes", "GORACE=atexit_sleep_ms=0")
	s.cmd.Stderr = os.Stderr
	r, w, err := os.Pipe() // not StdoutPipe, which Wait closes under a reader
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	s.cmd.Stdout = w
	if s.orders, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.said = bufio.NewReader(r)
	port, err := strconv.ParseUint(s.says(t), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	s.listed = find(t, listeners.Query{Proto: listeners.TCP, Port: uint16(port)})
	if s.listed.PID != s.cmd.Process.Pid {
		t.Fatalf("port %d is held by %d; want %d", port, s.listed.PID, s.cmd.Process.Pid)
	}
	return s
}

func (s *server) says(t *testing.T) string {
	t.Helper()
	line, err := s.said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// end ends the child and reaps it.
func (s *server) end() {
	s.orders.Close()
	s.cmd.Wait()
}

// die ends the child and leaves it unreaped.
func (s *server) die(t *testing.T) {
	t.Helper()
	p, err := process.Open(s.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s.orders.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

// find returns the one listener of a port.
func find(t *testing.T, q listeners.Query) listeners.Listener {
	t.Helper()
	found, err := listeners.List(t.Context(), q)
	if err != nil || len(found) != 1 {
		t.Fatalf("List(%+v) = %+v, %v; want one", q, found, err)
	}
	return found[0]
}

// ours is a listener of this process.
func ours(t *testing.T) (listeners.Listener, io.Closer) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return find(t, listeners.Query{Proto: listeners.TCP, Port: l.Addr().(*net.TCPAddr).AddrPort().Port()}), l
}

func record(t *testing.T, l listeners.Listener) jsonl.Record {
	t.Helper()
	r, err := jsonl.New(l)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// check runs the stage on l, and Check; both say the same.
func check(t *testing.T, l listeners.Listener) pidcheck.Result {
	t.Helper()
	var checked struct{ Pidcheck pidcheck.Result }
	for r, err := range pidcheck.Stage()(t.Context(), jsonl.From(record(t, l))) {
		if err != nil {
			t.Fatal(err)
		}
		schematest.Validate(t, "pidcheck", []byte(r.String()))
		if err := r.Decode(&checked); err != nil {
			t.Fatal(err)
		}
	}
	res := pidcheck.Check(t.Context(), l)
	if diff := cmp.Diff(res, checked.Pidcheck); diff != "" {
		t.Errorf("Check and Stage of %+v (-Check +Stage):\n%s", l, diff)
	}
	return res
}

func TestAlive(t *testing.T) {
	s := start(t)
	got := check(t, s.listed)
	if got.Started == nil || time.Since(*got.Started).Abs() > time.Hour {
		t.Errorf("started = %v; want just now", got.Started)
	}
	got.Started = nil
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := pidcheck.Result{
		Exists: true, State: pidcheck.Alive, Name: strings.TrimSuffix(string(comm), "\n"),
		Exe: self, Argv: s.cmd.Args, PPID: os.Getpid(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Check (-want +got):\n%s", diff)
	}
}

func TestOurselves(t *testing.T) {
	l, closer := ours(t)
	if got := check(t, l); got.State != pidcheck.Alive || got.Protected != process.ProtectedSelf {
		t.Errorf("Check of our own listener = %+v; want it alive and protected", got)
	}
	closer.Close()
	if got := check(t, l); got.State != pidcheck.Released || !got.Exists || got.Protected != process.ProtectedSelf {
		t.Errorf("Check after Close = %+v; want it released", got)
	}
}

func TestReleased(t *testing.T) {
	s := start(t)
	if _, err := io.WriteString(s.orders, "close\n"); err != nil {
		t.Fatal(err)
	}
	if said := s.says(t); said != "closed" {
		t.Fatal(said)
	}
	if got := check(t, s.listed); got.State != pidcheck.Released || !got.Exists || got.Name == "" {
		t.Errorf("Check of one that closed its socket = %+v; want it released", got)
	}
}

// What is not the process that was listed is not described.
func TestNotTheOneThatWasListed(t *testing.T) {
	alive, zombie, gone := start(t), start(t), start(t)
	zombie.die(t)
	gone.end()
	own, _ := ours(t)

	reused := alive.listed
	reused.Birth = own.Birth
	forged := own
	forged.PID = alive.listed.PID
	hidden := listeners.Listener{Proto: listeners.TCP, LocalAddr: "[::1]", LocalPort: 1, Owner: listeners.OwnerHidden}
	none := hidden
	none.Owner = listeners.OwnerNone
	for _, tt := range []struct {
		name string
		l    listeners.Listener
		want pidcheck.Result
	}{
		{"gone", gone.listed, pidcheck.Result{State: pidcheck.Gone}},
		{"zombie", zombie.listed, pidcheck.Result{Exists: true, State: pidcheck.Zombie}},
		{"reused", reused, pidcheck.Result{State: pidcheck.Reused}},
		{"the birth and the socket of another", forged, pidcheck.Result{State: pidcheck.Reused}},
		{"hidden", hidden, pidcheck.Result{State: pidcheck.Hidden}},
		{"none", none, pidcheck.Result{State: pidcheck.None}},
	} {
		if diff := cmp.Diff(tt.want, check(t, tt.l)); diff != "" {
			t.Errorf("Check of %s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestUnverified(t *testing.T) {
	s := start(t)
	noBirth, noSocket, otherBoot, thread := s.listed, s.listed, s.listed, s.listed
	noBirth.Birth = ""
	noSocket.Socket = listeners.ID{}
	otherBoot.Birth = "00000000-0000-0000-0000-000000000000:1:2"
	thread.PID = threadOf(t, s.cmd.Process.Pid)
	for name, l := range map[string]listeners.Listener{
		"without a birth": noBirth, "without a socket": noSocket, "of another boot": otherBoot, "of a thread": thread,
	} {
		if got := check(t, l); got.State != pidcheck.Unverified || got.Reason == "" {
			t.Errorf("Check of a record %s = %+v; want it unverified, with the reason", name, got)
		}
	}
	elsewhere, _ := ours(t)
	edited := s.listed
	edited.Socket = elsewhere.Socket
	if got := check(t, edited); got.State != pidcheck.Released {
		t.Errorf("Check of a record with the socket of another = %+v; want it released", got)
	}
}

// threadOf returns the id of a thread that does not lead the process.
func threadOf(t *testing.T, pid int) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/task", pid)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		tasks, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if tid, err := strconv.Atoi(task.Name()); err == nil && tid != pid {
				return tid
			}
		}
	}
	t.Fatalf("%d has one thread only", pid)
	return 0
}

func TestPinnedOnceZombie(t *testing.T) {
	s := start(t)
	p, err := process.Open(s.listed.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if state, reason, err := pidcheck.Verify(p, s.listed); state != pidcheck.Alive || err != nil {
		t.Errorf("Verify = %v, %q, %v; want it alive", state, reason, err)
	}
	s.die(t)
	if state, reason, err := pidcheck.Verify(p, s.listed); state != pidcheck.Zombie || err != nil {
		t.Errorf("Verify after the end = %v, %q, %v; want a zombie", state, reason, err)
	}
}

func TestLaws(t *testing.T) {
	s, gone := start(t), start(t)
	gone.end()
	own, _ := ours(t)
	reused := s.listed
	reused.Birth = own.Birth
	none := own
	none.PID, none.Birth, none.FD, none.Owner = 0, "", nil, listeners.OwnerNone
	var records []jsonl.Record
	for _, l := range []listeners.Listener{own, s.listed, gone.listed, reused, none} {
		records = append(records, record(t, l))
	}
	foreign, err := jsonl.Parse([]byte(`{ "mine" : [1.50,"\u00e9"], "local_port":1,"pid":0,"owner":"hidden","pidchecks":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	records = append(records, foreign)
	if err := jsonltest.TestStage(pidcheck.Stage(), jsonltest.Records(records...), jsonltest.Streaming()); err != nil {
		t.Error(err)
	}
}

// A bad record is an error where it stands, and the others are checked.
func TestBadRecords(t *testing.T) {
	const in = `{"pid":0,"owner":"none","local_port":1}
{"pid":true,"local_port":1}
{"pid":0,"owner":"none","local_port":1}
{"pid":0,"local_port":1}
`
	var got []string
	for r, err := range pidcheck.Stage()(t.Context(), jsonl.Read(strings.NewReader(in))(t.Context())) {
		if err != nil {
			got = append(got, strings.SplitN(err.Error(), ":", 2)[0])
			continue
		}
		got = append(got, r.String())
	}
	const none = `{"pid":0,"owner":"none","local_port":1,"pidcheck":{"exists":false,"state":"none"}}`
	if want := []string{none, "line 2", none, "line 4"}; !slices.Equal(got, want) {
		t.Errorf("Stage = %q; want %q", got, want)
	}
}
