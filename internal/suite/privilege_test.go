//go:build linux

package suite_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// copyFor makes copies of programs that everybody may run, and returns the folder.
func copyFor(t *testing.T, names ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "killport-privilege")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", path, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

// standIn puts a program in a folder that everybody may run, and that tells in
// the file told of whom and with which capabilities it runs.
func standIn(t *testing.T, dir, name string) (told string) {
	t.Helper()
	told = filepath.Join(dir, "told")
	if err := os.Mkdir(told, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(told, 0o777); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\ngrep -E '^(Uid|CapPrm|CapEff)' /proc/self/status >%s/$$\nexit 1\n", told)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return told
}

// TestSetuid: a copy that runs with its owner's rights does nothing at all. What
// it looks up on PATH would be run with them, by whoever started it.
func TestSetuid(t *testing.T) {
	require(t, "private", "otheruser")
	commands := []string{"killport", "pkill2", "pidcheck", "listeners", "classify", "portdiag"}
	for name, mode := range map[string]os.FileMode{"setuid": os.ModeSetuid, "setgid": os.ModeSetgid} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyFor(t, commands...)
			told := standIn(t, dir, "setpriv")
			if err := exec.Command("cp", filepath.Join(dir, "setpriv"), filepath.Join(dir, "docker")).Run(); err != nil {
				t.Fatal(err)
			}
			exe := filepath.Join(t.TempDir(), "docker-proxy")
			if err := copyZoo(exe); err != nil {
				t.Fatal(err)
			}
			a, err := startZooBy([]string{exe}, t.TempDir(), "serve")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.end)
			for _, command := range commands {
				path := filepath.Join(dir, command)
				if err := os.Chmod(path, mode|0o755); err != nil {
					t.Fatal(err)
				}
				for _, arg := range []string{a.port(), "--help"} {
					cmd := tool(limited(t), list(t, a.Port), append(slices.Clone(stranger), "env", "PATH="+dir+":"+os.Getenv("PATH"), path, arg)...)
					res := run(t, cmd)
					if res.code != 3 || res.stdout != "" || res.stderr != command+": error: not setuid: use sudo\n" {
						t.Errorf("%s %s: exit code %d, want 3: %q, %q", command, arg, res.code, res.stdout, res.stderr)
					}
				}
			}
			if names, _ := os.ReadDir(told); len(names) > 0 {
				t.Errorf("it has run what it found on PATH: %v", names)
			}
			a.lives(t, a.PID)
		})
	}
}

// TestFileCapabilities: those that setcap(8) gives work, and go to nothing that
// is run.
func TestFileCapabilities(t *testing.T) {
	require(t, "private", "otheruser")
	t.Parallel()
	dir := copyFor(t, "killport")
	told := standIn(t, dir, "docker")
	killport := filepath.Join(dir, "killport")
	// struct vfs_cap_data of include/uapi/linux/capability.h, revision 2, effective.
	capabilities := make([]byte, 20)
	binary.LittleEndian.PutUint32(capabilities, 0x02000001)
	binary.LittleEndian.PutUint32(capabilities[4:], 1<<unix.CAP_KILL|1<<unix.CAP_SYS_PTRACE|1<<unix.CAP_DAC_READ_SEARCH)
	if err := unix.Setxattr(killport, "security.capability", capabilities, 0); err != nil {
		t.Skipf("no capabilities for a file: %v", err)
	}
	exe := filepath.Join(t.TempDir(), "docker-proxy")
	if err := copyZoo(exe); err != nil {
		t.Fatal(err)
	}
	front, err := startZooBy([]string{exe}, t.TempDir(), "serve")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.end)
	root := zoo(t, t.TempDir(), "serve")
	res := run(t, tool(limited(t), "", append(slices.Clone(stranger), "env", "PATH="+dir+":"+os.Getenv("PATH"), killport, root.port(), front.port())...))
	lines := strings.Split(res.stdout, "\n")
	if len(lines) != 3 || gjson.Get(lines[0], "status").Str != "cleaned" || gjson.Get(lines[0], "killed.0").Int() != int64(root.PID) {
		t.Fatalf("with the capabilities, want the port of PID %d freed: %q, %s", root.PID, lines, res.stderr)
	}
	if gjson.Get(lines[1], "status").Str != "partial" {
		t.Errorf("the front: %s", lines[1])
	}
	answers, err := os.ReadDir(told)
	if err != nil || len(answers) == 0 {
		t.Fatalf("nobody was asked: %v", err)
	}
	for _, answer := range answers {
		b, err := os.ReadFile(filepath.Join(told, answer.Name()))
		if want := strings.Repeat("\t"+strconv.Itoa(65534), 4); err != nil || !strings.Contains(string(b), "Uid:"+want) ||
			strings.Count(string(b), "\t0000000000000000\n") != 2 {
			t.Errorf("what it runs has %s, %v; want nobody's rights", b, err)
		}
	}
}

// TestNothingOfRoots: root asks the engine of another user as that user, and what
// answers has neither the files nor the keys that root had in hand, nor a folder
// of root's, nor its terminal.
func TestNothingOfRoots(t *testing.T) {
	require(t, "private", "otheruser")
	t.Parallel()
	const key = "killport-suite-key"
	dir := copyFor(t)
	told := filepath.Join(dir, "told")
	if err := os.WriteFile(told, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(told, 0o666); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n{ id -u; ls -l /proc/self/fd; cat /proc/self/fd/[3-9]*; cat /proc/keys; pwd; : </dev/tty; } >>" + told + " 2>&1\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	secret := filepath.Join(home, "secret")
	if err := os.WriteFile(secret, []byte("only for root"), 0o600); err != nil {
		t.Fatal(err)
	}
	conmon := filepath.Join(dir, "conmon")
	if err := copyZoo(conmon); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(conmon, 0o755); err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("0123456789abcdef", 4)
	a, err := startZooBy(append(slices.Clone(stranger), conmon), "/", "hostile-name", "--argv=conmon", "--argv=-c", "--argv="+id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.end)
	cmd := tool(limited(t), "", "unshare", "--mount", "sh", "-c", `mount --bind "$1" /usr/local/bin && exec 7<"$2" && exec killport "$3"`, "sh", dir, secret, a.port())
	cmd.Dir = home
	if out, err := withKey(key, cmd); err != nil && cmd.ProcessState == nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(told)
	answer := string(b)
	if err != nil || !strings.HasPrefix(answer, "65534\n") || !strings.Contains(answer, "/dev/tty") {
		t.Fatalf("the engine of nobody was not asked as nobody: %s, %v", answer, err)
	}
	for _, of := range []string{secret, "only for root", key, home} {
		if strings.Contains(answer, of) {
			t.Errorf("nobody has %q of root: %s", of, answer)
		}
	}
}

// withKey runs a command with a key in its session keyring, if there are keys here.
func withKey(key string, cmd *exec.Cmd) (out []byte, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the keyring is this thread's
		if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err == nil {
			_, _ = unix.AddKey("user", key, []byte("only for root"), unix.KEY_SPEC_SESSION_KEYRING)
		}
		out, err = cmd.CombinedOutput()
	}()
	<-done
	return out, err
}
