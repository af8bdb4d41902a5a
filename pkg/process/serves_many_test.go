package process

import "testing"

func TestServesMany(t *testing.T) {
	for _, tt := range []struct {
		info Info
		want bool
	}{
		{Info{Exe: "/usr/bin/node", Name: "node"}, false},
		{Info{}, false},
		{Info{Exe: "/usr/bin/dockerd"}, true},
		{Info{Exe: "/usr/bin/docker-proxy", Name: "docker-proxy"}, true},
		{Info{Exe: "/usr/bin/containerd (deleted)"}, true},
		{Info{Name: "dockerd"}, true}, // the executable is not ours to see
		{Info{Exe: "/home/ann/bin/node", Name: "dockerd"}, false},
		{Info{Exe: `C:\Windows\System32\svchost.exe`}, true},
		{Info{Exe: `C:\Program Files\Docker\COM.DOCKER.BACKEND.EXE`}, true},
		{Info{Exe: "/Applications/OrbStack.app/Contents/MacOS/OrbStack Helper"}, true},
		{Info{Exe: "/home/ann/dockerd/server"}, false},
		{Info{Exe: "/usr/lib/systemd/systemd", Argv: []string{"/lib/systemd/systemd", "--user"}}, true},
		{Info{Exe: "/usr/sbin/sshd", Argv: []string{"/usr/sbin/sshd", "-D"}}, true},
		{Info{Exe: "/usr/sbin/sshd", Argv: []string{"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"}}, true},
		{Info{Exe: "/usr/sbin/sshd"}, true}, // its command line is not ours to see
		{Info{Exe: "/usr/sbin/sshd", Argv: []string{"sshd: ann@pts/0"}}, false},
		{Info{Exe: "/usr/sbin/sshd", Argv: []string{"sshd: ann [priv]"}}, false},
		{Info{Exe: "/usr/bin/node", Argv: []string{"PM2 v6.0.8: God Daemon (/home/ann/.pm2)"}}, true},
		{Info{Exe: "/usr/bin/node", Argv: []string{"node", "/usr/bin/pm2-runtime", "app.js"}}, true},
		{Info{Exe: "/usr/bin/node", Argv: []string{"node", "/home/ann/app.js", "God Daemon"}}, false},
		{Info{Exe: "/usr/bin/python3.11", Argv: []string{"/usr/bin/python3", "/usr/bin/supervisord", "-n"}}, true},
		{Info{Exe: "/usr/bin/s6-svscan", Argv: []string{"s6-svscan", "/run/service"}}, true},
		{Info{Exe: "/home/ann/bin/serve", Argv: []string{"serve", "/etc/supervisord"}}, false},
		{Info{Exe: "/usr/sbin/xinetd", Argv: []string{"/usr/sbin/xinetd", "-pidfile", "/run/xinetd.pid"}}, true},
		{Info{Exe: "/usr/sbin/inetd"}, true},
		{Info{Exe: "/usr/sbin/inetutils-inetd"}, true},
		{Info{Exe: "/usr/bin/dbus-daemon"}, true},
		{Info{Exe: "/usr/bin/dbus-broker"}, true},
		{Info{Exe: "/usr/sbin/rlinetd"}, true},
		{Info{Exe: "/usr/bin/busybox", Argv: []string{"busybox", "inetd", "-f"}}, true},
		{Info{Exe: "/usr/bin/busybox", Argv: []string{"/usr/sbin/inetd"}}, true},
		{Info{Exe: "/usr/bin/busybox", Argv: []string{"busybox", "httpd", "inetd"}}, false},
		{Info{Exe: "/usr/bin/busybox", Argv: nil}, false},
	} {
		if got := tt.info.servesMany(); got != tt.want {
			t.Errorf("servesMany(%+v) = %v; want %v", tt.info, got, tt.want)
		}
	}
}
