package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody is how another user's command is run.
func asNobody(t *testing.T, argv ...string) []string {
	t.Helper()
	as := []string{another, "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env"}
	if out, err := exec.Command(as[0], append(slices.Clone(as), "true")[1:]...).CombinedOutput(); err != nil {
		t.Skipf("cannot become another user: %v: %s", err, out)
	}
	return append(as, argv...)
}

// What runs as another user reads no file that we were started with, and is in
// no folder of ours.
func TestKeepsFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of root"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(secret))
	reads := asNobody(t, "sh", "-c", "ls -l /proc/self/fd; cat /proc/self/fd/* 2>&1; pwd; true")
	for name, run := range map[string]func() ([]byte, error){
		"a command": func() ([]byte, error) { return Run(t.Context(), reads...) },
		"on an older kernel": func() ([]byte, error) {
			if err := keepEach(3); err != nil {
				return nil, err
			}
			cmd := exec.Command(reads[0], reads[1:]...)
			cmd.Dir = "/"
			return cmd.Output()
		},
	} {
		fd, err := unix.Open(secret, unix.O_RDONLY, 0) // in a way that commands inherit
		if err != nil {
			t.Fatal(err)
		}
		out, err := run()
		unix.Close(fd)
		if err != nil || strings.Contains(string(out), filepath.Dir(secret)) || strings.Contains(string(out), "of root") {
			t.Errorf("%s, as nobody: %s, %v", name, out, err)
		}
	}
}

// keyVar is set for the test binary that was started with a key.
const keyVar = "KILLPORT_TEST_KEY"

// What runs as another user has none of our keys, and we still have them.
func TestKeepsKeys(t *testing.T) {
	const key = "killport-test-key"
	reads := asNobody(t, "cat", "/proc/keys") // which shows those that the reader has, or may see
	if os.Getenv(keyVar) == "" {
		withKey(t, key)
		return
	}
	unkept, err := exec.Command(reads[0], reads[1:]...).Output()
	if err != nil || !strings.Contains(string(unkept), key) {
		t.Skipf("nobody sees no key of a keyring that was inherited: %s, %v", unkept, err)
	}
	if out, err := Run(t.Context(), reads...); err != nil || strings.Contains(string(out), key) {
		t.Errorf("a command, as nobody, sees %s, %v", out, err)
	}
	if out, err := os.ReadFile("/proc/keys"); err != nil || !strings.Contains(string(out), key) {
		t.Errorf("we see %s, %v afterwards; want our key", out, err)
	}
}

// withKey runs the test again, in a process with a session keyring that has the key.
func withKey(t *testing.T, key string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), keyVar+"=yes")
	done := make(chan error)
	var out []byte
	go func() {
		runtime.LockOSThread() // for good: the keyring is this thread's
		err := dropKeys()
		if err == nil {
			_, err = unix.AddKey("user", key, []byte("of root"), unix.KEY_SPEC_SESSION_KEYRING)
		}
		if err == nil {
			out, err = cmd.CombinedOutput()
		}
		done <- err
	}()
	err := <-done
	if cmd.Process == nil {
		t.Skipf("no keys here: %v", err)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Errorf("with a key: %v: %s", err, out)
	}
}
