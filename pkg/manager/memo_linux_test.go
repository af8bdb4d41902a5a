package manager

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// fakeEngine puts a docker before all others that answers to "ps" and to
// "container inspect", and writes down what it was asked.
func fakeEngine(t *testing.T, ps, inspect string) (asked func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := "#!/bin/sh\necho \"$*\" >>" + log + "\ncase $1 in\nps) printf '%s' '" + ps + "' ;;\ncontainer) printf '%s' '" + inspect + "' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		b, _ := os.ReadFile(log)
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

var web = listeners.Listener{Proto: listeners.TCP, LocalAddr: "127.0.0.1", LocalPort: 8000}

// publishing is what an engine says of a container that publishes the port of
// web, and of its process.
func publishing(id string, pid int) string {
	return fmt.Sprintf(`[{"Id":"%s","Name":"/web","State":{"Pid":%d},"Config":{"Image":"shop:1"},"HostConfig":{"RestartPolicy":{"Name":"always"}},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8000"}]}}}]`, id, pid)
}

// shimmed starts a process as one in a container with that ID, whose parent is
// its shim.
func shimmed(t *testing.T, id string) (pid int) {
	t.Helper()
	return shimmedBy(t, id, os.Geteuid())
}

// shimmedBy is the same of a user.
func shimmedBy(t *testing.T, id string, uid int) (pid int) {
	t.Helper()
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "shim") // which others may enter
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	shim := filepath.Join(dir, "containerd-shim-runc-v2")
	if err := errors.Join(err, os.WriteFile(shim, sh, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shim, "-c", "sleep 60 & echo $!; read end; kill $!", "shim", "-id", id)
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leash.Close()
		cmd.Wait()
	})
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestPublisher(t *testing.T) {
	asked := fakeEngine(t, id, publishing(id, shimmed(t, id)))
	ctx := Remember(t.Context())
	for range 3 {
		m := Publisher(ctx, web)
		if m == nil || m.Name != "web" || m.Restart != "always" || !m.Halts() {
			t.Fatalf("Publisher() = %+v", m)
		}
	}
	if got := asked(); len(got) != 2 || got[0] != "ps --quiet --no-trunc --filter publish=8000/tcp" || got[1] != "container inspect "+id {
		t.Errorf("the engine was asked %q", got)
	}
}

// insideVar is set for the test binary that is started as a process of a container.
const insideVar = "KILLPORT_TEST_OURS"

// The container that we are in is not stopped, whatever it publishes.
func TestPublisherOfOurs(t *testing.T) {
	if os.Getenv(insideVar) == "" {
		shim := filepath.Join(t.TempDir(), "containerd-shim-runc-v2")
		sh, err := os.ReadFile("/bin/sh")
		if err := errors.Join(err, os.WriteFile(shim, sh, 0o755)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), shim, "-c", `"$0" -test.run='^TestPublisherOfOurs$'; exit $?`, os.Args[0], "-id", id)
		cmd.Env = append(os.Environ(), insideVar+"=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a container: %v\n%s", err, out)
		}
		return
	}
	fakeEngine(t, id, publishing(id, os.Getpid()))
	if m := Publisher(t.Context(), web); m != nil {
		t.Errorf("Publisher() = %+v, which would end us", m)
	}
	m := published(t.Context(), engine{name: docker}, publication{listener: web})
	if m.Control() != Unstoppable || len(m.Stop) > 0 || !strings.Contains(m.Reason, "it is in there itself") {
		t.Errorf("published() = %+v", m)
	}
}

// What publishes the port elsewhere, or for whom, is not what listens here.
func TestPublisherOfAnother(t *testing.T) {
	here := shimmed(t, id)
	for name, pid := range map[string]int{"no process": 0, "PID 1": 1, "another process": os.Getpid()} {
		fakeEngine(t, id, publishing(id, pid))
		if m := Publisher(t.Context(), web); m != nil {
			t.Errorf("%s: Publisher() = %+v", name, m)
		}
	}
	other := strings.Repeat("f", 64)
	fakeEngine(t, other, publishing(other, here))
	if m := Publisher(t.Context(), web); m != nil {
		t.Errorf("Publisher() = %+v, whose process is in another container", m)
	}
}

// A holder that nobody can see may be anybody's, and its engine is root's.
func TestPublisherOfHidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	pid := shimmed(t, id)
	for uid, want := range map[int]bool{0: true, 65534: false} {
		l := listenAs(t, uid)
		inspect := strings.ReplaceAll(publishing(id, pid), "8000", strconv.Itoa(int(l.LocalPort)))
		fakeEngine(t, id, inspect)
		if m := Publisher(t.Context(), l); (m != nil) != want {
			t.Errorf("UID %d: Publisher() = %+v; want one: %v", uid, m, want)
		}
		l.Socket.Cookie = "0x1"
		if m := Publisher(t.Context(), l); m != nil {
			t.Errorf("Publisher() = %+v of a socket that is not there", m)
		}
	}
}

// listenAs listens on a port of the kernel's choice, as a user, and hides who does.
func listenAs(t *testing.T, uid int) listeners.Listener {
	t.Helper()
	runtime.LockOSThread() // whose user it is
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(uid); err != nil {
		t.Fatal(err)
	}
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err := errors.Join(err, syscall.Setfsuid(0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	q := listeners.Query{Proto: listeners.TCP, Port: uint16(server.Addr().(*net.TCPAddr).Port)}
	all, err := listeners.List(t.Context(), q)
	if err != nil || len(all) != 1 {
		t.Fatalf("List() = %v, %v", all, err)
	}
	all[0].Owner, all[0].PID = listeners.OwnerHidden, 0
	return all[0]
}

// The engine of Docker Desktop has processes of its own: its container is
// believed to be here if its front is.
func TestPublishedInVM(t *testing.T) {
	for exe, want := range map[string]bool{
		"/opt/docker-desktop/bin/com.docker.backend": true,
		"/Applications/OrbStack.app/OrbStack Helper": true,
		"/usr/bin/docker-proxy":                      false,
		"/usr/bin/rootlessport":                      false,
	} {
		fakeEngine(t, id, publishing(id, 12345))
		m := published(t.Context(), engine{name: docker}, publicationBy(process.Info{Exe: exe}, web))
		if m == nil || m.Halts() != want {
			t.Errorf("%s: published() = %+v; want a lever: %v", exe, m, want)
		}
	}
}

// An engine that hangs is awaited once, for whatever ports and stages.
func TestEngineHangs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	start := time.Now()
	for range 2 {
		ctx := Remember(t.Context())
		for port := range uint16(3) {
			l := web
			l.LocalPort += port
			m := published(ctx, engine{name: docker}, publication{listener: l})
			if m.Halts() || m.Reason != "docker: no answer within 3s" {
				t.Fatalf("published() = %+v", m)
			}
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it was awaited for %v", took)
	}
	fakeEngine(t, "", "")
	if m := published(t.Context(), engine{name: docker}, publication{listener: web}); !strings.Contains(m.Reason, "knows no container") {
		t.Errorf("another engine was not asked: %+v", m)
	}
}

// What an engine says is not trusted to be well-formed.
func TestPublisherOfOddEngine(t *testing.T) {
	for _, test := range []struct{ ps, inspect string }{
		{"", ""},
		{"--help", "[]"},
		{id, ""},
		{id, "{}"},
		{id, "[{}]"},
		{id, `[{"Id":"` + id + `","NetworkSettings":{"Ports":{"80/tcp":[{"HostPort":"8001"}]}}}]`},
		{id, `[{"Id":"` + id + `","NetworkSettings":{"Ports":{"x":[{"HostPort":"8000"}]}}}]`},
		{id, `[{"Id":"short","NetworkSettings":{"Ports":{"80/tcp":[{"HostPort":"8000"}]}}}]`},
	} {
		fakeEngine(t, test.ps, test.inspect)
		if m := Publisher(t.Context(), web); m != nil {
			t.Errorf("Publisher() of an engine that says %q, %q = %+v; want none", test.ps, test.inspect, m)
		}
	}
}
