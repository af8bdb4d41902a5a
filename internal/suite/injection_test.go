//go:build linux

package suite_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/process"
)

// fault is a system call of the kill path, the files that it is about, and the
// errors that it may give.
type fault struct {
	call   string
	path   string // {pid} is the holder's; "": the call as such, on whatever
	errors string
}

var faults = []fault{
	{"pidfd_open", "", "EPERM ESRCH EACCES EINVAL EMFILE ENFILE ENODEV ENOMEM EIO ENOSYS EINTR"},
	{"pidfd_send_signal", "", "EPERM ESRCH EACCES EINVAL ENOMEM EIO ENOSYS EINTR"},
	{"fstatfs", "", "EPERM EACCES EIO ENOMEM ENOSYS EINTR"},
	{"fstat", "", "EPERM EIO ENOMEM EINTR"},
	{"ppoll", "", "EPERM EINVAL EIO ENOMEM EINTR"},
	{"epoll_pwait", "", "EINTR"}, // by any other, Go ends the program
	{"epoll_ctl", "", "EPERM ENOMEM ENOSPC"},
	{"socket", "", "EPERM EACCES EAFNOSUPPORT EPROTONOSUPPORT EMFILE ENOMEM EINTR"},
	{"sendto", "", "EPERM EACCES ECONNREFUSED ENOBUFS ENOMEM EIO EINTR"},
	{"recvfrom", "", "EPERM EACCES ENOBUFS ENOMEM EIO EINTR"},
	{"readlinkat", "/proc/self", "EPERM EACCES ENOENT ENOMEM EIO EINTR"},
	{"openat", "/proc/self/status", "EPERM EACCES ENOENT EMFILE ENOMEM EIO EINTR"},
	{"openat", "/proc/self/mountinfo", "EPERM ENOENT EMFILE EIO EINTR"},
	{"openat", "/proc/sys/kernel/random/boot_id", "EPERM ENOENT EMFILE EIO EINTR"},
	{"read", "/proc/sys/kernel/random/boot_id", "EPERM EIO EINTR"},
	{"openat", "/proc/stat", "EPERM EIO"},
	{"openat", "/proc", "EPERM EACCES ENOENT EMFILE ENOMEM EIO EINTR"},
	{"getdents64", "/proc", "EPERM ENOENT ENOMEM EIO EINTR"},
	{"openat", "/proc/{pid}/fd", "EPERM EACCES ENOENT ESRCH EMFILE ENOMEM EIO EINTR"},
	{"getdents64", "/proc/{pid}/fd", "EACCES ENOENT ESRCH ENOMEM EIO EINTR"},
	{"readlinkat", "/proc/{pid}/fd", "EPERM EACCES ENOENT ESRCH ENOMEM EIO EINTR"},
	{"readlinkat", "/proc/{pid}/fd/{fd}", "EPERM EACCES ENOENT ESRCH ENOMEM EIO EINTR"},
	{"readlinkat", "/proc/{pid}/fd/1", "EPERM EACCES ENOENT ESRCH ENOMEM EIO EINTR"},
	{"openat", "/proc/{pid}/stat", "EPERM EACCES ENOENT ESRCH EMFILE ENOMEM EIO EINTR"},
	{"read", "/proc/{pid}/stat", "EPERM ESRCH ENOMEM EIO EINTR"},
	{"openat", "/proc/{pid}/cmdline", "EACCES ESRCH EIO EINTR"},
	{"read", "/proc/{pid}/cmdline", "ESRCH EIO EINTR"},
	{"readlinkat", "/proc/{pid}/exe", "EACCES ENOENT ESRCH EIO EINTR"},
}

// whens are which of the calls fail, as strace(1) counts them: in each thread
// for itself.
func (f fault) whens(errno string) []string {
	switch {
	case errno == "EINTR":
		return []string{":when=1+2", ":when=2+2"} // always would be for ever
	case f.call == "pidfd_open" && errno == "ESRCH":
		return []string{""} // who is gone does not come back
	case f.call == "epoll_ctl":
		return []string{":when=2+", ":when=3+", ":when=4+"} // without the first one Go ends the program
	}
	return []string{"", ":when=1", ":when=2+"}
}

// TestInjection has each system call of the kill path fail, or come late, and
// looks at what is left: no innocent is ended, nothing is signalled by number,
// nothing hangs, and the exit code is 0 only if the port is free.
func TestInjection(t *testing.T) {
	require(t, "private", "strace")
	for _, f := range faults {
		t.Run(f.name(), func(t *testing.T) {
			t.Parallel()
			var hits atomic.Int32
			t.Run("cases", func(t *testing.T) {
				for i, errno := range strings.Fields(f.errors) {
					for k, when := range f.whens(errno) {
						how, interrupted := "error="+errno+when, errno == "EINTR"
						if long() || k == 0 && (interrupted || i%2 == 0) {
							f.testKillport(t, how, &hits)
						}
						if long() || k == 1 && interrupted || k == 0 && i%4 == 1 || k == 2 && i%4 == 3 {
							f.testPipe(t, how, &hits)
						}
					}
				}
				f.testKillport(t, "delay_enter=200000:when=1", &hits)
			})
			if hits.Load() == 0 {
				t.Error("nobody makes that call: this tests nothing")
			}
		})
	}
}

func (f fault) name() string { return f.call + strings.ReplaceAll(f.path, "/", "_") }

func (f fault) testKillport(t *testing.T, how string, hits *atomic.Int32) {
	t.Run("killport "+how, func(t *testing.T) {
		t.Parallel()
		s := newScene(t, holderFor(how))
		res := s.strace(t, s.inject(f, how), "", "killport", "--grace=200ms", s.port())
		if gjson.Get(res.stdout, "status").String() == "" && res.code != 3 {
			t.Errorf("exit code %d, and no status: %q", res.code, res.stdout)
		}
		s.judge(t, res.code, how)
		hits.Add(int32(s.hits))
	})
}

// testPipe has the fault in both programs.
func (f fault) testPipe(t *testing.T, how string, hits *atomic.Int32) {
	t.Run("pkill2 "+how, func(t *testing.T) {
		t.Parallel()
		s := newScene(t, holderFor(how))
		listed := s.strace(t, s.inject(f, how), "", "listeners", s.port())
		ended := s.strace(t, s.inject(f, how), listed.stdout, "pkill2", "--grace=200ms")
		s.judge(t, max(listed.code, ended.code), how)
		hits.Add(int32(s.hits))
	})
}

// holderFor sees to it that there are later calls where these are to fail.
func holderFor(how string) string {
	if strings.HasSuffix(how, "+") {
		return "ignore-term"
	}
	return "serve"
}

// scene is a holder with an innocent beside.
type scene struct {
	*animal
	dir      string
	innocent *innocent
	runs     int
	hits     int    // how many calls a fault has met
	said     string // by the commands
}

func newScene(t *testing.T, mode string) *scene {
	t.Helper()
	s := &scene{dir: t.TempDir(), innocent: sleeper(t)}
	s.animal = zoo(t, s.dir, mode)
	return s
}

func (s *scene) port() string { return strconv.Itoa(s.Port) }

func (s *scene) inject(f fault, how string) []string {
	args := []string{"-e", "inject=" + f.call + ":" + how}
	if f.path != "" {
		args = append(args, "-P", strings.NewReplacer("{pid}", strconv.Itoa(s.PID), "{fd}", s.fd()).Replace(f.path))
	}
	return args
}

// fd is the holder's descriptor of the socket.
func (s *scene) fd() string {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID))
	for _, link := range links {
		if to, _ := os.Readlink(link); strings.HasPrefix(to, "socket:") {
			return filepath.Base(link)
		}
	}
	return "none"
}

// strace runs a command under strace, and checks that it ended by itself, that
// what it says are records, and that nobody was signalled by number.
func (s *scene) strace(t *testing.T, opts []string, stdin string, argv ...string) result {
	t.Helper()
	s.runs++
	file := filepath.Join(s.dir, fmt.Sprintf("trace%d", s.runs))
	cmd := traced(t, file, opts, argv...)
	cmd.Stdin = strings.NewReader(stdin)
	res := run(t, cmd)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	trace := string(text)
	s.hits += strings.Count(trace, "(INJECTED)") + strings.Count(trace, "(DELAYED)")
	if res.code < 0 || res.code > 3 || res.took > patience {
		t.Errorf("%q: exit code %d after %v: %s", argv, res.code, res.took, res.stderr)
	}
	for r, err := range jsonl.Read(strings.NewReader(res.stdout))(t.Context()) {
		if err != nil {
			t.Errorf("%q: %v: %q", argv, err, res.stdout)
			continue
		}
		schematest.Validate(t, strings.Replace(argv[0], "killport", "classify", 1), []byte(r.String()))
	}
	if bare := bareKill.FindString(trace); bare != "" {
		t.Errorf("%q: %s", argv, bare)
	}
	s.innocent.lives(t)
	s.said += fmt.Sprintf("%q: exit code %d\n%s%s", argv, res.code, res.stdout, res.stderr)
	return res
}

// judge compares an exit code with how things stand.
func (s *scene) judge(t *testing.T, code int, how string) {
	t.Helper()
	if code != 0 && strings.Contains(how, "EINTR") {
		t.Errorf("exit code %d, since a call was interrupted", code)
	}
	if code == 0 && !freed(t, s.Port) {
		t.Error("exit code 0, and the port is listened on")
	}
	if code == 0 && !s.pins[s.PID].ended() {
		t.Error("exit code 0, and the holder lives")
	}
	if t.Failed() {
		t.Log(s.said)
	}
}

// moment is just before the nth time that killport makes a call.
type moment struct {
	mode string // of the holder
	call string
	path string
	nth  int
}

func moments() []moment {
	all := []moment{
		{"serve", "getdents64", "/proc", 1},
		{"serve", "openat", "/proc/{pid}/cmdline", 1},
	}
	for nth := 1; nth <= 4; nth++ {
		all = append(all,
			moment{"serve", "recvfrom", "", nth},
			moment{"serve", "fstatfs", "", nth},
			moment{"serve", "openat", "/proc/{pid}/stat", nth},
			moment{"ignore-term", "ppoll", "", 2 * nth})
	}
	for nth := 1; nth <= 3; nth++ {
		all = append(all,
			moment{"serve", "pidfd_open", "", nth},
			moment{"serve", "getdents64", "/proc/{pid}/fd", nth},
			moment{"ignore-term", "pidfd_send_signal", "", nth})
	}
	return all
}

// TestRaces ends the holder just before one of the calls of the kill path, and
// gives its PID to an innocent at once: one that sleeps, and one that listens
// on the same port. Both must live, and the verdict must be true.
func TestRaces(t *testing.T) {
	require(t, "private", "strace", "lastpid")
	var reused atomic.Int32
	t.Run("moments", func(t *testing.T) {
		for _, m := range moments() {
			f := fault{call: m.call, path: m.path}
			for _, heir := range []string{"sleep", "serve"} {
				if heir == "serve" && m.call == "recvfrom" {
					continue // it would be a holder, if the table is yet to be read
				}
				t.Run(fmt.Sprintf("%s %d %s %s", f.name(), m.nth, m.mode, heir), func(t *testing.T) {
					t.Parallel()
					m.race(t, f, heir, &reused)
				})
			}
		}
	})
	t.Logf("%d PIDs were given away while killport had them", reused.Load())
	if reused.Load() == 0 {
		t.Error("no PID was given away: this tests nothing")
	}
}

func (m moment) race(t *testing.T, f fault, heir string, reused *atomic.Int32) {
	s := newScene(t, m.mode)
	const how = "delay_enter=150000"
	trace := filepath.Join(s.dir, "trace")
	ended := make(chan result, 1)
	cmd := traced(t, trace, s.inject(f, how), "killport", "--grace=300ms", s.port())
	go func() {
		defer close(ended)
		ended <- run(t, cmd)
	}()
	done := func() bool { return len(ended) > 0 }
	if !eventually(patience, func() bool { return begun(trace, m.call) >= m.nth || done() }) {
		t.Fatal("nothing happens")
	}
	s.pins[s.PID].signal(unix.SIGKILL)
	<-s.done
	lives, err := s.giveAway(t, heir)
	inTime := begun(trace, m.call) == m.nth && resumed(trace) < m.nth
	res := <-ended
	if err != nil {
		t.Log(err) // the PID was somebody else's at once: a race as well
	} else if inTime {
		reused.Add(1)
	}
	s.innocent.lives(t)
	lives(t)
	if res.code != 0 && res.code != 1 {
		t.Errorf("exit code %d", res.code)
	}
	if free := freed(t, s.Port); res.code == 0 && !free && inTime {
		t.Error("exit code 0, and the port is listened on")
	}
	if t.Failed() {
		t.Logf("%s%s", res.stdout, res.stderr)
	}
}

// begun counts how often a call was entered, and resumed how many delays are
// over. strace writes the line of a call in two parts.
func begun(trace, call string) int {
	text, _ := os.ReadFile(trace)
	return strings.Count(string(text), call+"(")
}

func resumed(trace string) int {
	text, _ := os.ReadFile(trace)
	return strings.Count(string(text), "(DELAYED)")
}

// giveAway gives the PID of the holder, which has ended, to an innocent, and
// returns how to see whether that lives.
func (s *scene) giveAway(t *testing.T, heir string) (lives func(testing.TB), err error) {
	t.Helper()
	if heir == "sleep" {
		i, err := rebornSleeper(s.PID, time.Hour)
		if err != nil {
			return func(testing.TB) {}, err
		}
		t.Cleanup(i.end)
		return i.lives, nil
	}
	start := func() (*animal, error) { return startZoo(s.dir, "serve", s.Addr) }
	a, err := reborn(s.PID, start, func(a *animal) int { return a.PID }, (*animal).end)
	if err != nil {
		return func(testing.TB) {}, err
	}
	t.Cleanup(a.end)
	return func(t testing.TB) { a.lives(t, a.PID) }, nil
}

// noPidfs is Linux before 6.9: fstatfs(2) of a pidfd does not say "PIDF".
var noPidfs = []string{"-e", "inject=fstatfs:retval=0"}

func TestWithoutPidfs(t *testing.T) {
	require(t, "private", "strace")
	t.Run("killport", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, "serve")
		res := s.strace(t, noPidfs, "", "killport", s.port())
		s.judge(t, res.code, "")
		if res.code != 0 {
			t.Errorf("exit code %d; want 0", res.code)
		}
	})
	weak, strong := noPidfs, []string(nil)
	for _, tt := range []struct {
		name            string
		listing, ending []string
		outcome         string
		code            int
	}{
		{"weak both times", weak, weak, "terminated", 0},
		{"listed weak, ended strong", weak, strong, "refused", 1},
		{"listed strong, ended weak", strong, weak, "refused", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "serve")
			listed := s.strace(t, tt.listing, "", "listeners", s.port())
			isWeak := gjson.Get(listed.stdout, "identity").String() == "weak"
			if want := tt.listing != nil; isWeak != want || strings.Count(gjson.Get(listed.stdout, "birth").String(), ":") == 0 {
				t.Errorf("weak is %v, want %v, and a birth: %s", isWeak, want, listed.stdout)
			}
			checked := s.strace(t, tt.ending, listed.stdout, "pidcheck")
			ended := s.strace(t, tt.ending, checked.stdout, "pkill2")
			s.judge(t, ended.code, "")
			if got := gjson.Get(ended.stdout, "pkill2.outcome").String(); got != tt.outcome || ended.code != tt.code {
				t.Errorf("outcome %q, exit code %d; want %q, %d: %s", got, ended.code, tt.outcome, tt.code, ended.stdout)
			}
			if tt.code != 0 {
				s.lives(t, s.PID)
			}
		})
	}
	for _, heir := range []string{"sleep", "serve"} {
		t.Run("a PID that was given away to "+heir, func(t *testing.T) {
			require(t, "lastpid")
			t.Parallel()
			for range 5 { // somebody else may have it first
				s := newScene(t, "serve")
				listed := s.strace(t, noPidfs, "", "listeners", s.port())
				s.pins[s.PID].signal(unix.SIGKILL)
				<-s.done
				lives, err := s.giveAway(t, heir)
				if err != nil {
					continue
				}
				ended := s.strace(t, noPidfs, listed.stdout, "pkill2")
				lives(t)
				if strings.Contains(ended.stdout, "SIG") {
					t.Errorf("somebody was signalled: %s", ended.stdout)
				}
				return
			}
			t.Error("the PID was never given away")
		})
	}
}

// TestWithoutPidfd is Linux before 5.3, a sandbox that refuses, or a process
// that has no descriptor left: there is no way to hold on to a process, and so
// nothing is done to any.
func TestWithoutPidfd(t *testing.T) {
	require(t, "private", "strace")
	for _, errno := range []string{"ENOSYS", "EPERM", "EMFILE"} {
		t.Run(errno, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "serve")
			without := s.inject(fault{call: "pidfd_open"}, "error="+errno)
			unsure := s.strace(t, without, "", "listeners", s.port())
			if got := gjson.Get(unsure.stdout, "pid").Int(); int(got) != s.PID || gjson.Get(unsure.stdout, "birth").Exists() || unsure.code != 0 {
				t.Errorf("listeners: exit code %d; want 0, PID %d, and no birth: %s", unsure.code, s.PID, unsure.stdout)
			}
			sure := s.strace(t, nil, "", "listeners", s.port())
			for _, tt := range []struct {
				name   string
				inject []string
				stdin  string
				reason string
			}{
				{"a record without a birth", nil, unsure.stdout, "unverified"},
				{"nothing can be pinned", without, sure.stdout, "unpinnable"},
				{"both", without, unsure.stdout, "unpinnable"},
			} {
				res := s.strace(t, tt.inject, tt.stdin, "pkill2")
				outcome, reason := gjson.Get(res.stdout, "pkill2.outcome").String(), gjson.Get(res.stdout, "pkill2.reason").String()
				if outcome != "refused" || reason != tt.reason || res.code != 1 {
					t.Errorf("%s: exit code %d, %s (%s); want 1, refused (%s)", tt.name, res.code, outcome, reason, tt.reason)
				}
			}
			res := s.strace(t, without, "", "killport", s.port())
			if status := gjson.Get(res.stdout, "status").String(); status != "partial" || res.code != 1 {
				t.Errorf("killport: exit code %d, %q; want 1, partial", res.code, status)
			}
			s.lives(t, s.PID)
		})
	}
}

// TestThreadHasThePID: a holder has ended, and its PID is a thread's now, as
// happens more often than that it is a process's. The port is free, then; or else
// the record leads by its cookie to who has its socket now.
func TestThreadHasThePID(t *testing.T) {
	require(t, "private")
	holder, innocent := zoo(t, t.TempDir(), "serve"), zoo(t, t.TempDir(), "threads", "--n=8")
	record := list(t, holder.Port)
	record = set(t, record, "pid", strconv.Itoa(thread(t, innocent.PID)))
	cooked := record
	record = set(t, record, "socket", fmt.Sprintf(`{"inode":%d}`, gjson.Get(record, "socket.inode").Int()))
	for _, want := range []string{"refused", "reused"} { // in vain as long as somebody listens
		res := run(t, tool(t.Context(), record, "pkill2", "--grace=0"))
		if got := gjson.Get(res.stdout, "pkill2.outcome").String(); got != want {
			t.Errorf("outcome %q; want %q: %s", got, want, res.stdout)
		}
		innocent.lives(t, innocent.PID)
		if want == "refused" {
			holder.lives(t, holder.PID)
			res = run(t, tool(t.Context(), cooked, "pkill2"))
			if got := gjson.Get(res.stdout, "..#.pkill2.outcome").String(); got != `["reused","terminated"]` {
				t.Errorf("by the cookie: outcomes %s; want reused, and the holder terminated: %s", got, res.stdout)
			}
			innocent.lives(t, innocent.PID)
		}
		holder.end()
	}
}

// TestWithoutSockDiag: some sandboxes refuse sock_diag(7), or the socket for
// it. Then the table is read from /proc/net, and everything else is the same.
func TestWithoutSockDiag(t *testing.T) {
	require(t, "private", "strace")
	for _, refusal := range []string{
		"socket:error=EPERM", "socket:error=EACCES", "socket:error=EAFNOSUPPORT", "socket:error=EPROTONOSUPPORT",
		"sendto:error=EPERM", "sendto:error=ECONNREFUSED", "recvfrom:error=EACCES",
	} {
		t.Run(refusal, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "serve")
			without := []string{"-e", "inject=" + refusal}
			listed := s.strace(t, without, "", "listeners", s.port())
			if source := gjson.Get(listed.stdout, "socket.source").String(); source != "proc_net" {
				t.Errorf("source %q; want proc_net: %s", source, listed.stdout)
			}
			ended := s.strace(t, without, listed.stdout, "pkill2")
			if outcome := gjson.Get(ended.stdout, "pkill2.outcome").String(); outcome != "terminated" || ended.code != 0 {
				t.Errorf("exit code %d, %q; want 0, terminated: %s", ended.code, outcome, ended.stdout)
			}
			s.judge(t, ended.code, "")
			again := newScene(t, "serve")
			res := again.strace(t, without, "", "killport", again.port())
			again.judge(t, res.code, "")
			if status := gjson.Get(res.stdout, "status").String(); status != "cleaned" || res.code != 0 {
				t.Errorf("exit code %d, %q; want 0, cleaned: %s", res.code, status, res.stdout)
			}
		})
	}
}

// TestWithoutBoundSockets: kernels before 6.8, and /proc/net, do not show sockets
// that are bound and do not listen. The port is not called free for that, nobody is
// ended, and what could not be seen is said.
func TestWithoutBoundSockets(t *testing.T) {
	require(t, "private", "strace")
	t.Parallel()
	s := newScene(t, "bound")
	without := []string{"-e", "inject=sendto:error=EPERM"}
	const unseen = "sockets that are bound and do not listen: to see them takes sock_diag, and Linux 6.8 or later"
	report := gjson.Parse(s.strace(t, without, "", "portdiag", s.port()).stdout)
	if report.Get("verdict").Str != "blocked" || !slices.ContainsFunc(report.Get("unseen").Array(), func(r gjson.Result) bool { return r.Str == unseen }) {
		t.Errorf("portdiag: want it blocked, and %q: %s", unseen, report)
	}
	res := s.strace(t, without, "", "killport", s.port())
	line := gjson.Parse(res.stdout)
	if res.code != 1 || line.Get("status").Str != "stuck" || line.Get("reason").Str != "in_use" || !strings.Contains(line.Get("detail").Str, unseen) {
		t.Errorf("killport: exit code %d, want 1, stuck, in use, and why: %s", res.code, line)
	}
	s.lives(t, s.PID)
}

// TestWeakBirth shows what the weak birth is worth: two processes with one
// PID, born within one clock tick, have the same. The strong one, which pidfs
// gives, they do not share.
func TestWeakBirth(t *testing.T) {
	require(t, "private", "lastpid")
	if !kernelAtLeast(6, 9) {
		t.Skip("there is no pidfs")
	}
	weak := func(b process.Birth) string { return string(b[:strings.LastIndexByte(string(b), ':')]) }
	for range 200 {
		first, err := startInnocent("sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		was := birthOf(t, first.pid())
		first.end()
		second, err := rebornSleeper(first.pid(), time.Hour)
		if err != nil {
			continue
		}
		is := birthOf(t, second.pid())
		second.end()
		if was == is {
			t.Fatalf("two processes are born %q", was)
		}
		if weak(was) == weak(is) {
			t.Logf("PID %d: %s, and then %s", first.pid(), was, is)
			return
		}
	}
	t.Error("the same PID was not had twice within one clock tick")
}

func birthOf(t *testing.T, pid int) process.Birth {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	birth, err := p.Birth()
	if err != nil {
		t.Fatal(err)
	}
	return birth
}

// bareKill finds a signal that is sent by number. SIGURG is what the threads
// of a Go program interrupt each other with.
var bareKill = regexp.MustCompile(`\b(kill|tkill|rt_sigqueueinfo|rt_tgsigqueueinfo)\(.*|\btgkill\(\d+, \d+, SIG([^U]|U[^R]).*`)

// traced is argv under strace, and in the trap if the trace will be silent
// about signals: with -P strace shows what is done to these files only. Without
// --seccomp-bpf it would stop at every other call as well, which takes five
// times as long.
func traced(t *testing.T, file string, opts []string, argv ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", "--seccomp-bpf", "-qq", "-o", file, "-e", "trace=kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal"}
	for i, opt := range opts {
		if call, ok := strings.CutPrefix(opt, "inject="); ok && i > 0 {
			call, _, _ = strings.Cut(call, ":")
			args[len(args)-1] += "," + call
		}
	}
	if args = append(args, opts...); slices.Contains(opts, "-P") {
		args = append(args, "-E", trapVar+"=1", self)
	}
	return exec.Command("strace", append(args, argv...)...)
}

// trapVar makes the test binary become the command of its arguments, in a trap.
const trapVar = "KILLPORT_SUITE_TRAP"

func init() {
	if os.Getenv(trapVar) != "" {
		fmt.Fprintln(os.Stderr, becomeTrapped(os.Args[1:]))
		os.Exit(127)
	}
}

// becomeTrapped runs a command that the kernel ends with SIGSYS as soon as it
// signals a process by number.
func becomeTrapped(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	os.Unsetenv(trapVar)
	runtime.LockOSThread() // the filter is the thread's, and then of all that it becomes
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := trap(os.Getpid())
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}

// trap is a filter of seccomp(2). It reads struct seccomp_data: the number of
// the call at 0, the lower half of the first argument at 16 (little endian).
// The threads of a process may signal each other.
func trap(self int) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: load, K: 0},
		{Code: equal, K: unix.SYS_KILL, Jt: 6},
		{Code: equal, K: unix.SYS_TKILL, Jt: 5},
		{Code: equal, K: unix.SYS_RT_SIGQUEUEINFO, Jt: 4},
		{Code: equal, K: unix.SYS_RT_TGSIGQUEUEINFO, Jt: 3},
		{Code: equal, K: unix.SYS_TGKILL, Jf: 3},
		{Code: load, K: 16},
		{Code: equal, K: uint32(self), Jt: 1},
		{Code: end, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
	}
}
