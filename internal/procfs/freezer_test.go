package procfs_test

import (
	"testing"

	"github.com/killport/killport/internal/procfs"
)

func TestParseFreezer(t *testing.T) {
	const (
		v1     = "9:name=systemd:/x\n6:freezer:/a/b\n0::/\n"
		mounts = "1 1 8:1 / / rw - ext4 /dev/sda rw\n" +
			"36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" +
			"37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:3 - cgroup cgroup rw,freezer\n"
		freezer = "/sys/fs/cgroup/freezer"
	)
	for _, tt := range []struct{ name, cgroup, mountinfo, point, dir string }{
		{"plain", v1, mounts, freezer, freezer + "/a/b"},
		{"at the top", "6:freezer:/\n", mounts, freezer, freezer},
		{"with others", "4:memory,freezer:/a\n", "37 1 0:34 / /cg rw - cgroup none rw,freezer,memory\n", "/cg", "/cg/a"},
		{"colon in the name", "6:freezer:/a:b\n", mounts, freezer, freezer + "/a:b"},
		{"part of the hierarchy", v1, "37 1 0:34 /a /cg\\040x rw - cgroup cgroup freezer\n", "/cg x", "/cg x/b"},
		{"another part", v1, "37 1 0:34 /aa /cg rw - cgroup cgroup freezer\n", "", ""},
		{"a part that begins alike", "6:freezer:/ab\n", "37 1 0:34 /a /cg rw - cgroup cgroup freezer\n", "", ""},
		{"outside of our namespace", "6:freezer:/../a\n", "37 1 0:34 /x /cg rw - cgroup cgroup freezer\n", "", ""},
		{"v2 only", "0::/a\n", mounts, "", ""},
		{"a hierarchy called so", "6:name=freezer:/a\n", mounts, "", ""},
		{"not mounted", v1, "36 31 0:33 / /cpu rw - cgroup cgroup rw,cpu\n", "", ""},
		{"another file system", v1, "36 31 0:33 / /x rw - tmpfs cgroup freezer\n", "", ""},
		{"garbage", "6:freezer\nfreezer:/\n\n", "\n - \nx - cgroup cgroup freezer\n", "", ""},
		{"nothing", "", "", "", ""},
	} {
		point, dir := procfs.ParseFreezer([]byte(tt.cgroup), []byte(tt.mountinfo))
		if point != tt.point || dir != tt.dir {
			t.Errorf("%s: ParseFreezer = %q, %q; want %q, %q", tt.name, point, dir, tt.point, tt.dir)
		}
	}
}
