//go:build linux

package suite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// stranger is nobody with no group of root's either: hidepid=2 makes an
// exception for members of the group gid=, which is 0.
var stranger = []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}

// withoutPtrace is root as it is in most containers.
var withoutPtrace = []string{"setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"}

// withoutNetAdmin likewise.
var withoutNetAdmin = []string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}

// withProc runs a command where /proc is changed, by a shell command.
func withProc(change string, through ...string) []string {
	return append([]string{"unshare", "--mount", "sh", "-c", change + ` && exec "$@"`, "sh"}, through...)
}

const (
	invisible = "mount -t proc -o hidepid=2 proc /proc"
	// Below the /proc of these namespaces there are those of the outer ones.
	noProc = "while umount -l /proc 2>/dev/null; do :; done; [ ! -e /proc/1 ]"
)

// sight is a way to look, and what there is to be seen.
type sight struct {
	name    string
	through []string // runs the commands
	own     []string // starts a holder that is the same user as the commands
	root    seen     // root's holder
	mine    seen     // the own one
	uids    [2]int   // of the sockets, as the commands see them: root's, the own one's
	hint    string   // is part of what helps against hiding
}

type seen bool

const (
	hidden seen = false
	named  seen = true
)

var sights = []sight{
	{name: "other_user", through: stranger, own: stranger, mine: named, uids: [2]int{0, 65534}, hint: "run it as root"},
	{name: "hidepid_1", through: withProc("mount -t proc -o hidepid=1 proc /proc", stranger...), own: stranger, mine: named, uids: [2]int{0, 65534}, hint: "run it as root"},
	{name: "hidepid_2", through: withProc(invisible, stranger...), own: stranger, mine: named, uids: [2]int{0, 65534}, hint: "run it as root"},
	{name: "hidepid_4", through: withProc("mount -t proc -o hidepid=4 proc /proc", stranger...), own: stranger, mine: named, uids: [2]int{0, 65534}, hint: "run it as root"},
	{name: "subset_pid", through: withProc("mount -t proc -o subset=pid proc /proc", stranger...), own: stranger, mine: named, uids: [2]int{0, 65534}, hint: "run it as root"},
	{name: "root_hidepid_2", through: withProc(invisible), own: stranger, root: named, mine: named, uids: [2]int{0, 65534}},
	{name: "root_hidepid_4", through: withProc("mount -t proc -o hidepid=4 proc /proc"), own: stranger, root: named, mine: named, uids: [2]int{0, 65534}},
	{name: "root_subset_pid", through: withProc("mount -t proc -o subset=pid proc /proc"), own: stranger, root: named, mine: named, uids: [2]int{0, 65534}},
	// A holder with more capabilities than we have is not ours to look into.
	{name: "root_without_ptrace", through: withoutPtrace, own: withoutPtrace, mine: named, hint: "CAP_SYS_PTRACE"},
	{name: "root_without_ptrace_hidepid_2", through: withProc(invisible, withoutPtrace...), own: withoutPtrace, mine: named, hint: "CAP_SYS_PTRACE"},
	// Root's capabilities in a user namespace say nothing of those outside, who
	// are invisible then: to take them for nobody would make ghosts of all.
	{name: "root_of_a_user_namespace", through: slices.Concat(stranger, userRoot), own: stranger, uids: [2]int{65534, 0}, hint: "user namespace"},
	{name: "root_of_a_user_namespace_hidepid_2", through: withProc(invisible, slices.Concat(stranger, userRoot)...), own: stranger, uids: [2]int{65534, 0}, hint: "user namespace"},
	{name: "no_proc", through: withProc(noProc), own: stranger, uids: [2]int{0, 65534}, hint: "/proc"},
	{name: "empty_proc", through: withProc("mount -t tmpfs none /proc"), own: stranger, uids: [2]int{0, 65534}, hint: "/proc"},
	{name: "foreign_proc", through: []string{"unshare", "--fork", "--kill-child", "--pid"}, own: stranger, uids: [2]int{0, 65534}, hint: "/proc"},
}

var userRoot = []string{"unshare", "--user", "--map-root-user"}

// TestVisibility: a holder that we may not see is hidden, with the uid of its
// socket and what helps; never free, never a ghost. One that we may see is
// ended, wherever we look from.
func TestVisibility(t *testing.T) {
	require(t, "private", "otheruser")
	for _, look := range sights {
		t.Run(look.name, func(t *testing.T) {
			t.Parallel()
			if out, err := tool(t.Context(), "", append(slices.Clone(look.through), "true")...).CombinedOutput(); err != nil {
				t.Skipf("cannot be had here: %v: %s", err, out)
			}
			dir := t.TempDir()
			beside := zoo(t, dir, "serve")
			root := zoo(t, dir, "serve")
			mine := zooBy(t, look.own, dir, "serve")
			look.at(t, root, look.root, look.uids[0])
			look.at(t, mine, look.mine, look.uids[1])
			root.lives(t, root.PID) // whether it was seen or not: it was not meant
			beside.lives(t, beside.PID)
			if look.mine == hidden {
				mine.lives(t, mine.PID)
				return
			}
			if res, out := look.run(t, "killport", mine.port()); res.code != 0 || out.Get("status").Str != "cleaned" || !mine.pins[mine.PID].ended() {
				t.Errorf("killport of a holder that is seen: exit code %d, %s", res.code, out)
			}
		})
	}
}

func (a *animal) port() string { return strconv.Itoa(a.Port) }

// run runs a command that gives one record.
func (look sight) run(t *testing.T, argv ...string) (result, gjson.Result) {
	t.Helper()
	res := run(t, tool(t.Context(), "", slices.Concat(look.through, argv)...))
	if strings.Count(res.stdout, "\n") != 1 {
		t.Fatalf("%q: %d, want one record: %q, %q", argv, res.code, res.stdout, res.stderr)
	}
	if err := fitsSchema(res.stdout); err != nil {
		t.Error(err)
	}
	return res, gjson.Parse(res.stdout)
}

// at looks at a holder, and, if it is hidden, tries what might do it harm.
func (look sight) at(t *testing.T, a *animal, want seen, uid int) {
	t.Helper()
	res, line := look.run(t, "listeners", a.port())
	if res.code != 0 || line.Get("uid").Int() != int64(uid) {
		t.Errorf("listeners: exit code %d, want 0, and uid %d: %s", res.code, uid, line)
	}
	if want == named {
		if line.Get("pid").Int() != int64(a.PID) || line.Get("birth").Str == "" {
			t.Errorf("listeners: want PID %d and its birth: %s", a.PID, line)
		}
		return
	}
	if line.Get("pid").Raw != "0" || line.Get("owner").Str != "hidden" || line.Get("birth").Exists() {
		t.Errorf("listeners: want it hidden: %s", line)
	}
	if !strings.Contains(res.stderr, "hint: some holders are hidden") || !strings.Contains(res.stderr, look.hint) {
		t.Errorf("listeners: want a hint at %q: %q", look.hint, res.stderr)
	}
	for _, args := range [][]string{{}, {"--override"}, {"--close-ghosts"}, {"--grace", "0s"}} {
		argv := slices.Concat([]string{"killport", a.port()}, args)
		res, line := look.run(t, argv...)
		if res.code != 1 || line.Get("status").Str != "partial" || line.Get("reason").Str != "hidden" ||
			line.Get("failed").Raw != "[0]" || line.Get("ghost").Raw != "[]" || line.Get("killed").Raw != "[]" ||
			line.Get("remaining_pids").Raw != "[0]" || !strings.Contains(line.Get("hint").Str, look.hint) {
			t.Errorf("%q: exit code %d, want 1, and hidden: %s", argv, res.code, line)
		}
	}
	if res, line := look.run(t, "portdiag", a.port()); res.code != 0 || line.Get("verdict").Str != "hidden" {
		t.Errorf("portdiag: exit code %d, want it hidden: %s", res.code, line)
	}
	if len(listening(t, a.Port)) != 1 {
		t.Error("its socket is gone")
	}
	a.lives(t, a.PID)
}

// TestForeignProc: where /proc shows another PID namespace, a record that was
// made there leads to nobody, though the number be that of somebody here.
func TestForeignProc(t *testing.T) {
	require(t, "private")
	t.Parallel()
	dir := t.TempDir()
	holder := zoo(t, dir, "serve")
	if err := os.WriteFile(filepath.Join(dir, "record"), []byte(list(t, holder.Port)), 0o666); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`
		echo %d >/proc/sys/kernel/ns_last_pid
		sleep 100 &
		[ $! = %d ] || { echo "got PID $!"; exit 9; }
		pidcheck <record; pkill2 --override <record; echo $?; killport --override %d
		kill -0 %[2]d && echo lives`, holder.PID-1, holder.PID, holder.Port)
	cmd := tool(t.Context(), "", "unshare", "--fork", "--kill-child", "--pid", "sh", "-c", script)
	cmd.Dir = dir
	lines := strings.Split(run(t, cmd).stdout, "\n")
	if len(lines) != 6 || lines[4] != "lives" {
		t.Fatalf("want five lines, and that the namesake lives: %q", lines)
	}
	for i, want := range []struct{ path, value string }{
		{"pidcheck.protected", "namespace"}, {"pkill2.reason", "namespace"}, {"", "1"}, {"status", "partial"},
	} {
		if got := lines[i]; want.path != "" && gjson.Get(got, want.path).Str != want.value || want.path == "" && got != want.value {
			t.Errorf("line %d: want %s %q: %s", i, want.path, want.value, got)
		}
	}
	holder.lives(t, holder.PID)
}

// TestOuterHolder: what a PID namespace around ours has in our network is hidden.
// It is never closed, whatever is asked for, and no hint leads there.
func TestOuterHolder(t *testing.T) {
	require(t, "private")
	t.Parallel()
	holder := zoo(t, t.TempDir(), "serve")
	inside := sight{through: []string{"unshare", "--fork", "--kill-child", "--pid", "--mount-proc"}}
	if _, line := inside.run(t, "listeners", holder.port()); line.Get("pid").Raw != "0" || line.Get("owner").Str != "hidden" || line.Get("hidden_by").Str != "namespace" {
		t.Errorf("listeners: want it hidden: %s", line)
	}
	for _, flags := range []string{"", "--override", "--close-ghosts", "--close-ghosts --override"} {
		res, line := inside.run(t, append([]string{"killport", holder.port()}, strings.Fields(flags)...)...)
		if res.code != 1 || line.Get("status").Str != "partial" || line.Get("failed").Raw != "[0]" || line.Get("killed").Raw != "[]" ||
			line.Get("hint").Str != "a process outside of this PID namespace may have it: look from there" {
			t.Errorf("killport %s: exit code %d, want 1, and it hidden: %s", flags, res.code, line)
		}
	}
	if _, line := inside.run(t, "portdiag", holder.port()); line.Get("verdict").Str != "hidden" || line.Get("findings.0.remedy").Exists() {
		t.Errorf("portdiag: want it hidden, and no remedy: %s", line)
	}
	if len(listening(t, holder.Port)) != 1 {
		t.Error("its socket is closed")
	}
	forged := strings.Replace(list(t, holder.Port), fmt.Sprintf(`"pid":%d`, holder.PID), `"pid":0,"owner":"none"`, 1)
	closing := append(inside.through, "pkill2", "--close-ghosts", "--override")
	res := run(t, tool(t.Context(), forged, closing...))
	if res.code != 1 || gjson.Get(res.stdout, "pkill2.reason").Str != "namespace" || len(listening(t, holder.Port)) != 1 {
		t.Errorf("pkill2 of a record that says that nobody has it: exit code %d, want 1, and it open: %s%s", res.code, res.stdout, res.stderr)
	}
	// A record of the outside names a PID that is nobody's, or another's, here.
	res = run(t, tool(t.Context(), list(t, holder.Port), slices.Concat(inside.through, []string{"pkill2", "--override"})...))
	if outcome := gjson.Get(res.stdout, "pkill2.outcome").Str; outcome != "gone" && outcome != "reused" && outcome != "refused" {
		t.Errorf("pkill2: %s%s", res.stdout, res.stderr)
	}
	holder.lives(t, holder.PID)
}

// TestOtherNetwork: the same port in another network is another port.
func TestOtherNetwork(t *testing.T) {
	require(t, "private")
	t.Parallel()
	elsewhere := []string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}
	ours := zoo(t, t.TempDir(), "serve")
	other := zooBy(t, elsewhere, t.TempDir(), "serve", ours.Addr)
	if lines := list(t, ours.Port); strings.Count(lines, "\n") != 1 || gjson.Get(lines, "pid").Int() != int64(ours.PID) {
		t.Errorf("listeners: want PID %d alone: %s", ours.PID, lines)
	}
	for i, want := range []struct{ status, killed string }{
		{"cleaned", fmt.Sprintf("[%d]", ours.PID)},
		{"free", "[]"},
	} {
		res := run(t, tool(t.Context(), "", "killport", ours.port()))
		if gjson.Get(res.stdout, "status").Str != want.status || gjson.Get(res.stdout, "killed").Raw != want.killed || res.code != 0 {
			t.Errorf("killport, time %d: exit code %d, want %v: %s", i+1, res.code, want, res.stdout)
		}
	}
	other.lives(t, other.PID)
}

// TestCoincidence: /proc is that of an outer PID namespace, and by coincidence
// we have the same PID in both, as has an innocent and the holder. Only what is
// said of our own number is right then.
func TestCoincidence(t *testing.T) {
	require(t, "private")
	t.Parallel()
	const inner = `
		echo $(($H - 1)) >/proc/sys/kernel/ns_last_pid
		sleep 100 &
		[ $! = $H ] || { echo "got PID $!"; exit 9; }
		for i in $(seq 200); do
			read -r last rest <<-END
				$(sh -c 'read -r outer rest </proc/self/stat; echo $outer')
			END
			echo "$last" >/proc/sys/kernel/ns_last_pid
			sh -c 'read -r outer rest </proc/self/stat; [ $outer = $$ ] || exit 77; exec "$@"' sh "$@"
			code=$?
			[ $code = 77 ] || break
		done
		echo $code
		kill -0 $H && echo lives`
	const outer = `
		ip link set lo up
		echo 300 >/proc/sys/kernel/ns_last_pid # so that the number is free inside
		zoo serve --life=1m --port-file port 127.0.0.1:8000 >/dev/null &
		until [ -s port ]; do sleep 0.01; done
		listeners 8000 >record
		H=$! inner=$1; shift
		H=$H unshare --fork --kill-child --pid sh -c "$inner" sh "$@" <record
		[ "$(listeners 8000)" = "$(cat record)" ] && echo listens`
	for _, tt := range []struct{ command, path, want, code string }{
		{"killport --override 8000", "failed", "[0]", "1"},
		{"pkill2 --override", "pkill2.reason", `"namespace"`, "1"},
		{"pidcheck", "pidcheck.protected", `"namespace"`, "0"},
		{"listeners 8000", "owner", `"hidden"`, "0"},
	} {
		t.Run(tt.command, func(t *testing.T) {
			t.Parallel()
			cmd := tool(limited(t), "", append([]string{"unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--net", "sh", "-c", outer, "sh", inner}, strings.Fields(tt.command)...)...)
			cmd.Dir = t.TempDir()
			res := run(t, cmd)
			lines := strings.Split(res.stdout, "\n")
			if len(lines) != 5 || lines[1] != tt.code || lines[2] != "lives" || lines[3] != "listens" || gjson.Get(lines[0], tt.path).Raw != tt.want {
				t.Errorf("want %s %s, exit code %s, and that the namesake lives: %q, %s", tt.path, tt.want, tt.code, lines, res.stderr)
			}
		})
	}
}

// TestHiddenAncestor: hidepid=2 hides what another user runs between an
// ancestor of ours and us: su, sudo, login. The kernel tells who started it; one
// before 6.13 does not, and there who has started something hidden may be ours.
func TestHiddenAncestor(t *testing.T) {
	require(t, "private", "otheruser", "strace")
	const (
		told   = `"$@"`
		untold = `strace -f -qq -o /dev/null -e inject=ioctl:error=ENOTTY "$@"`
		// $$ becomes the holder; what root runs below it runs the tool, or sleeps.
		above  = `{ until [ -s port ]; do sleep 0.01; done; $as sh -c '` + "TOOL" + `' sh killport "$(cat port)" >out; echo $? >code; } >/dev/null 2>&1 & exec $as "$@"`
		beside = `sleep 100 >/dev/null 2>&1 & exec $as "$@"`
	)
	for _, tt := range []struct {
		name, tool, holder string
		want               string // of the holder
	}{
		{"ancestor", told, above, "ancestor"},
		{"ancestor, untold", untold, above, "ancestor"},
		{"bystander", told, beside, ""},
		{"bystander, untold", untold, beside, "ancestor"},
		{"childless, untold", untold, `exec $as "$@"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			as := "export as='" + strings.Join(stranger, " ") + "'; "
			through := withProc(invisible, "sh", "-c", as+strings.ReplaceAll(tt.holder, "TOOL", tt.tool), "sh")
			a := zooBy(t, through, dir, "serve", "--port-file=port")
			var out string
			if tt.holder == above {
				if !eventually(patience, func() bool { b, _ := os.ReadFile(filepath.Join(dir, "code")); return len(b) > 0 }) {
					t.Fatal("killport does not end")
				}
				b, err := os.ReadFile(filepath.Join(dir, "out"))
				if err != nil {
					t.Fatal(err)
				}
				out = string(b)
			} else {
				// Behind a hidden parent, as below su.
				below := withProc(invisible, "sh", "-c", as+"$as sh -c '"+tt.tool+`' sh "$@"; :`, "sh", "killport", a.port())
				cmd := tool(limited(t), "", below...)
				cmd.Dir = dir
				out = run(t, cmd).stdout
			}
			line := gjson.Parse(out)
			ended := a.pins[a.PID].ended()
			if got := line.Get("reason").Str; got != tt.want || ended != (tt.want == "") {
				t.Errorf("reason %q, ended %v; want reason %q: %s", got, ended, tt.want, out)
			}
			if cannot := "hidden"; strings.Contains(tt.name, "untold") && tt.want != "" && tt.holder == beside && !strings.Contains(line.Get("detail").Str, cannot) {
				t.Errorf("detail %q; want it to say that this cannot be told", line.Get("detail").Str)
			}
		})
	}
}

// TestTimeNamespace: the start of a process is another one in there, and the
// process is the same.
func TestTimeNamespace(t *testing.T) {
	require(t, "private")
	t.Parallel()
	inside := []string{"unshare", "--time", "--boottime", "100000", "--fork", "--kill-child"}
	if out, err := tool(t.Context(), "", append(slices.Clone(inside), "true")...).CombinedOutput(); err != nil {
		t.Skipf("no time namespace: %v: %s", err, out)
	}
	a := zoo(t, t.TempDir(), "serve")
	record := list(t, a.Port)
	if strings.Contains(record, `"identity":"weak"`) {
		t.Skip("births are weak here")
	}
	for _, tt := range []struct{ command, path, want string }{
		{"pidcheck", "pidcheck.state", "alive"}, {"pkill2", "pkill2.outcome", "terminated"},
	} {
		res := run(t, tool(t.Context(), record, append(slices.Clone(inside), tt.command)...))
		if got := gjson.Get(res.stdout, tt.path).Str; got != tt.want || res.code != 0 {
			t.Errorf("%s: exit code %d, %s %q, want %q: %s%s", tt.command, res.code, tt.path, got, tt.want, res.stdout, res.stderr)
		}
	}
	if !a.pins[a.PID].ended() {
		t.Error("the holder lives")
	}
}
