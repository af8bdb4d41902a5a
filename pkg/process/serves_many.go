package process

import (
	"path"
	"slices"
	"strings"
)

// servesMany are the programs that hold ports on behalf of others. To end one
// takes down far more than a port; the lever is elsewhere.
var servesMany = map[string]bool{
	"dockerd":         true,
	"containerd":      true,
	"docker-proxy":    true,
	"rootlesskit":     true,
	"orbstack":        true,
	"orbstack helper": true,
	"systemd":         true, // a user's manager: it holds the sockets of socket units
	"launchd":         true,
	"wslrelay":        true,
	"svchost":         true,
	"vpnkit":          true,
	"wslhost":         true,
	"explorer":        true, // the desktop
	"dbus-daemon":     true, // anybody can send it a socket, to hand on
	"dbus-broker":     true,
	"xinetd":          true, // one process listens for all services of its configuration
	"inetd":           true,
	"inetutils-inetd": true, // as Debian calls it
	"rlinetd":         true,
}

// ServesMany reports whether the program serves many: a main process of sshd
// does, a session's sshd (which may hold a forwarded port) does not.
func (i Info) servesMany() bool {
	name := i.Program()
	if name == "sshd" {
		return !sshSession(i.Argv)
	}
	if name == "busybox" { // one program with many names: "inetd -f", "busybox inetd"
		return slices.ContainsFunc(i.Argv[:min(2, len(i.Argv))], func(word string) bool { return path.Base(word) == "inetd" })
	}
	return servesMany[name] || strings.HasPrefix(name, "com.docker.") || // backend, vpnkit …
		i.keepsMany()
}

// Keepers are programs that keep many processes running. pm2-runtime, as pm2's
// daemon, holds the sockets of all its apps that are in cluster mode.
var Keepers = []string{"pm2-runtime", "supervisord", "circusd", "runsvdir", "s6-svscan"}

// keepsMany reports whether the process is such a keeper: the program, or the
// script that an interpreter runs. pm2's daemon has one argument, a title:
// "PM2 v6.0.8: God Daemon (/home/ann/.pm2)" (lib/Daemon.js).
func (i Info) keepsMany() bool {
	if len(i.Argv) == 0 {
		return slices.Contains(Keepers, i.Program())
	}
	if strings.HasPrefix(i.Argv[0], "PM2 v") && strings.Contains(i.Argv[0], "God Daemon") {
		return true
	}
	known := func(word string) bool { return slices.Contains(Keepers, path.Base(word)) }
	interpreted := strings.HasPrefix(i.Program(), "python") || i.Program() == "node"
	return known(i.Argv[0]) || interpreted && len(i.Argv) > 1 && known(i.Argv[1])
}

// Program returns the lower-case name of the executable, or of the process if
// we may not see the executable.
func (i Info) Program() string {
	name := strings.TrimSuffix(i.Exe, " (deleted)")
	if name == "" {
		name = i.Name
	}
	name = strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	return strings.TrimSuffix(name, ".exe")
}

// sshSession: a session's sshd calls itself "sshd: ann@pts/0" or "sshd: ann
// [priv]", the main process "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100
// startups" (sshd.c, setproctitle).
func sshSession(argv []string) bool {
	title := strings.Join(argv, " ")
	return strings.HasPrefix(title, "sshd: ") && !strings.Contains(title, "[listener]")
}
