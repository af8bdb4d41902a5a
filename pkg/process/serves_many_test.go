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
	} {
		if got := tt.info.servesMany(); got != tt.want {
			t.Errorf("servesMany(%+v) = %v; want %v", tt.info, got, tt.want)
		}
	}
}
