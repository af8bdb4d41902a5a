package procfs

import (
	"bytes"
	"slices"
	"strings"
)

// ParseFreezer finds the folder of a task's cgroup in the hierarchy of the freezer of cgroup v1 (cgroups(7)), and the
// mount point that it is in, by /proc/PID/cgroup ("6:freezer:/a/b") and by our own /proc/self/mountinfo
// (proc_pid_mountinfo(5)). Both are "" where there is no such hierarchy, or the cgroup is not to be seen in it.
func ParseFreezer(cgroup, mountinfo []byte) (point, dir string) {
	path, ok := freezerPath(cgroup)
	if !ok {
		return "", ""
	}
	for line := range bytes.Lines(mountinfo) {
		mounted, options, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		fields, kind := strings.Split(mounted, " "), strings.Split(options, " ")
		if len(fields) < 6 || len(kind) != 3 || kind[0] != "cgroup" || !slices.Contains(strings.Split(kind[2], ","), "freezer") {
			continue
		}
		root := strings.TrimSuffix(unescapeOctal(fields[3]), "/")
		below, ok := strings.CutPrefix(path, root)
		if ok && (below == "" || below[0] == '/') {
			point = unescapeOctal(fields[4])
			return point, strings.TrimSuffix(point+below, "/")
		}
	}
	return "", ""
}

// freezerPath reads lines of a number, controllers with commas between them, and a path, which may hold colons.
func freezerPath(cgroup []byte) (string, bool) {
	for line := range bytes.Lines(cgroup) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(fields) == 3 && slices.Contains(strings.Split(fields[1], ","), "freezer") && strings.HasPrefix(fields[2], "/") {
			return fields[2], true
		}
	}
	return "", false
}
