package manager

import (
	"regexp"
	"strconv"
	"strings"
)

// cgroups are the paths of /proc/PID/cgroup (cgroups(7)).
type cgroups struct {
	all     []place
	systemd string // the path in the hierarchy that systemd keeps: v2, or name=systemd on v1
	top     string // of that path, as much as is above what systemd has made
}

// place is a cgroup: a path in one of the hierarchies, which may have the same
// paths and different processes in them.
type place struct{ hierarchy, path string }

// within reports whether it is that cgroup, or one below it.
func (p place) within(other place) bool {
	return p.hierarchy == other.hierarchy && isWithin(p.path, other.path)
}

func isWithin(path, other string) bool {
	return path == other || strings.HasPrefix(path, other+"/")
}

// parseCgroups reads lines like
//
//	0::/system.slice/web.service             v2, the only one or beside v1
//	1:name=systemd:/system.slice/web.service systemd's own on v1
//	4:memory:/docker/4f5e…                   v1
//
// Where there is both v1 and v2, systemd's is the named one.
func parseCgroups(b []byte) cgroups {
	var c cgroups
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || !strings.HasPrefix(fields[2], "/") {
			continue
		}
		path := fields[2]
		c.all = append(c.all, place{hierarchy: fields[0] + ":" + fields[1], path: path})
		if fields[1] == "name=systemd" || fields[1] == "" && c.systemd == "" {
			c.systemd = path
		}
	}
	return c
}

// below notes where systemd itself is: PID 1 is in its init.scope, which is not
// at the top where a container shares the cgroup namespace of its host
// (cg_get_root_path, src/basic/cgroup-util.c).
func (c cgroups) below(first cgroups) cgroups {
	c.top, _ = strings.CutSuffix(first.systemd, "/init.scope")
	if c.top == first.systemd || !strings.HasPrefix(c.systemd, c.top+"/") {
		c.top = ""
	}
	return c
}

// container is what a path says of the container that a process is in.
type container struct {
	engine string // "" if the path does not say
	id     string // "" if engine knows its containers by name
	name   string // else
	group  place  // the cgroup of the container itself
	nested bool   // it is not where whoever runs such containers for root has them
}

// container finds the outermost container that is not one of ours: we may be
// in a container too, and what is in there with us is a plain process to us.
func (c cgroups) container(ours cgroups) (container, bool) {
	inside := map[string]bool{}
	for _, at := range ours.all {
		for part := range strings.SplitSeq(at.path, "/") {
			inside[part] = true
		}
	}
	for _, at := range c.all {
		parts := strings.Split(at.path, "/")
		for i, part := range parts {
			if inside[part] {
				continue
			}
			above, group := parts[i-min(i, 1)], place{at.hierarchy, strings.Join(parts[:i+1], "/")}
			if engine, id, ok := parseContainer(above, part); ok {
				return container{engine: engine, id: id, group: group}, true
			}
			if engine, name, ok := parseMachine(above, part); ok {
				top := c.top + "/" + part
				if engine != lxc {
					top = c.top + "/" + above + "/" + part
				}
				return container{engine: engine, name: name, group: group, nested: group.path != top}, true
			}
		}
	}
	return container{}, false
}

// name reports whether they are those of the container with that ID.
func (c cgroups) name(id string) bool {
	for _, at := range c.all {
		for part := range strings.SplitSeq(at.path, "/") {
			if _, named, ok := parseContainer("", part); ok && named == id {
				return true
			}
		}
	}
	return false
}

// prefixes are what the engines put before the ID of a container in the name
// of its scope. That of conmon is beside it: conmon holds the published ports.
var prefixes = []struct{ prefix, engine string }{
	{"docker-", "docker"},
	{"libpod-conmon-", "podman"},
	{"libpod-payload-", "podman"}, // --cgroups=split
	{"libpod-", "podman"},
	{"nerdctl-", "nerdctl"},
	{"cri-containerd-", "kubernetes"},
	{"crio-conmon-", "kubernetes"},
	{"crio-", "kubernetes"},
}

// parseContainer reads a part of a path, and the one above it:
//
//	docker-ID.scope  libpod-ID.scope  nerdctl-ID.scope   made by systemd
//	/docker/ID  /libpod_parent/libpod-ID                 made by the engine
//	/default/ID  /mine/ID                                by containerd, or under a parent of the user's choice
//	/kubepods/burstable/podUID/ID                        made by a kubelet
func parseContainer(above, part string) (engine, id string, ok bool) {
	name := strings.TrimSuffix(part, ".scope")
	for _, p := range prefixes {
		if id, found := strings.CutPrefix(name, p.prefix); found && isContainerID(id) {
			return p.engine, id, true
		}
	}
	if !isContainerID(part) {
		return "", "", false
	}
	switch {
	case above == "docker":
		return "docker", part, true
	case strings.HasPrefix(above, "pod"):
		return "kubernetes", part, true
	}
	return "", part, true
}

// The engines of whole systems, which have names.
const (
	nspawn  = "systemd-nspawn"
	lxc     = "lxc"
	libvirt = "libvirt-lxc"
)

// parseMachine reads a part of a path, and the one above it:
//
//	/machine.slice/systemd-nspawn@NAME.service           machinectl start NAME
//	/machine.slice/machine-NAME.scope                    systemd-nspawn, by hand
//	/machine.slice/machine-lxc\x2d1234\x2dNAME.scope     libvirt, which names the machine lxc-1234-NAME
//	/lxc.payload.NAME                                    lxc-start, since LXC 4.0
//
// A virtual machine of libvirt is in machine-qemu…: to the host its processes
// are plain ones.
func parseMachine(above, part string) (engine, name string, ok bool) {
	if name, ok := strings.CutPrefix(part, "lxc.payload."); ok {
		return lxc, name, isName(name)
	}
	if above != "machine.slice" {
		return "", "", false
	}
	name, service := strings.CutPrefix(part, "systemd-nspawn@")
	if name, ok = strings.CutSuffix(name, ".service"); service && ok {
		name = unescape(name)
		return nspawn, name, isName(name)
	}
	name, scope := strings.CutPrefix(part, "machine-")
	name, ok = strings.CutSuffix(name, ".scope")
	switch name = unescape(name); {
	case !scope || !ok || !isName(name) || strings.HasPrefix(name, "qemu-"):
		return "", "", false
	case strings.HasPrefix(name, "lxc-"):
		return libvirt, name, true
	}
	return nspawn, name, true
}

// isName reports whether a name may stand in a command. A cgroup, a label and
// the environment of a holder can have any: a flag, or what a shell would run.
func isName(s string) bool { return harmless.MatchString(s) }

var harmless = regexp.MustCompile(`^[A-Za-z0-9_.:@][A-Za-z0-9_.:@-]*$`)

// unescape reads part of the name of a unit: \x2d is a dash (systemd.unit(5)).
func unescape(s string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, `\x`)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		s = after
		if b, err := strconv.ParseUint(after[:min(2, len(after))], 16, 8); err == nil && len(after) >= 2 {
			out.WriteByte(byte(b))
			s = after[2:]
		} else {
			out.WriteString(`\x`)
		}
	}
}

// isContainerID: 256 bits, in hexadecimal digits.
func isContainerID(s string) bool {
	const digits = 64
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// unit is a unit of systemd.
type unit struct {
	name  string
	user  bool   // of a user's systemd, and not of the system's
	uid   uint32 // of that user
	group string // the path of its cgroup
}

// unit is that of a process; !ok if it is in none. Slices are passed by, as
// systemd does (cg_path_get_unit, src/basic/cgroup-util.c), and below
// user@1000.service there is the tree of another systemd.
func (c cgroups) unit() (u unit, ok bool) {
	rest := strings.Split(strings.Trim(strings.TrimPrefix(c.systemd, c.top), "/"), "/")
	for len(rest) > 0 {
		part := strings.TrimPrefix(rest[0], "_") // escaped: it would be a file of the cgroup
		rest = rest[1:]
		if strings.HasSuffix(part, ".slice") {
			continue
		}
		if !strings.HasSuffix(part, ".service") && !strings.HasSuffix(part, ".scope") {
			return unit{}, false
		}
		u.name, u.group = part, strings.TrimSuffix(strings.TrimSuffix(c.systemd, strings.Join(rest, "/")), "/")
		uid, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(part, "user@"), ".service"), 10, 32)
		if u.user || err != nil || len(rest) == 0 || !strings.HasPrefix(part, "user@") {
			return u, true
		}
		u.user, u.uid = true, uint32(uid)
	}
	return unit{}, false
}
