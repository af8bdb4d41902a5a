package process

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"testing"
	"testing/fstest"
)

// isolationVar makes this test say what it sees, and end.
const isolationVar = "KILLPORT_TEST_ISOLATED"

// Each namespace of our own is named, alone and together, and none that is not.
func TestIsolated(t *testing.T) {
	if os.Getenv(isolationVar) != "" {
		_ = json.NewEncoder(os.Stdout).Encode(Isolated())
		os.Exit(0)
	}
	for _, tt := range []struct {
		flags []string
		want  []string
	}{
		{nil, nil},
		{[]string{"--mount"}, nil},
		{[]string{"--net"}, []string{"net"}},
		{[]string{"--pid", "--fork", "--mount-proc"}, []string{"pid"}},
		{[]string{"--pid", "--fork", "--mount-proc", "--net"}, []string{"pid", "net"}},
	} {
		for _, name := range Isolated() { // of those around us we are in anyway
			if !slices.Contains(tt.want, name) {
				tt.want = append(tt.want, name)
			}
		}
		slices.Sort(tt.want)
		if got := isolatedBy(t, tt.flags); !slices.Equal(got, tt.want) {
			t.Errorf("in namespaces of its own by unshare %q: Isolated = %q; want %q", tt.flags, got, tt.want)
		}
	}
}

// isolatedBy is what Isolated says, in order, below unshare.
func isolatedBy(t *testing.T, flags []string) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		flags = append([]string{"--user", "--map-root-user"}, flags...)
	}
	if err := exec.Command("unshare", append(flags, "true")...).Run(); err != nil {
		t.Skipf("unshare %q: %v", flags, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", append(flags, self, "-test.run=^TestIsolated$")...)
	cmd.Env = append(os.Environ(), isolationVar+"=yes")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := json.Unmarshal(out, &names); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	slices.Sort(names)
	return names
}

// Where the settings cannot be seen, nothing is claimed.
func TestHasOwnNetwork(t *testing.T) {
	for _, tt := range []struct {
		files []string
		want  bool
	}{
		{nil, false},
		{[]string{"netdev_max_backlog", "somaxconn"}, false},
		{[]string{"netdev_max_backlog"}, false},
		{[]string{"somaxconn"}, true},
	} {
		settings := fstest.MapFS{}
		for _, name := range tt.files {
			settings[name] = &fstest.MapFile{}
		}
		if got := hasOwnNetwork(settings); got != tt.want {
			t.Errorf("hasOwnNetwork(%q) = %v; want %v", tt.files, got, tt.want)
		}
	}
}
