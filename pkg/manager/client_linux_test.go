package manager

import (
	"strings"
	"testing"

	"github.com/killport/killport/pkg/process"
)

func TestHasClient(t *testing.T) {
	web := &Manager{Name: "web", Engine: "docker", Image: "shop"}
	for _, test := range []struct {
		exe, args string
		want      bool
	}{
		{"/usr/bin/docker", "docker run --rm --name web -p 8000:80 shop", true},
		{"/usr/bin/docker", "docker --context far run --name=web shop", true},
		{"/usr/bin/docker", "docker start --attach web", true},
		{"/usr/bin/docker", "docker run --name backup --volumes-from web shop", false},
		{"/usr/bin/docker", "docker run shop --name", false},
		{"/usr/bin/docker", "docker logs --follow web", false},
		{"/usr/bin/docker", "docker start --attach web2", false},
		{"/usr/bin/docker", "docker run --rm -p 127.0.0.1:8000:80 shop", true},
		{"/usr/bin/docker", "docker run --rm --publish=8000:80/tcp shop", true},
		{"/usr/bin/docker", "docker run --rm --publish=[::1]:8000:80 shop", true},
		{"/usr/bin/docker", "docker run --rm -p 80:8000 shop", false},
		{"/usr/bin/docker", "docker run --rm -p 8000 shop", false},
		{"/usr/bin/docker", "docker run --rm -p 8000:80 blog", false},
		{"/usr/bin/docker", "docker run --rm --name blog -p 8000:80 shop", false},
		{"/usr/bin/podman", "docker run --name web shop", false},
	} {
		if got := web.hasClient(process.Info{Exe: test.exe, Argv: strings.Fields(test.args)}, 8000); got != test.want {
			t.Errorf("hasClient(%s, %q) = %v; want %v", test.exe, test.args, got, test.want)
		}
	}
}
