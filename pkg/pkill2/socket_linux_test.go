package pkill2_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pkill2"
)

// master listens, and starts a worker that has its socket, too. Asked to end, one
// that is told a time goes on, and has its worker close the socket after it.
func master(mode string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		panic(err)
	}
	asked, ask, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Replace(mode, "master", "worker", 1))
	cmd.ExtraFiles = []*os.File{f, asked}
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout // and it ends with the test
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	f.Close()
	if mode != "master" {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		go func() {
			<-term
			fmt.Fprintln(ask, "now")
		}()
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func work(mode string) {
	if after, err := time.ParseDuration(strings.TrimPrefix(mode, "worker ")); err == nil {
		os.NewFile(4, "asked").Read(make([]byte, 1))
		time.Sleep(after)
		os.NewFile(3, "listener").Close()
		fmt.Println("closed")
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// withWorker is a master whose worker has its socket, with their records.
func withWorker(t *testing.T, mode string) (s *server, of, worker jsonl.Record) {
	t.Helper()
	s = start(t, mode)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		found, err := listeners.List(t.Context(), listeners.Query{Proto: listeners.TCP, Port: s.ports[0]})
		if err != nil || time.Now().After(end) {
			t.Fatalf("List = %v, %v; want a master and a worker", found, err)
		}
		for _, l := range found {
			r, err := jsonl.New(l)
			if err != nil {
				t.Fatal(err)
			}
			if l.PID == s.cmd.Process.Pid {
				of = r
			} else {
				worker = r
			}
		}
		if !of.IsZero() && !worker.IsZero() {
			return s, of, worker
		}
		of, worker = jsonl.Record{}, jsonl.Record{}
	}
}

// A record leads by its socket: whoever has that now is meant, where the holder
// that it names is gone, or has a PID that is another's.
func TestFollowsTheSocket(t *testing.T) {
	innocent := start(t, "plain")
	for _, tt := range []struct {
		name    string
		edit    func(t *testing.T, s *server, r jsonl.Record) jsonl.Record
		outcome string
		found   string
	}{
		{"gone", func(t *testing.T, s *server, r jsonl.Record) jsonl.Record {
			s.cmd.Process.Kill()
			s.signalled(t)
			return r
		}, "gone", "terminated"},
		{"reused", func(t *testing.T, s *server, r jsonl.Record) jsonl.Record {
			return set(t, r, "birth", birthOf(t, innocent))
		}, "reused", "terminated"},
		{"another's PID", func(t *testing.T, s *server, r jsonl.Record) jsonl.Record {
			return set(t, r, "pid", innocent.cmd.Process.Pid)
		}, "reused", "terminated"},
		{"a thread's PID", func(t *testing.T, s *server, r jsonl.Record) jsonl.Record {
			tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", innocent.cmd.Process.Pid))
			if err != nil || len(tasks) < 2 {
				t.Skipf("threads: %v, %v", tasks, err)
			}
			var tid int
			fmt.Sscan(tasks[1].Name(), &tid)
			return set(t, r, "pid", tid)
		}, "reused", "terminated"},
		{"gone, of another boot", func(t *testing.T, s *server, r jsonl.Record) jsonl.Record {
			return set(t, set(t, r, "pid", 1<<22), "birth", "00000000-0000-0000-0000-000000000000:1:1")
		}, "gone", ""},
		{"gone, with another cookie", func(t *testing.T, s *server, r jsonl.Record) jsonl.Record {
			var l listeners.Listener
			if err := r.Decode(&l); err != nil {
				t.Fatal(err)
			}
			return set(t, set(t, r, "pid", 1<<22), "socket", map[string]any{"inode": l.Socket.Inode, "cookie": "0x1"})
		}, "gone", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, of, _ := withWorker(t, "master")
			in := tt.edit(t, s, of)
			dry, _ := run(t, t.Context(), pkill2.Options{Grace: time.Minute, DryRun: true}, in)
			out, errs := run(t, t.Context(), pkill2.Options{Grace: time.Minute}, in)
			if len(out) == 0 || len(errs) > 0 || out[0].outcome != tt.outcome || out[0].signals != "" {
				t.Fatalf("Stage(%v) = %v, %v; want %s", in, out, errs, tt.outcome)
			}
			listening, err := listeners.Sockets(t.Context(), listeners.Query{Proto: listeners.TCP, Port: s.ports[0]})
			if err != nil || len(listening) > 0 != (tt.found == "") {
				t.Errorf("sockets = %v, %v; want none if they are found", listening, err)
			}
			for _, r := range out[1:] {
				if r.outcome != tt.found {
					t.Errorf("found %v; want %s", r, tt.found)
				}
			}
			for _, r := range dry[1:] {
				if r.outcome != "would_terminate" {
					t.Errorf("found in a dry run %v; want would_terminate", r)
				}
			}
			if len(out) > 1 != (tt.found != "") || len(dry) != len(out) {
				t.Errorf("Stage(%v) = %v, dry %v; want somebody found: %v", in, out, dry, tt.found != "")
			}
			if !innocent.lives() {
				t.Fatal("an innocent died")
			}
		})
	}
}

func birthOf(t *testing.T, s *server) string {
	t.Helper()
	birth, err := s.records(t)[0].Text("birth")
	if err != nil {
		t.Fatal(err)
	}
	return birth
}

// drain closes its listener so long after it was asked to end, says so, and goes
// on without it.
func drain(mode string) {
	var after time.Duration
	after, err := time.ParseDuration(strings.TrimPrefix(mode, "drain "))
	if err != nil {
		panic(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	<-term
	time.Sleep(after)
	l.Close()
	fmt.Println("closed")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Servers that close their listeners just before their grace period is over, and
// drain, are not killed: each is proven once more before it is signalled. Those
// that were too slow to close do not count.
func TestDrainsAtTheLastMoment(t *testing.T) {
	const grace, want = time.Second, 12
	var counted, drained int
	for try := 0; counted < want && try < 5; try++ {
		var servers []*server
		var in []jsonl.Record
		for i := range want {
			before := []time.Duration{7, 10, 15, 20, 30, 40}[i%6] * time.Millisecond
			s := start(t, "drain "+(grace-before).String())
			servers, in = append(servers, s), append(in, s.records(t)...)
		}
		out, errs := run(t, t.Context(), pkill2.Options{Grace: grace}, in...)
		if len(out) != len(in) || len(errs) > 0 {
			t.Fatalf("Stage = %v, %v; want %d records", out, errs, len(in))
		}
		for i, s := range servers {
			if out[i].outcome == "killed" {
				s.signalled(t)
				if line, _ := s.out.ReadString('\n'); line != "closed\n" {
					continue
				}
			}
			counted++
			if out[i].outcome == "released" && out[i].signals == "SIGTERM" && s.lives() {
				drained++
				continue
			}
			t.Errorf("it had closed its listener, and was to drain: %v, lives: %v", out[i], s.lives())
		}
	}
	t.Logf("drained %d of %d", drained, counted)
	if drained < want {
		t.Errorf("drained %d; want %d", drained, want)
	}
}

// A worker that closes its socket just before it is asked, at half of the grace
// period, is not asked.
func TestReleasesBeforeItIsAsked(t *testing.T) {
	const grace = time.Second
	for range 10 {
		s, of, worker := withWorker(t, "master "+(grace/2-10*time.Millisecond).String())
		out, errs := run(t, t.Context(), pkill2.Options{Grace: grace}, of, worker)
		if len(out) != 2 || len(errs) > 0 || out[0].outcome != "killed" {
			t.Fatalf("Stage = %v, %v; want the master killed", out, errs)
		}
		if out[1].outcome == "released" && out[1].signals == "" {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", out[1].pid)); err != nil {
				t.Error("the worker has ended:", err)
			}
			return
		}
		if line, _ := s.out.ReadString('\n'); line == "closed\n" {
			t.Fatalf("it had closed the socket, and was asked all the same: %v", out[1])
		}
	}
	t.Error("it is too slow to close its socket in time, each time")
}

// What others have, too, is not freed with a holder.
func TestAlsoListensIsWhatWasFreed(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	open := func() (*net.TCPListener, uint16) {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		return l, l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	asked, port := open()
	along, freed := open()
	open() // stays ours
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	for i, l := range []*net.TCPListener{asked, along} {
		l.Close()
		cmd.ExtraFiles[i].Close()
	}
	found, err := listeners.List(t.Context(), listeners.Query{Proto: listeners.TCP, Port: port})
	if err != nil || len(found) != 1 {
		t.Fatalf("List(%d) = %v, %v; want one", port, found, err)
	}
	r, err := jsonl.New(found[0])
	if err != nil {
		t.Fatal(err)
	}
	for out, err := range pkill2.Stage(pkill2.Options{Grace: time.Minute})(t.Context(), jsonl.From(r)) {
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Done pkill2.Result `json:"pkill2"`
		}
		if err := out.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if want := []string{fmt.Sprintf("TCP 127.0.0.1:%d", freed)}; got.Done.Outcome != pkill2.Terminated || !slices.Equal(got.Done.AlsoListens, want) {
			t.Errorf("%s: also listens %q; want %q", out, got.Done.AlsoListens, want)
		}
	}
}
