package rig

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/internal/remedytest"
	"github.com/killport/killport/internal/schematest"
)

// programs is the folder of those that are built: killport and its like, and zoo.
var programs string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "killport-rig")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	programs = dir
	build := exec.Command("go", "build", "-o", dir, "../../cmd/...", "../zoo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // for a container that has nothing else
	if out, err := build.CombinedOutput(); err != nil {
		log.Printf("go build: %v\n%s", err, out)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // nobody runs them too
		log.Fatal(err)
	}
	// What ordinary users are told to run begins with sudo. The rig runs it as
	// root, as which sudo would run it too: this one need not ask for a password.
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
		log.Fatal(err)
	}
	return m.Run()
}

// A rig is a PID 1 in namespaces of its own.
type rig struct {
	t     *testing.T
	init  int
	log   *bytes.Buffer
	tools string // the folder of killport and its like, if not /run/rig
}

// asHost is r with tools that take it for the host: outside of it there is nobody,
// and so a socket may provably be nobody's.
func (r *rig) asHost() *rig {
	r.t.Helper()
	var flags []string
	for name, of := range map[string]string{"pid": "PIDs", "net": "Network"} {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.init, name))
		if err != nil {
			r.t.Fatal(err)
		}
		flags = append(flags, "-X=github.com/killport/killport/pkg/process.host"+of+"="+ns)
	}
	dir, err := os.MkdirTemp(programs, "host")
	if err != nil {
		r.t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", dir, "-ldflags="+strings.Join(flags, " "), "../../cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("go build: %v\n%s", err, out)
	}
	host := *r
	host.tools = "/run/rig/" + filepath.Base(dir)
	return &host
}

// tool is the path of killport or its like.
func (r *rig) tool(name string) string { return cmp.Or(r.tools, "/run/rig") + "/" + name }

// booted counts rigs, which have cgroups of different names.
var booted atomic.Int32

// boot starts script as PID 1. What it needs and is not here is a reason to skip.
func boot(t *testing.T, needs []string, script string, args ...string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	need(t, append(needs, "unshare", "nsenter", "ip", "setpriv")...)
	name := fmt.Sprintf("killport-rig-%d-%d", os.Getpid(), booted.Add(1))
	cmd := exec.Command("sh", append([]string{"testdata/enter.sh", name, "testdata/" + script, programs}, args...)...)
	r := &rig{t: t, log: new(bytes.Buffer)}
	cmd.Stdout, cmd.Stderr = r.log, r.log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // and with it PID 1, and everything
		cmd.Wait()
		(&rig{t: t, log: r.log}).eventually("the cgroups are gone", func() bool { return removeCgroups(name) })
		if t.Failed() {
			t.Logf("%s: %s", script, r.log)
		}
	})
	r.eventually("PID 1 is there", func() bool {
		r.init = onlyChild(cmd.Process.Pid)
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/ready", r.init))
		return r.init != 0 && !sameNamespace(r.init, "mnt") && err == nil
	})
	return r
}

// need skips a test that needs a program which is not here.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
}

// onlyChild is the PID of a process' child; 0 if there is none.
func onlyChild(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return child
}

func sameNamespace(pid int, name string) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	ours, oerr := os.Readlink("/proc/self/ns/" + name)
	return err != nil || oerr != nil || theirs == ours
}

// removeCgroups removes what is left of the rig's, which are empty now.
// Their processes take a moment to go.
func removeCgroups(name string) (gone bool) {
	mounts, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	gone = true
	for _, top := range append(mounts, "/sys/fs/cgroup/"+name) {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs)
		for _, dir := range dirs {
			gone = os.Remove(dir) == nil && gone
		}
	}
	return gone
}

// command is one that runs inside.
func (r *rig) command(argv ...string) *exec.Cmd {
	in := []string{"--target=" + strconv.Itoa(r.init), "--all"}
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	r.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "nsenter", append(in, argv...)...)
	cmd.Env = []string{"PATH=" + cmp.Or(r.tools, "/run/rig") + ":/run/rig:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run", "XDG_RUNTIME_DIR=/run/user/0"}
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a command inside that has to succeed.
func (r *rig) run(argv ...string) string {
	r.t.Helper()
	cmd := r.command(argv...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%q: %v\n%s%s", argv, err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// result is what killport says of a port, or, in a dry run, of its holders.
type result struct {
	exit    int
	port    verdict
	holders []holder
	output  string
}

type verdict struct {
	Status    string   `json:"status"`
	Killed    []int    `json:"killed"`
	Released  []int    `json:"released"`
	Stopped   []string `json:"stopped"`
	Failed    []int    `json:"failed"`
	Reason    string   `json:"reason"`
	Detail    string   `json:"detail"`
	Hint      string   `json:"hint"`
	Respawned []struct {
		Supervisor manager `json:"supervisor"`
	} `json:"respawned"`
}

type holder struct {
	PID   int `json:"pid"`
	Check struct {
		ManagedBy manager `json:"managed_by"`
	} `json:"pidcheck"`
	Done struct {
		Outcome string   `json:"outcome"`
		Reason  string   `json:"reason"`
		Detail  string   `json:"detail"`
		Hint    string   `json:"hint"`
		Stop    []string `json:"stop"`
		Signals []string `json:"signals"`
	} `json:"pkill2"`
}

type manager struct {
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	Restart   string   `json:"restart"`
	Stop      []string `json:"stop"`
	StartedBy []string `json:"started_by"`
	AlsoStops []string `json:"also_stops"`
	Listens   []string `json:"listens"`
	Reason    string   `json:"reason"`
}

// killport runs it inside; as is put before it.
func (r *rig) killport(as []string, args ...string) result {
	r.t.Helper()
	return r.killportWhile(func() {}, as, args...)
}

// killportWhile does something while killport runs.
func (r *rig) killportWhile(something func(), as []string, args ...string) result {
	r.t.Helper()
	cmd := r.command(append(append(slices.Clone(as), r.tool("killport"), "--json"), args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	something()
	err := cmd.Wait()
	res := result{output: stdout.String() + stderr.String()}
	if exit, ok := err.(*exec.ExitError); ok {
		res.exit = exit.ExitCode()
	} else if err != nil {
		r.t.Fatal(err)
	}
	kind := "classify"
	if slices.Contains(args, "--dry-run") {
		kind = "pkill2"
	}
	for line := range bytes.Lines(stdout.Bytes()) {
		schematest.Validate(r.t, kind, line)
		var h holder
		if err := errors.Join(json.Unmarshal(line, &res.port), json.Unmarshal(line, &h)); err != nil {
			r.t.Fatalf("%v: %s", err, res.output)
		}
		res.holders = append(res.holders, h)
	}
	r.t.Logf("killport %q: exit %d\n%s", args, res.exit, res.output)
	return res
}

// advised tries all advice about a port inside, see remedytest; as is put before
// what is not for root.
func (r *rig) advised(as []string, question ...string) (tried int) {
	r.t.Helper()
	return remedytest.Check(r.t, func(argv ...string) string {
		if argv[0] == "sudo" {
			argv = argv[1:]
		} else {
			argv = slices.Concat(as, argv)
		}
		out, err := r.command(argv...).Output()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			r.t.Fatalf("%q: %v", argv, err)
		}
		return string(out)
	}, question...)
}

// listens reports whether somebody listens on a port inside.
func (r *rig) listens(port int) bool {
	out, err := r.command(r.tool("listeners"), strconv.Itoa(port)).Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return len(out) > 0
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("in vain waited until %s\n%s", what, r.log)
		}
	}
}
