//go:build linux

package suite_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestOverrideInContainer: what is in a container is not ended behind its
// engine's back, though the engine cannot stop it, not even what would be
// called a front outside of one.
func TestOverrideInContainer(t *testing.T) {
	require(t, "private")
	for _, name := range []string{"dockerd", "docker-proxy", "sshd", "node"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exe := filepath.Join(t.TempDir(), name)
			if err := copyZoo(exe); err != nil {
				t.Fatal(err)
			}
			a, err := startZooBy([]string{exe}, t.TempDir(), "serve")
			if err != nil {
				t.Fatal(err)
			}
			contain(t, a.PID)
			t.Cleanup(a.end) // before its cgroup
			for _, args := range [][]string{{"killport"}, {"killport", "--override"}} {
				res, line := sight{}.run(t, append(args, a.port())...)
				if res.code != 1 || line.Get("reason").Str != "managed" || strings.Contains(line.Get("hint").Str, "--override") {
					t.Errorf("%q: exit code %d, want 1, and it managed: %s", args, res.code, line)
				}
			}
			res := run(t, tool(t.Context(), "", "portdiag", a.port()))
			if strings.Contains(res.stdout, "--override") || gjson.Get(res.stdout, `findings.#(cause=="container").summary`).Str == "" {
				t.Errorf("portdiag: %s", res.stdout)
			}
			a.lives(t, a.PID)
		})
	}
}

// contain puts processes into a container: a cgroup that is called as those of
// docker are. It returns its ID.
func contain(t testing.TB, pids ...int) (id string) {
	t.Helper()
	root := freezerV1.root
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		root = "/sys/fs/cgroup" // of systems without v1
	}
	id = strings.Repeat("0123456789abcdef", 4)
	_, group := cgroup(t, root, id)
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// cgroup makes one below a root, with one of that name in it, and removes both
// in the end. The name may be empty: then both are one.
func cgroup(t testing.TB, root, name string) (above, dir string) {
	t.Helper()
	above, err := os.MkdirTemp(root, "killport-*")
	if err != nil {
		t.Skipf("no cgroup of our own: %v", err)
	}
	return cgroupIn(t, above, name)
}

// cgroupIn makes one of that name in another, and removes both in the end.
func cgroupIn(t testing.TB, above, name string) (_, dir string) {
	t.Helper()
	dir = filepath.Join(above, name)
	t.Cleanup(func() {
		for _, d := range []string{dir, above} {
			if !eventually(patience, func() bool { return gone(d) }) {
				t.Errorf("%s is not empty", d)
			}
		}
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return above, dir
}
