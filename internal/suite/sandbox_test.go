//go:build linux

package suite_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// inNetns runs a command in a network that has a name, as VPNs and labs do it. It
// leaves nothing behind in /run.
var inNetns = []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && ip netns add sandbox && ip -n sandbox link set lo up && exec ip netns exec sandbox "$@"`, "sh"}

// sandboxes are where one runs killport, and cannot see all of the host.
var sandboxes = []struct {
	name     string
	needs    []string
	through  []string
	isolated string // of our own
	says     string
}{
	{name: "none"},
	{name: "mounts", through: []string{"unshare", "--mount"}},
	{
		name: "claude_code", needs: []string{"bwrap"},
		through:  []string{"bwrap", "--unshare-net", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"},
		isolated: `["pid","net"]`, says: "this is a sandbox: the ports and processes outside of it cannot be seen",
	},
	{
		name: "shared_network", needs: []string{"bwrap"},
		through:  []string{"bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--"},
		isolated: `["pid"]`, says: "this is a sandbox: the processes outside of it cannot be seen",
	},
	{
		name: "user_namespace", needs: []string{"bwrap", "otheruser"},
		through:  slices.Concat(stranger, []string{"bwrap", "--unshare-user", "--unshare-net", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"}),
		isolated: `["pid","net"]`, says: "this is a sandbox: the ports and processes outside of it cannot be seen",
	},
	{
		name: "unshare_pid", through: []string{"unshare", "--fork", "--kill-child", "--pid", "--mount-proc"},
		isolated: `["pid"]`, says: "this is a sandbox: the processes outside of it cannot be seen",
	},
	{
		name: "unshare_net", through: []string{"unshare", "--net"},
		isolated: `["net"]`, says: "this is a sandbox: the ports outside of it cannot be seen",
	},
	{
		name: "netns", through: inNetns,
		isolated: `["net"]`, says: "this is a sandbox: the ports outside of it cannot be seen",
	},
}

// TestSandboxes: what is outside cannot be seen, and so it is said, everywhere, that
// we are inside; and nothing is done to it, nor advised.
func TestSandboxes(t *testing.T) {
	require(t, "ghosts", "script")
	for _, box := range sandboxes {
		t.Run(box.name, func(t *testing.T) {
			t.Parallel()
			require(t, box.needs...)
			in := sight{through: append(slices.Clone(box.through), "seeing")}
			if out, err := tool(t.Context(), "", append(slices.Clone(in.through), "true")...).CombinedOutput(); err != nil {
				t.Skipf("cannot be had here: %v: %s", err, out)
			}
			a := zoo(t, t.TempDir(), "serve")
			isolated := func(who string, line gjson.Result) {
				t.Helper()
				if got := line.Get("isolated").Raw; got != box.isolated {
					t.Errorf("%s: isolated %s; want %s: %s", who, got, box.isolated, line)
				}
			}
			_, report := in.run(t, "portdiag", a.port())
			isolated("portdiag", report)
			_, beside := in.run(t, "classify", "127.0.0.2:"+a.port())
			isolated("classify", beside)
			screen := run(t, tool(t.Context(), "", append(slices.Clone(in.through), "script", "-qec", "listeners "+a.port()+"; killport --dry-run "+a.port()+"; classify "+a.port(), "/dev/null")...)).stdout
			if n := strings.Count(screen, box.says); box.says != "" && n != 2 || box.says == "" && strings.Contains(screen, "sandbox") {
				t.Errorf("on a terminal %q is said %d times; want it of listeners and classify: %s", box.says, n, screen)
			}
			if box.isolated == "" {
				return
			}
			for _, flags := range []string{"", "--override --close-ghosts"} {
				_, line := in.run(t, append([]string{"killport", a.port()}, strings.Fields(flags)...)...)
				isolated("killport "+flags, line)
				if line.Get("killed").Raw != "[]" || strings.Contains(line.Get("hint").Str, "--") {
					t.Errorf("killport %s: %s", flags, line)
				}
				want := "free" // there
				if box.isolated == `["pid"]` {
					want = "partial"
				}
				if got := line.Get("status").Str; got != want {
					t.Errorf("killport %s: status %s; want %s: %s", flags, got, want, line)
				}
			}
			if len(listening(t, a.Port)) != 1 {
				t.Error("its socket is closed")
			}
			a.lives(t, a.PID)
		})
	}
}
