//go:build linux

package suite_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tidwall/gjson"
)

// The two ways of freeing a port: four processes with pipes between them, and
// one. $1 is the port; the rest is for what ends processes. The exit codes come
// last on stderr.
const (
	piped  = `p=$1; shift; listeners "$p" | pidcheck | pkill2 "$@" | classify "$p"; echo "${PIPESTATUS[@]}" >&2`
	single = `p=$1; shift; killport "$@" "$p"; echo "${PIPESTATUS[@]}" >&2`
)

// situation is something that holds a port, and what must become of it.
type situation struct {
	name  string
	needs []string
	args  []string // of what ends processes
	loose bool     // others may be killed that came to light meanwhile
	set   func(*staging)
	want  verdict
	codes string // of the pipe; the last one is also killport's
	after func(*staging, outcome)
}

// staging is a situation that has come about.
type staging struct {
	*testing.T
	dir     string
	port    int
	roles   map[int]string
	cast    []*animal
	through []string // a command that runs the tools: another user, an ancestor
	asRole  string   // what that command itself is to us
}

// outcome is what the tools left behind.
type outcome struct {
	result
	verdict
	raw string // the record
}

// verdict is the record of classify, with roles in place of PIDs. A role is
// there once, however many play it.
type verdict struct {
	Status    string
	Killed    []string
	Failed    []string
	Ghost     []string
	Still     bool
	Remaining []string
	Released  []string
	Respawned []string // "who by whom"
	Reason    string
	Hint      string // without numbers
	Diagnosed string // the verdict of portdiag
}

// cleaned is the verdict where the holders of these roles were ended.
func cleaned(roles ...string) verdict { return verdict{Status: "cleaned", Killed: roles} }

// add plays a mode of the zoo; all that it names have the role, except for
// those whose role is told by what they are.
func (s *staging) add(role string, args ...string) *animal {
	s.Helper()
	a := zoo(s, s.dir, args...)
	for _, pid := range append([]int{a.PID}, a.PIDs...) {
		s.roles[pid] = role
	}
	for pid, role := range map[int]string{a.Parent: "parent", a.Supervisor: "supervisor", a.PeerPID: "peer", a.Child: "child"} {
		if pid != 0 && s.roles[pid] == "" {
			s.roles[pid] = role
		}
	}
	s.port = cmp.Or(s.port, a.Port)
	s.cast = append(s.cast, a)
	return a
}

// play is a situation with one mode of the zoo, the holder.
func play(args ...string) func(*staging) {
	return func(s *staging) { s.add("holder", args...) }
}

// at is an address with the port of the staging.
func (s *staging) at(host string) string { return host + ":" + strconv.Itoa(s.port) }

// fresh gives the staging a port on which nothing is yet.
func (s *staging) fresh() { s.port = freshPorts(1) }

// mark is where a holder says that it could do its work to the end.
func (s *staging) mark() string { return filepath.Join(s.dir, "mark") }

// marked fails the test unless the holder has said so, or says so soon.
func (s *staging) marked(word string) {
	s.Helper()
	if !eventually(patience, func() bool {
		b, _ := os.ReadFile(s.mark())
		return string(b) == word
	}) {
		s.Errorf("the holder could not finish: no %q", word)
	}
}

// live fails the test unless those that play the role live.
func (s *staging) live(role string) {
	s.Helper()
	n := 0
	for _, a := range s.cast {
		for pid := range a.pins {
			if s.roles[pid] == role {
				a.lives(s, pid)
				n++
			}
		}
	}
	if n == 0 {
		s.Errorf("nobody plays %q", role)
	}
}

// lives is an after that wants no more than that.
func lives(roles ...string) func(*staging, outcome) {
	return func(s *staging, _ outcome) {
		s.Helper()
		for _, role := range roles {
			s.live(role)
		}
	}
}

// TestSituations: the pipe and killport give the same verdict, which is the
// expected one, on fresh holders each.
func TestSituations(t *testing.T) {
	require(t, "private", "bash")
	for _, sit := range situations {
		t.Run(sit.name, func(t *testing.T) {
			t.Parallel()
			require(t, sit.needs...)
			sit.test(t)
		})
	}
}

func (sit situation) test(t *testing.T) {
	var pipe, one outcome
	t.Run("pipe", func(t *testing.T) { pipe = sit.try(t, piped) })
	t.Run("killport", func(t *testing.T) { one = sit.try(t, single) })
	if pipe.Status == "" || one.Status == "" {
		return // skipped, or failed with more to read
	}
	if pipe.Status == "ghost" { // what helps depends on who else may have it just then, of other tests too
		pipe.Hint, one.Hint = "", ""
	}
	if diff := gocmp.Diff(pipe.verdict, one.verdict, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the pipe (-) and killport (+) differ:\n%s\n%s\n%s", diff, pipe.raw, one.raw)
	}
}

// try lets the situation come about, frees the port by a script, and looks.
func (sit situation) try(t *testing.T, script string) outcome {
	s := &staging{T: t, dir: t.TempDir(), roles: map[int]string{0: "nobody"}}
	sit.set(s)
	got := s.free(script, sit.args)
	if sit.loose {
		got.Killed = slices.DeleteFunc(got.Killed, func(role string) bool { return role == another })
	}
	if diff := gocmp.Diff(sit.want, got.verdict, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(verdict{}, "Hint")); diff != "" {
		t.Errorf("verdict (-want +got):\n%s\n%s\n%s", diff, got.raw, got.stderr)
	}
	codes := strings.Fields(cmp.Or(sit.codes, "0 0 0 0"))
	if script == single {
		codes = codes[len(codes)-1:]
	}
	if want := strings.Join(codes, " ") + "\n"; !strings.HasSuffix("\n"+got.stderr, "\n"+want) {
		t.Errorf("stderr %q; want the exit codes %q", got.stderr, want)
	}
	if sit.after != nil {
		sit.after(s, got)
	}
	return got
}

// free runs the tools on the port.
func (s *staging) free(script string, args []string) outcome {
	s.Helper()
	argv := append(slices.Clone(s.through), "bash", "-c", script, "bash", strconv.Itoa(s.port))
	res := run(s, tool(limited(s), "", append(argv, args...)...))
	if s.asRole != "" {
		s.roles[res.pid] = s.asRole
	}
	return outcome{result: res, verdict: s.read(res.stdout), raw: res.stdout}
}

var number = regexp.MustCompile(`\d+`)

// address is that of a record, by which pkill2 asks again where it does not know
// what was asked for.
var address = regexp.MustCompile(`(\d+\.){3}\d+:|'?\[[0-9a-f:]+\]:`)

// read reads a record of classify.
func (s *staging) read(line string) verdict {
	s.Helper()
	if err := fitsSchema(line); err != nil || strings.Count(line, "\n") != 1 {
		s.Errorf("want one record: %v\n%s", err, line)
	}
	var r struct {
		Port           int
		Status         string
		Killed         []int
		Failed         []int
		Ghost          []int
		StillListening bool  `json:"still_listening"`
		RemainingPIDs  []int `json:"remaining_pids"`
		Released       []int
		Respawned      []struct {
			PID        int
			Supervisor struct{ PID int }
		}
		Reason, Hint string
		Diagnostics  struct{ Verdict string }
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		s.Fatalf("%q: %v", line, err)
	}
	v := verdict{
		Status: r.Status, Still: r.StillListening, Reason: r.Reason, Diagnosed: r.Diagnostics.Verdict,
		Killed: s.named(r.Killed), Failed: s.named(r.Failed), Ghost: s.named(r.Ghost),
		Remaining: s.named(r.RemainingPIDs), Released: s.named(r.Released),
		Hint: number.ReplaceAllString(address.ReplaceAllString(r.Hint, ""), "N"),
	}
	for _, again := range r.Respawned {
		v.Respawned = append(v.Respawned, s.role(again.PID)+" by "+s.role(again.Supervisor.PID))
	}
	return v
}

// another is the role of who was not there at first.
const another = "another"

func (s *staging) role(pid int) string { return cmp.Or(s.roles[pid], another) }

// named are the roles of PIDs.
func (s *staging) named(pids []int) []string {
	var roles []string
	for _, pid := range pids {
		roles = append(roles, s.role(pid))
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// quick is a grace period for those who will not use it.
var quick = []string{"--grace", "300ms"}

var situations = []situation{
	{name: "free", set: (*staging).fresh, want: verdict{Status: "free"}},
	{name: "ipv4", set: play("serve", "0.0.0.0:0"), want: cleaned("holder")},
	{name: "ipv6", needs: []string{"ipv6"}, set: play("serve", "--v6only", "[::]:0"), want: cleaned("holder")},
	{name: "dual_stack", needs: []string{"ipv6"}, set: play("serve", "[::]:0"), want: cleaned("holder")},
	{name: "loopback", needs: []string{"ipv6"}, set: play("serve", "--same-port", "127.0.0.1:0", "[::1]:0"), want: cleaned("holder")},
	{name: "two_addresses", set: play("two"), want: cleaned("holder")},
	{name: "reuseport", set: play("reuseport"), want: cleaned("holder")},
	{name: "reuseport_with_parent", set: play("reuseport", "--parent-holds"), want: cleaned("holder")},
	{name: "prefork", set: play("prefork"), want: cleaned("holder")},
	{
		// The workers come back as long as there is a master, which has to be killed.
		name: "prefork_stubborn", args: quick, loose: true,
		set:  play("prefork", "--stubborn"),
		want: cleaned("holder"),
	},
	{name: "orphan", set: play("orphan"), want: cleaned("holder")},
	{
		name: "term_ignored", args: quick,
		set: play("ignore-term"), want: cleaned("holder"),
		after: func(s *staging, o outcome) {
			if o.took < 300*time.Millisecond {
				s.Errorf("it was given %v, want 300 ms", o.took)
			}
		},
	},
	{name: "term_blocked", args: quick, set: play("block-term"), want: cleaned("holder")},
	{
		name: "slow_clean_exit",
		set:  play("slow", "--for", "900ms", "--mark", "mark"), want: cleaned("holder"),
		after: func(s *staging, _ outcome) { s.marked("clean") },
	},
	{
		name: "stopped",
		set: func(s *staging) {
			a := s.add("holder", "stopped", "--mark", "mark")
			if !eventually(patience, func() bool { return procState(a.PID) == "T" }) {
				s.Fatal("it does not stop")
			}
		},
		want:  cleaned("holder"),
		after: func(s *staging, _ outcome) { s.marked("handled") },
	},
	{
		name: "draining",
		set:  play("drain", "--for", "2500ms", "--mark", "mark"),
		want: verdict{Status: "cleaned", Released: []string{"holder"}},
		after: func(s *staging, o outcome) {
			s.live("holder") // it was not waited for
			s.marked("drained")
		},
	},
	{
		name: "respawned",
		set:  play("respawn"),
		want: verdict{
			Status: "stuck", Killed: []string{"holder"}, Still: true, Remaining: []string{another},
			Respawned: []string{"another by supervisor"}, Reason: "respawned", Diagnosed: "held",
		},
		codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			s.live("supervisor")
			hint := fmt.Sprintf("end what starts it again, zoo (PID %d): kill %[1]d", s.cast[0].Supervisor)
			if got := gjson.Get(o.raw, "hint").String(); got != hint {
				s.Errorf("hint %q, want %q", got, hint)
			}
		},
	},
	{
		name: "respawned_slowly", // the new one is there at once, and listens later
		set:  play("respawn", "--warmup", "700ms"),
		want: verdict{
			Status: "stuck", Killed: []string{"holder"}, Still: true, Remaining: []string{another},
			Respawned: []string{"another by supervisor"}, Reason: "respawned", Diagnosed: "held",
		},
		codes: "0 0 1 1",
	},
	{
		name: "client_of_the_port",
		set: func(s *staging) {
			s.add("holder", "serve", "127.0.0.1:0")
			s.add("client", "client", s.at("127.0.0.1"))
		},
		want:  cleaned("holder"),
		after: lives("client"),
	},
	{
		name: "local_port_of_a_connection",
		set: func(s *staging) {
			s.fresh()
			s.add("client", "client", "--local-port", strconv.Itoa(s.port))
		},
		want:  verdict{Status: "stuck", Reason: "in_use", Diagnosed: "blocked"},
		codes: "0 0 0 1",
		after: lives("client", "peer"),
	},
	{
		name:  "local_port_of_a_connection_beside",
		needs: []string{"ipv6"},
		set: func(s *staging) {
			s.fresh()
			s.add("client", "client", "--local-port", strconv.Itoa(s.port))
			s.add("holder", "serve", s.at("[::1]"))
		},
		want:  verdict{Status: "stuck", Killed: []string{"holder"}, Reason: "in_use", Diagnosed: "blocked"},
		codes: "0 0 0 1",
		after: lives("client", "peer"),
	},
	{name: "time_wait", set: play("timewait", "--stay"), want: verdict{Status: "free"}, after: lives("holder")},
	{name: "bound", set: play("bound"), want: cleaned("holder")},
	{
		name: "mptcp",
		set: func(s *staging) {
			if !s.add("holder", "serve", "--mptcp", "--http").MPTCP {
				s.Skip("the kernel gives no MPTCP socket")
			}
		},
		want: cleaned("holder"),
	},
	{
		name: "udp_beside_tcp",
		set: func(s *staging) {
			s.add("holder", "serve", "127.0.0.1:0")
			s.add("udp", "udp", s.at("127.0.0.1"))
		},
		want:  cleaned("holder"),
		after: lives("udp"),
	},
	{name: "udp_and_tcp_of_one", set: play("both"), want: cleaned("holder")},
	{
		name: "other_user", needs: []string{"otheruser"},
		set: func(s *staging) {
			s.add("holder", "serve")
			s.through = nobody
		},
		want: verdict{
			Status: "partial", Failed: []string{"nobody"}, Still: true, Remaining: []string{"nobody"}, Reason: "hidden",
		},
		codes: "0 0 1 1",
		after: lives("holder"),
	},
	{
		name: "init", args: []string{"--override"}, // which is not for PID 1
		set: func(s *staging) {
			s.fresh()
			s.roles[1] = "init"
			s.through = []string{
				"unshare", "--fork", "--kill-child", "--pid", "--mount-proc",
				"zoo", "run-holding", s.at("127.0.0.1"), "--",
			}
		},
		want: verdict{
			Status: "partial", Failed: []string{"init"}, Still: true, Remaining: []string{"init"}, Reason: "init",
		},
		codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			if o.code != 0 { // unshare says how its child ended
				s.Errorf("PID 1 ended with %d", o.code)
			}
		},
	},
	{
		name: "ancestor",
		set:  ancestor,
		want: verdict{
			Status: "partial", Failed: []string{"shell"}, Still: true, Remaining: []string{"shell"}, Reason: "ancestor",
		},
		codes: "0 0 1 1",
		after: func(s *staging, o outcome) {
			if o.code != 0 {
				s.Errorf("the ancestor ended with %d", o.code)
			}
		},
	},
	{
		name: "ancestor_overridden", args: []string{"--override"},
		set:  ancestor,
		want: cleaned("shell"),
		after: func(s *staging, o outcome) {
			if o.code != -1 {
				s.Errorf("the ancestor exited with %d, want a signal", o.code)
			}
		},
	},
	{
		name: "three_stubborn", args: []string{"--grace", "1s"},
		set: func(s *staging) {
			s.add("holder", "ignore-term", "127.0.0.1:0")
			s.add("holder", "ignore-term", s.at("127.0.0.2"))
			s.add("holder", "block-term", s.at("127.0.0.3"))
		},
		want: cleaned("holder"),
		after: func(s *staging, o outcome) {
			if took := gjson.Get(o.raw, "took_ms").Int(); took < 900 || took >= 2000 {
				s.Errorf("took %d ms, which is not one grace period", took)
			}
		},
	},
	{name: "thread_fds", set: play("thread-fds"), want: cleaned("holder")},
	{name: "leader_gone", set: play("leader-gone"), want: cleaned("holder")},
	{name: "clone_files", set: play("clone-files"), want: cleaned("holder"), after: lives("parent")},
	{name: "vfork", args: quick, set: play("vfork"), want: cleaned("holder"), after: lives("parent")},
	{name: "io_uring", set: play("iouring"), want: cleaned("holder")},
	{name: "io_uring_accepting", set: play("iouring", "--accept"), want: cleaned("holder")},
	{
		name: "ghost", needs: []string{"ghosts"},
		set: func(s *staging) {
			s.add("holder", "scm")
			s.through = []string{"seeing"}
		},
		want: verdict{
			Status: "ghost", Ghost: []string{"nobody"}, Still: true, Remaining: []string{"nobody"},
			Reason: "ghost", Diagnosed: "ghost",
		},
		codes: "0 0 1 1",
		after: lives("holder"),
	},
	{name: "many_threads", set: play("threads", "--n", "200"), want: cleaned("holder")},
}

// ancestor has the tools run by a process that holds the port.
func ancestor(s *staging) {
	s.fresh()
	s.asRole = "shell"
	s.through = []string{"zoo", "run-holding", s.at("127.0.0.1"), "--"}
}

// procState is the letter of /proc/PID/stat.
func procState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}
