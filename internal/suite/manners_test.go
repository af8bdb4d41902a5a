//go:build linux

package suite_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// pgBin is where Debian has the programs of PostgreSQL; "" if it has none.
func pgBin() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

func postgresHere() error {
	if pgBin() == "" {
		return errors.New("no PostgreSQL (postgresql)")
	}
	return nil
}

// database is a cluster of PostgreSQL, of a user that may do nothing else, with a
// client connected.
type database struct {
	*testing.T
	dir  string
	port int
}

func newDatabase(t *testing.T) *database {
	dir, err := os.MkdirTemp("/tmp", "killport-pg") // where that user may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	d := &database{T: t, dir: dir, port: freshPorts(1)}
	d.must("initdb", "-D", dir+"/data", "-A", "trust", "-U", "nobody", "--no-sync", "--locale=C")
	return d
}

// by is a program of PostgreSQL, run by that user.
func (d *database) by(name string, args ...string) *exec.Cmd {
	argv := slices.Concat(nobody, []string{filepath.Join(pgBin(), name)}, args)
	cmd := exec.CommandContext(limited(d), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = d.dir, []string{"PATH=/usr/bin:/bin", "HOME=" + d.dir, "LC_ALL=C"}
	return cmd
}

func (d *database) must(name string, args ...string) {
	d.Helper()
	cmd := d.by(name, args...)
	log, err := os.Create(filepath.Join(d.TempDir(), "out")) // no pipe, which the server would keep open
	if err != nil {
		d.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(log.Name())
		d.Fatalf("%s: %v: %s", name, err, out)
	}
}

func (d *database) start() {
	d.Helper()
	d.must("pg_ctl", "-D", d.dir+"/data", "-l", d.dir+"/log", "-w", "-o", fmt.Sprintf("-p %d -k %s -c listen_addresses=127.0.0.1", d.port, d.dir), "start")
}

// connect leaves a client connected, for whom SIGTERM would wait.
func (d *database) connect() {
	d.Helper()
	client := d.by("psql", "-h", "127.0.0.1", "-p", strconv.Itoa(d.port), "-U", "nobody", "-d", "postgres", "-At", "-c", "select 'here'", "-c", "select pg_sleep(1000)")
	out, err := client.StdoutPipe()
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { _ = client.Process.Kill(); _ = client.Wait() })
	if _, err := out.Read(make([]byte, 5)); err != nil {
		d.Fatalf("the client is not served: %v", err)
	}
}

// TestPostgres: a server with a client connected, for whom SIGTERM waits, ends by
// its own signal, and has nothing to recover from afterwards. Where the user says
// how, that is done, and the result says what it took.
func TestPostgres(t *testing.T) {
	require(t, "private", "otheruser", "postgres")
	t.Parallel()
	d := newDatabase(t)
	for _, tt := range []struct {
		args   []string
		forced bool
	}{
		{nil, false},
		{[]string{"--grace", "300ms"}, true},
	} {
		d.start()
		d.connect()
		res := run(t, tool(limited(t), "", append([]string{"killport", "--json"}, append(tt.args, strconv.Itoa(d.port))...)...))
		killed := gjson.Get(res.stdout, "killed").Array()
		if res.code != 0 || len(killed) != 1 || gjson.Get(res.stdout, "forced").Exists() != tt.forced {
			t.Errorf("%q: exit code %d, %s; want it cleaned, forced: %v", tt.args, res.code, res.stdout, tt.forced)
		}
		log, err := os.ReadFile(d.dir + "/log")
		if err != nil {
			t.Fatal(err)
		}
		clean := strings.Contains(string(log), "received fast shutdown request") && strings.HasSuffix(strings.TrimSpace(string(log)), "database system is shut down")
		if clean == tt.forced {
			t.Errorf("%q: it ended well: %v; log:\n%s", tt.args, clean, log)
		}
	}
}
