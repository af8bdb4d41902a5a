package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var zoo string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "zoo")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	zoo = filepath.Join(dir, "zoo")
	if out, err := exec.Command("go", "build", "-o", zoo, ".").CombinedOutput(); err != nil {
		log.Printf("go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A specimen is a mode that runs.
type specimen struct {
	ready
	cmd    *exec.Cmd
	done   chan struct{}
	pidfds map[int]int // of PIDs and our child, so that no signal meets another process
}

// start plays a mode and checks, at the end of the test, that letting go of the leash leaves nobody behind.
func start(t *testing.T, mode string, args ...string) *specimen {
	t.Helper()
	s := &specimen{done: make(chan struct{}), pidfds: map[int]int{}}
	s.cmd = exec.Command(zoo, append([]string{mode, "--life=60s", "--leash"}, args...)...)
	var stderr bytes.Buffer
	s.cmd.Stderr = &stderr
	stdin, leash := must2(os.Pipe()) // not StdinPipe, which Wait closes
	r, w := must2(os.Pipe())
	s.cmd.Stdin = stdin
	s.cmd.Stdout = w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	w.Close()
	line, _ := bufio.NewReader(r).ReadBytes('\n')
	r.Close()
	if err := json.Unmarshal(line, &s.ready); err != nil {
		leash.Close()
		if s.cmd.Wait(); s.cmd.ProcessState.ExitCode() == 2 && strings.Contains(stderr.String(), "unsupported") {
			t.Skip(stderr.String())
		}
		t.Fatalf("zoo %s %q: %q is not a ready: %v, %s", mode, args, line, err, stderr.String())
	}
	s.pin(t, append(s.PIDs, s.PID))
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		leash.Close()
		eventually(t, "zoo ends with its leash", func() bool {
			s.cmd.Process.Signal(unix.SIGCONT) // a stopped one cannot notice
			return isClosed(s.done)
		})
		for pid, fd := range s.pidfds {
			eventually(t, fmt.Sprintf("%d ends with its leash", pid), func() bool { return ended(fd) })
			unix.Close(fd)
		}
	})
	return s
}

func (s *specimen) pin(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if s.pidfds[pid] != 0 {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatalf("pidfd_open(%d): %v", pid, err)
		}
		if err == nil {
			s.pidfds[pid] = fd
		}
	}
}

func (s *specimen) signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	fd, ok := s.pidfds[pid]
	if !ok {
		t.Fatalf("%d is not ours", pid)
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		t.Fatalf("pidfd_send_signal(%d, %v): %v", pid, sig, err)
	}
}

// gone waits for the end of a process other than the one that we started.
func (s *specimen) gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d ends", pid), func() bool { return ended(s.pidfds[pid]) })
}

// exit waits for the process that we started.
func (s *specimen) exit(t *testing.T) *os.ProcessState {
	t.Helper()
	eventually(t, "zoo ends", func() bool { return isClosed(s.done) })
	return s.cmd.ProcessState
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// ended: a pidfd is readable when its process has ended.
func ended(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return n == 1 && err == nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so within 20s: %s", what)
		}
	}
}

// Socket states of include/net/tcp_states.h, as /proc/net/tcp has them.
const (
	established = "01"
	waiting     = "06"
	closed      = "07" // an unconnected UDP socket
	listening   = "0A"
)

// inodes are those of the sockets with this local port and state.
//
// If addresses are given, only those count: another test may have the port on another one. The kernel shows a row
// again when other sockets come while the table is read (tcp_seq_start, net/ipv4/tcp_ipv4.c).
func inodes(t *testing.T, proto string, port int, state string, addrs ...string) (found []string) {
	t.Helper()
	var rows []string
	for _, addr := range addrs {
		rows = append(rows, row(netip.MustParseAddrPort(addr)))
	}
	type socket struct{ local, remote, inode string }
	seen := map[socket]bool{}
	for _, file := range []string{"/proc/net/" + proto, "/proc/net/" + proto + "6"} {
		table, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) || f[3] != state ||
				(len(rows) > 0 && !slices.Contains(rows, f[1])) {
				continue
			}
			if s := (socket{f[1], f[2], f[9]}); !seen[s] {
				seen[s] = true
				found = append(found, s.inode)
			}
		}
	}
	return found
}

// row is how /proc/net/tcp has an address: 32-bit words in the byte order of the host, and the port.
func row(addr netip.AddrPort) string {
	var words strings.Builder
	for word := range slices.Chunk(addr.Addr().AsSlice(), 4) {
		fmt.Fprintf(&words, "%08X", binary.NativeEndian.Uint32(word))
	}
	return fmt.Sprintf("%s:%04X", &words, addr.Port())
}

// holders are the threads, by process, that have the socket open.
func holders(t *testing.T, inode string) map[int][]int {
	t.Helper()
	found := map[int][]int{}
	for _, fd := range must(filepath.Glob("/proc/[0-9]*/task/[0-9]*/fd/[0-9]*")) {
		if link, err := os.Readlink(fd); err != nil || link != "socket:["+inode+"]" {
			continue
		}
		part := strings.Split(fd, "/")
		pid, tid := must(strconv.Atoi(part[2])), must(strconv.Atoi(part[4]))
		if !slices.Contains(found[pid], tid) {
			found[pid] = append(found[pid], tid)
		}
	}
	return found
}

// holdersOf are the processes that have listeners on the port.
func holdersOf(t *testing.T, port int, addrs ...string) []int {
	t.Helper()
	pids := []int{}
	for _, inode := range inodes(t, "tcp", port, listening, addrs...) {
		for pid := range holders(t, inode) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

func isFree(t *testing.T, port int) {
	t.Helper()
	eventually(t, fmt.Sprintf("nobody listens on %d", port), func() bool { return len(inodes(t, "tcp", port, listening)) == 0 })
}

// stat gives the state and the parent out of /proc/PID/stat, whatever the process is called.
func stat(t *testing.T, pid int) (state string, ppid int) {
	t.Helper()
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return f[0], must(strconv.Atoi(f[1]))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func must2[A, B any](a A, b B, err error) (A, B) {
	return must(a, err), b
}

// Every mode with a listener: the kernel's table has as many as it says, and those that have them open are its pids.
func TestListeners(t *testing.T) {
	for _, test := range []struct {
		args  string
		count int
	}{
		{"serve", 1},
		{"serve [::]:0", 1},
		{"serve [::1]:0", 1},
		{"serve --same-port --v6only 0.0.0.0:0 [::]:0", 2},
		{"serve --same-port 127.0.0.1:0 127.0.0.2:0 [::1]:0", 3},
		{"serve --mptcp", 1},
		{"both", 1},
		{"ignore-term", 1},
		{"block-term", 1},
		{"slow", 1},
		{"drain", 1},
		{"stopped", 1},
		{"reuseport", 3},
		{"reuseport --n=2 --parent-holds [::1]:0", 3},
		{"prefork", 1},
		{"prefork --n=2 --orphan-on-kill=false [::]:0", 1},
		{"orphan", 1},
		{"respawn", 1},
		{"two", 2},
		{"crowd --n=4", 4},
		{"crowd --n=4 --holds=socket --stubborn [::1]:0", 1},
		{"thread-fds", 1},
		{"leader-gone", 1},
		{"clone-files", 1},
		{"vfork", 1},
		{"scm", 1},
		{"scm --cycle", 1},
		{"scm --cycle --keep", 1},
		{"scm --mptcp --reuseport", 1},
		{"traced", 1},
		{"traced --exit-stop", 1},
		{"hung", 1},
		{"hung --thread", 1},
		{"lingering", 1},
		{"iouring", 1},
		{"iouring --accept", 1},
		{"hostile-name --comm ) --argv \\n", 1},
		{"memory --bytes=100000000", 1},
		{"many --n=3 --idle-fds=4", 1},
		{"threads --n=20", 1},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(test.args)
			s := start(t, args[0], args[1:]...)
			addrs := append(slices.Clone(s.Addrs), s.Addr)
			if got := inodes(t, "tcp", s.Port, listening, addrs...); len(got) != test.count {
				t.Errorf("%d sockets listen on %d; want %d", len(got), s.Port, test.count)
			}
			want := slices.Clone(s.PIDs)
			slices.Sort(want)
			if got := holdersOf(t, s.Port, addrs...); !slices.Equal(got, want) {
				t.Errorf("%v have them; want %v", got, want)
			}
			if s.Addr == "" || portOf(s.Addr) != s.Port || s.PID == 0 {
				t.Errorf("ready = %+v", s.ready)
			}
		})
	}
}

func TestServeAnswers(t *testing.T) {
	s := start(t, "serve", "--http", "--port-file="+filepath.Join(t.TempDir(), "port"))
	resp, err := http.Get("http://" + s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" || resp.StatusCode != http.StatusOK || err != nil {
		t.Errorf("GET = %s %q, %v; want 200 ok", resp.Status, body, err)
	}
	s.signal(t, s.PID, unix.SIGTERM)
	if got := s.exit(t).Sys().(syscall.WaitStatus); got.Signal() != unix.SIGTERM {
		t.Errorf("serve ended with %v; want SIGTERM", got)
	}
}

func TestMPTCP(t *testing.T) {
	on, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	if err != nil || string(on) != "1\n" {
		t.Skip("no MPTCP here")
	}
	if s := start(t, "serve"); s.MPTCP {
		t.Error("serve is MPTCP unasked")
	}
	if s := start(t, "serve", "--mptcp"); !s.MPTCP {
		t.Error("serve --mptcp is not MPTCP")
	}
}

func TestUDP(t *testing.T) {
	for _, mode := range []string{"udp", "both"} {
		s := start(t, mode)
		got := inodes(t, "udp", s.Port, closed)
		if len(got) != 1 || holders(t, got[0])[s.PID] == nil {
			t.Errorf("%s: UDP sockets %v on %d; want one, of %d", mode, got, s.Port, s.PID)
		}
	}
}

// Sockets that are on the port without listening.
func TestNoListener(t *testing.T) {
	for _, test := range []struct {
		mode  string
		state string // in /proc/net/tcp; a socket that is only bound is not there
	}{
		{"client", established},
		{"connected", established},
		{"timewait", waiting},
		{"bound", ""},
	} {
		s := start(t, test.mode)
		if got := inodes(t, "tcp", s.Port, listening); got != nil {
			t.Errorf("%s: listeners %v", test.mode, got)
		}
		if test.state != "" {
			eventually(t, test.mode+" has a socket", func() bool { return len(inodes(t, "tcp", s.Port, test.state)) == 1 })
		}
	}
}

// Neither can be had, not even with SO_REUSEADDR, which net.Listen sets.
func TestBlockedPort(t *testing.T) {
	for _, mode := range []string{"bound", "connected"} {
		s := start(t, mode)
		if l, err := net.Listen("tcp4", s.Addr); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s: net.Listen = %v, %v; want EADDRINUSE", mode, l, err)
		}
	}
}

func TestClientFromPort(t *testing.T) {
	peer := start(t, "serve")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(l.Addr().String())
	l.Close()
	s := start(t, "client", "--local-port="+strconv.Itoa(port), peer.Addr)
	if s.Port != port || s.Peer != peer.Addr {
		t.Errorf("client = %+v; want it from %d to %s", s.ready, port, peer.Addr)
	}
}

func TestIgnored(t *testing.T) {
	for mode, set := range map[string]string{"ignore-term": "SigIgn", "block-term": "SigBlk"} {
		s := start(t, mode)
		if got := signalSet(t, s.PID, set); got&(1<<(unix.SIGTERM-1)) == 0 {
			t.Errorf("%s: %s = %#x; want SIGTERM in it", mode, set, got)
		}
		s.signal(t, s.PID, unix.SIGTERM)
		s.signal(t, s.PID, unix.SIGKILL)
		s.gone(t, s.PID)
		isFree(t, s.Port)
	}
}

func signalSet(t *testing.T, pid int, name string) uint64 {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))))) {
		if hex, ok := strings.CutPrefix(line, name+":"); ok {
			return must(strconv.ParseUint(strings.TrimSpace(hex), 16, 64))
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// On SIGTERM the one still listens while it cleans up, the other does not.
func TestCleanUp(t *testing.T) {
	for _, test := range []struct {
		mode, word string
		listens    bool
	}{
		{"slow", "clean", true},
		{"drain", "drained", false},
	} {
		t.Run(test.mode, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "mark")
			s := start(t, test.mode, "--for=1s", "--mark="+mark)
			s.signal(t, s.PID, unix.SIGTERM)
			if !test.listens {
				isFree(t, s.Port)
			}
			if got := inodes(t, "tcp", s.Port, listening) != nil; got != test.listens || isClosed(s.done) {
				t.Errorf("after SIGTERM it listens: %v, has ended: %v; want %v, false", got, isClosed(s.done), test.listens)
			}
			if code := s.exit(t).ExitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if got, err := os.ReadFile(mark); string(got) != test.word {
				t.Errorf("mark = %q, %v; want %q", got, err, test.word)
			}
		})
	}
}

func TestStopped(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	s := start(t, "stopped", "--mark="+mark)
	eventually(t, "state T", func() bool { state, _ := stat(t, s.PID); return state == "T" })
	s.signal(t, s.PID, unix.SIGTERM)
	s.signal(t, s.PID, unix.SIGCONT)
	s.exit(t)
	if got, err := os.ReadFile(mark); string(got) != "handled" {
		t.Errorf("mark = %q, %v; want handled", got, err)
	}
}

func TestLifeEnds(t *testing.T) {
	var all []*specimen
	for _, mode := range []string{"serve", "stopped", "ignore-term", "leader-gone", "prefork", "orphan", "vfork", "clone-files"} {
		all = append(all, start(t, mode, "--life=2s"))
	}
	for _, s := range all {
		for pid := range s.pidfds {
			s.gone(t, pid)
		}
		isFree(t, s.Port)
	}
}

func TestWorkersAreReplaced(t *testing.T) {
	s := start(t, "prefork", "--stubborn")
	s.signal(t, s.PID, unix.SIGTERM)
	s.signal(t, s.Workers[0], unix.SIGKILL)
	s.gone(t, s.Workers[0])
	eventually(t, "another worker", func() bool {
		now := holdersOf(t, s.Port)
		return len(now) == len(s.PIDs) && !slices.Contains(now, s.Workers[0])
	})
	s.pin(t, holdersOf(t, s.Port))
}

func TestMasterEndsWorkers(t *testing.T) {
	s := start(t, "prefork")
	s.signal(t, s.PID, unix.SIGTERM)
	if code := s.exit(t).ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, pid := range s.Workers {
		s.gone(t, pid)
	}
	isFree(t, s.Port)
}

func TestMasterKilled(t *testing.T) {
	s := start(t, "prefork")
	s.signal(t, s.PID, unix.SIGKILL)
	s.exit(t)
	for _, pid := range s.Workers {
		if _, ppid := stat(t, pid); ppid == s.PID {
			t.Errorf("%d still has its parent %d", pid, ppid)
		}
	}
	want := slices.Sorted(slices.Values(s.Workers))
	if got := holdersOf(t, s.Port); !slices.Equal(got, want) {
		t.Errorf("holders %v; want the workers %v", got, want)
	}
}

func TestMasterKilledWithLeash(t *testing.T) {
	s := start(t, "prefork", "--orphan-on-kill=false")
	s.signal(t, s.PID, unix.SIGKILL)
	isFree(t, s.Port)
}

func TestOrphan(t *testing.T) {
	s := start(t, "orphan")
	if code := s.exit(t).ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, ppid := stat(t, s.PID); ppid == s.Parent {
		t.Errorf("parent %d; want another", ppid)
	}
	if got := holdersOf(t, s.Port); !slices.Equal(got, []int{s.PID}) {
		t.Errorf("holders %v; want %d", got, s.PID)
	}
}

func TestRespawn(t *testing.T) {
	s := start(t, "respawn")
	began := time.Now()
	s.signal(t, s.PID, unix.SIGTERM)
	s.gone(t, s.PID)
	var now []int
	eventually(t, "another server", func() bool { now = holdersOf(t, s.Port); return len(now) == 1 && now[0] != s.PID })
	t.Logf("taken again after %v", time.Since(began))
	if _, ppid := stat(t, now[0]); ppid != s.Supervisor {
		t.Errorf("its parent is %d; want the supervisor %d", ppid, s.Supervisor)
	}
	s.cmd.Process.Signal(unix.SIGTERM)
	if code := s.exit(t).ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := inodes(t, "tcp", s.Port, listening); got != nil {
		t.Error("the server outlives its supervisor")
	}
}

func TestGroupEnds(t *testing.T) {
	for _, mode := range []string{"reuseport", "two"} {
		s := start(t, mode)
		for _, pid := range s.PIDs {
			s.signal(t, pid, unix.SIGTERM)
		}
		if code := s.exit(t).ExitCode(); code != 0 {
			t.Errorf("%s: exit code %d", mode, code)
		}
		isFree(t, s.Port)
	}
}

func TestThreadFDs(t *testing.T) {
	s := start(t, "thread-fds")
	inode := inodes(t, "tcp", s.Port, listening)[0]
	if got := holders(t, inode)[s.PID]; !slices.Equal(got, []int{s.TID}) || s.TID == s.PID {
		t.Errorf("threads %v have it; want %d only", got, s.TID)
	}
}

func TestLeaderGone(t *testing.T) {
	s := start(t, "leader-gone")
	if state, _ := stat(t, s.PID); state != "Z" {
		t.Errorf("state %s; want Z", state)
	}
	if fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID)); len(fds) != 0 {
		t.Errorf("/proc/PID/fd has %v; want nothing", fds)
	}
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.signal(t, s.PID, unix.SIGTERM)
	s.gone(t, s.PID)
}

// kcmp(2) with KCMP_FILES, which is 2, says whether two processes have one table.
func TestCloneFiles(t *testing.T) {
	for mode, shared := range map[string]bool{"clone-files": true, "vfork": false} {
		s := start(t, mode)
		diff, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(s.PIDs[0]), uintptr(s.PIDs[1]), 2, 0, 0, 0)
		if errno != 0 {
			t.Skip("kcmp:", errno)
		}
		if (diff == 0) != shared {
			t.Errorf("%s: kcmp = %d; want one table: %v", mode, diff, shared)
		}
	}
}

func TestVfork(t *testing.T) {
	s := start(t, "vfork")
	eventually(t, "state D", func() bool { state, _ := stat(t, s.PID); return state == "D" })
	if _, ppid := stat(t, s.PIDs[1]); ppid != s.PID {
		t.Errorf("the second one's parent is %d; want %d", ppid, s.PID)
	}
	for _, pid := range s.PIDs {
		s.signal(t, pid, unix.SIGTERM)
		s.gone(t, pid)
	}
	isFree(t, s.Port)
}

// The ghosts end with the process that made them, if not at once.
func TestGhostsEnd(t *testing.T) {
	for _, args := range [][]string{{"scm"}, {"scm", "--cycle"}, {"iouring"}, {"iouring", "--accept"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			s := start(t, args[0], args[1:]...)
			s.signal(t, s.PID, unix.SIGKILL)
			s.exit(t)
			isFree(t, s.Port)
		})
	}
}

// A ghost without any process, until somebody, here this test, closes a unix socket.
func TestGhostOutlives(t *testing.T) {
	s := start(t, "scm", "--outlive")
	s.signal(t, s.PID, unix.SIGKILL)
	s.exit(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(inodes(t, "tcp", s.Port, listening)) == 0 {
		t.Log("somebody else was faster")
	}
	unix.Close(fd)
	isFree(t, s.Port)
}

// A pending accept takes the connection, nobody else does.
func TestPendingAccept(t *testing.T) {
	s := start(t, "iouring", "--accept")
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var accepted []string
	eventually(t, "accepted", func() bool {
		accepted = inodes(t, "tcp", s.Port, established)
		return len(accepted) == 1 && holders(t, accepted[0])[s.PID] != nil
	})
}

func TestHostileName(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "a) R 1\n")
	s := start(t, "hostile-name", `--comm=\x1b]0;x\a`, `--argv=\x1b[2J`, `--argv=a\nb`, "--argv-bytes=4194304",
		"--exe="+strings.ReplaceAll(exe, "\n", `\n`), "[::1]:0")
	dir := fmt.Sprintf("/proc/%d/", s.PID)
	if got := string(must(os.ReadFile(dir + "comm"))); got != "\x1b]0;x\a\n" {
		t.Errorf("comm = %q", got)
	}
	if got := string(must(os.ReadFile(dir + "cmdline"))); len(got) != 4<<20 || !strings.HasPrefix(got, "\x1b[2J\x00a\nb\x00xxx") {
		t.Errorf("cmdline = %.20q..., %d bytes", got, len(got))
	}
	if got := must(os.Readlink(dir + "exe")); got != exe {
		t.Errorf("exe = %q; want %q", got, exe)
	}
	if !strings.HasPrefix(s.Addr, "[::1]:") {
		t.Errorf("addr = %s", s.Addr)
	}
}

func TestTraced(t *testing.T) {
	for _, stays := range []bool{false, true} {
		s := start(t, "traced", fmt.Sprintf("--exit-stop=%v", stays))
		if got := s.threads(t); len(got) < 2 || slices.ContainsFunc(got, func(state string) bool { return state != "t" }) {
			t.Errorf("its threads are in %q; want t", got)
		}
		if status := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID)))); !strings.Contains(status, fmt.Sprintf("\nTracerPid:\t%d\n", s.Tracer)) {
			t.Errorf("PID %d does not trace it:\n%s", s.Tracer, status)
		}
		if !stays { // what it does otherwise is seen by its tracer only
			s.signal(t, s.PID, unix.SIGKILL)
			isFree(t, s.Port)
		}
	}
}

func TestHung(t *testing.T) {
	for _, thread := range []bool{false, true} {
		s := start(t, "hung", fmt.Sprintf("--thread=%v", thread))
		s.signal(t, s.PID, unix.SIGKILL)
		want := []string{"D"}
		if thread {
			want = []string{"Z", "D"}
		}
		eventually(t, fmt.Sprintf("threads in %q", want), func() bool { return slices.Equal(s.threads(t), want) })
		if ended(s.pidfds[s.PID]) || len(inodes(t, "tcp", s.Port, listening)) != 1 {
			t.Error("it has ended")
		}
	}
}

func TestLingering(t *testing.T) {
	s := start(t, "lingering", "--for=300ms")
	began := time.Now()
	s.signal(t, s.PID, unix.SIGTERM)
	s.gone(t, s.PID)
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it took %v; want 300ms", took)
	}
	isFree(t, s.Port)
}

// threads are the states of its threads.
func (s *specimen) threads(t *testing.T) (states []string) {
	t.Helper()
	for _, file := range must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.PID))) {
		if b, err := os.ReadFile(file); err == nil {
			states = append(states, strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[0])
		}
	}
	return states
}

func TestMemory(t *testing.T) {
	const size = 200_000_000
	s := start(t, "memory", "--bytes="+strconv.Itoa(size))
	statm := strings.Fields(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.PID)))))
	if resident := must(strconv.Atoi(statm[1])) * os.Getpagesize(); resident < size {
		t.Errorf("%d bytes are resident; want %d", resident, size)
	}
}

func TestMany(t *testing.T) {
	s := start(t, "many", "--n=50", "--idle-fds=20")
	for _, port := range s.Ports {
		if got := inodes(t, "tcp", port, listening); len(got) != 1 {
			t.Errorf("listeners on %d: %v", port, got)
		}
	}
	sockets := 0
	for _, fd := range must(filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID))) {
		if link, _ := os.Readlink(fd); strings.HasPrefix(link, "socket:") {
			sockets++
		}
	}
	if len(s.Ports) != 50 || sockets != 70 {
		t.Errorf("%d ports, %d sockets; want 50, 70", len(s.Ports), sockets)
	}
}

func TestSpan(t *testing.T) {
	s := start(t, "serve", "--child")
	if state, ppid := stat(t, s.Child); ppid != s.PID || len(holders(t, inodes(t, "tcp", s.Port, listening)[0])[s.Child]) > 0 {
		t.Errorf("PID %d in state %s is a child of %d", s.Child, state, ppid)
	}
	s.pin(t, []int{s.Child})
	s.signal(t, s.PID, unix.SIGTERM)
	s.exit(t)
	if ended(s.pidfds[s.Child]) {
		t.Error("the child has ended with it")
	}
	for addrs, want := range map[string]int{"127.0.0.1:8000-8009": 10, "[::1]:8000": 1, "127.0.0.1:8001-8000": 1, "x-y": 1} {
		if got := span(addrs); len(got) != want {
			t.Errorf("span(%q) = %q; want %d", addrs, got, want)
		}
	}
}

func TestCrowd(t *testing.T) {
	s := start(t, "crowd", "--n=50", "--holds=ports", "--unreaped")
	for i, port := range s.Ports {
		if got := holdersOf(t, port); !slices.Equal(got, s.PIDs[i:i+1]) {
			t.Errorf("port %d is held by %v, want %d", port, got, s.PIDs[i])
		}
	}
	if len(s.Ports) != 50 || s.Parent == s.PID {
		t.Errorf("%d ports, parent %d of %d", len(s.Ports), s.Parent, s.PID)
	}
	s.signal(t, s.PID, unix.SIGTERM)
	eventually(t, "it is a zombie", func() bool { state, _ := stat(t, s.PID); return state == "Z" })
	if s := start(t, "crowd", "--n=50", "--holds=nothing"); len(s.PIDs) != 50 || s.Port != 0 {
		t.Errorf("%d processes, port %d", len(s.PIDs), s.Port)
	}
}

func TestStorm(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		s := start(t, "storm", "--for=500ms", fmt.Sprintf("--stubborn=%v", stubborn)) // a walk over /proc takes a while
		inode := inodes(t, "tcp", s.Port, listening)
		had := map[int]bool{}
		eventually(t, "three have had it", func() bool {
			for _, pid := range holdersOf(t, s.Port) {
				had[pid] = true
			}
			return len(had) > 2
		})
		if got := inodes(t, "tcp", s.Port, listening); !slices.Equal(got, inode) {
			t.Errorf("sockets %v, then %v", inode, got)
		}
	}
}

func TestThreads(t *testing.T) {
	s := start(t, "threads")
	if got := len(must(os.ReadDir(fmt.Sprintf("/proc/%d/task", s.PID)))); got < 500 {
		t.Errorf("%d threads; want 500", got)
	}
}

func TestRunHolding(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port")
	cmd := exec.Command(zoo, "run-holding", "--port-file="+file, "127.0.0.1:0", "--", "sh", "-c", `echo $PPID {port}; exit 7`)
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit code %d, %v; want 7", cmd.ProcessState.ExitCode(), err)
	}
	if want := fmt.Sprintf("%d %s\n", cmd.Process.Pid, must(os.ReadFile(file))); string(out) != want {
		t.Errorf("command says %q; want %q", out, want)
	}
}

func TestChurn(t *testing.T) {
	s := start(t, "churn", "--n=2", "--for=200ms")
	next := func() int { return must(strconv.Atoi(strings.Fields(string(must(os.ReadFile("/proc/loadavg"))))[4])) }
	first := next()
	eventually(t, "other PIDs", func() bool { return next() != first })
	if code := s.exit(t).ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSleep(t *testing.T) {
	if s := start(t, "sleep"); len(s.PIDs) != 0 || s.Port != 0 || s.PID != s.cmd.Process.Pid {
		t.Errorf("ready = %+v", s.ready)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"lion"},
		{"serve", "--roar"},
		{"serve", "--stubborn"},
		{"run-holding", "127.0.0.1:0"},
		{"hostile-name", `--comm=\`},
	} {
		var out, errs bytes.Buffer
		cmd := exec.Command(zoo, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 2 || out.Len() > 0 || !strings.HasPrefix(errs.String(), "zoo: usage") {
			t.Errorf("zoo %q = %d, %q, %q; want a usage error", args, code, &out, &errs)
		}
	}
}

func TestHelp(t *testing.T) {
	out, err := exec.Command(zoo, "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modes() {
		if !strings.Contains(string(out), "\n  "+m.name+" ") {
			t.Errorf("help lacks %s", m.name)
		}
	}
}
