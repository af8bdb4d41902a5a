//go:build linux || windows

package suite_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"

	"github.com/killport/killport/internal/schematest"
)

// TestScripts runs testdata/script: a folder for each command, a script for
// each behaviour of it. As with Go files, a name that ends in _linux or
// _windows is for that system alone.
func TestScripts(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join("testdata", "script", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Files:              scripts(t, dir),
				Setup:              setup,
				Cmds:               commands,
				Condition:          condition,
				RequireUniqueNames: true,
			})
		})
	}
}

// scripts returns those of a folder that are for this system.
func scripts(t *testing.T, dir string) []string {
	all, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	return slices.DeleteFunc(all, func(file string) bool {
		name := strings.TrimSuffix(file, ".txtar")
		return runtime.GOOS != "linux" && strings.HasSuffix(name, "_linux") ||
			runtime.GOOS != "windows" && strings.HasSuffix(name, "_windows")
	})
}

// commands are those that scripts have beside testscript's own.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"needs":         needsCommand,
	"ports":         portsCommand,
	"zoo":           zooCommand,
	"edit":          editCommand,
	"exit":          exitCommand,
	"pipe":          pipeCommand,
	"start":         startCommand,
	"interrupt":     interruptCommand,
	"finish":        finishCommand,
	"closed-stdout": closedStdoutCommand,
	"json":          jsonCommand,
	"jsonl":         jsonlCommand,
	"printable":     printableCommand,
	"alive":         aliveCommand,
	"ended":         endedCommand,
	"appears":       appearsCommand,
}

// state is what the commands of one script share.
type state struct {
	t       testscript.T
	ctx     context.Context // ends with the script, or when it takes too long
	animals []*animal
	started *started
}

type stateKey struct{}

// started is a command that runs in the background.
type started struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan struct{}
}

func setup(env *testscript.Env) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	s := &state{t: env.T(), ctx: ctx}
	env.Values[stateKey{}] = s
	env.Setenv("soft", soft) // what a holder is asked to end by
	env.Setenv("hard", hard)
	env.Defer(func() {
		cancel()
		for _, a := range s.animals {
			a.end()
		}
		if s.started != nil {
			<-s.started.done
		}
	})
	return nil
}

func of(ts *testscript.TestScript) *state { return ts.Value(stateKey{}).(*state) }

// usage ends the script unless the arguments are as many as said, and not
// negated.
func usage(ts *testscript.TestScript, neg bool, args []string, least int, words string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", words)
	}
}

// missing says why what is needed is not all here.
func missing(names ...string) error {
	for _, name := range names {
		need, ok := needs[name]
		if !ok {
			panic(fmt.Sprintf("nobody knows what %q is", name)) // a skip would hide it
		}
		if err := need(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func ipv6() error {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return fmt.Errorf("no IPv6: %w", err)
	}
	return l.Close()
}

// needs WHAT...: skips the script if it is not all here.
func needsCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "needs WHAT...")
	if err := missing(args...); err != nil {
		of(ts).t.Skip(err)
	}
}

// ports NAME...: sets each to a port, in a row.
func portsCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "ports NAME...")
	first := freshPorts(len(args))
	for i, name := range args {
		ts.Setenv(name, strconv.Itoa(first+i))
	}
}

// zoo [-as NAME] [-exe FILE] [-env KEY=VALUE] MODE ARGS...: plays a mode until
// the script ends; sets port, pid and so on, or NAME_port. FILE becomes a copy
// of the zoo, to run in its place.
func zooCommand(ts *testscript.TestScript, neg bool, args []string) {
	prefix, program := "", "zoo"
	flags := flag.NewFlagSet("zoo", flag.ContinueOnError)
	flags.Func("as", "", func(name string) error { prefix = name + "_"; return nil })
	flags.Func("exe", "", func(file string) error { program = ts.MkAbs(file); return copyZoo(program) })
	var env []string
	flags.Func("env", "", func(variable string) error { env = []string{"env", variable}; return nil })
	ts.Check(flags.Parse(args))
	args = flags.Args()
	usage(ts, neg, args, 1, "zoo [-as NAME] [-exe FILE] [-env KEY=VALUE] MODE ARGS...")
	a, err := startZooBy(append(env, program), ts.MkAbs("."), args...)
	if errors.Is(err, errUnplayable) {
		of(ts).t.Skip(err)
	}
	ts.Check(err)
	of(ts).animals = append(of(ts).animals, a)
	for name, n := range map[string]int{
		"port": a.Port, "pid": a.PID, "parent": a.Parent, "supervisor": a.Supervisor, "peer_pid": a.PeerPID, "tid": a.TID,
	} {
		ts.Setenv(prefix+name, strconv.Itoa(n))
	}
	ts.Setenv(prefix+"pids", strings.Trim(fmt.Sprint(a.PIDs), "[]"))
	ts.Setenv(prefix+"addr", a.Addr)
}

// copyZoo leaves the writing to another program where a program that is open for
// writing cannot be run: whoever of us is forked meanwhile has it open, too.
func copyZoo(file string) error {
	zoo, err := exec.LookPath("zoo")
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" {
		return exec.Command("cp", zoo, file).Run()
	}
	b, err := os.ReadFile(zoo)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o700)
}

// exit CODE CMD...: is exec, or pipe, for a command that must exit so.
func exitCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "exit CODE CMD...")
	if slices.Contains(args, "|") || strings.HasPrefix(args[1], "<") {
		checkExit(ts, args[0], pipeline(ts, args[1:]))
		return
	}
	checkExit(ts, args[0], ts.Exec(args[1], args[2:]...))
}

// pipe [<FILE] CMD... | CMD...: runs commands as a shell does, each feeding the
// next, the first from the file. The last one must succeed.
func pipeCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "pipe [<FILE] CMD... | CMD...")
	checkExit(ts, "0", pipeline(ts, args))
}

// pipeline returns the error of the last command.
func pipeline(ts *testscript.TestScript, args []string) (err error) {
	var stdin *os.File
	if file, ok := strings.CutPrefix(args[0], "<"); ok {
		stdin, err = os.Open(ts.MkAbs(file))
		ts.Check(err)
		args = args[1:]
	}
	var started []*exec.Cmd
	for args != nil {
		var argv []string
		argv, args = cutPipe(args)
		cmd := command(ts, argv)
		var r, w *os.File
		if args != nil {
			r, w, err = os.Pipe()
			ts.Check(err)
		}
		ts.Check(startBetween(cmd, stdin, w))
		started, stdin = append(started, cmd), r
	}
	for _, cmd := range started {
		err = cmd.Wait()
		fmt.Fprint(ts.Stderr(), cmd.Stderr)
	}
	fmt.Fprint(ts.Stdout(), started[len(started)-1].Stdout)
	return err
}

// startBetween starts a command, to which the files are given away. Without stdout it
// has a buffer.
func startBetween(cmd *exec.Cmd, stdin, stdout *os.File) error {
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	if stdin != nil {
		defer stdin.Close()
		cmd.Stdin = stdin
	}
	if stdout != nil {
		defer stdout.Close()
		cmd.Stdout = stdout
	}
	return cmd.Start()
}

// cutPipe returns what is before the first |, and what is after it: nil if
// there is none.
func cutPipe(args []string) (argv, rest []string) {
	if at := slices.Index(args, "|"); at >= 0 {
		return args[:at], args[at+1:]
	}
	return args, nil
}

// edit FILE REGEXP NEW: replaces what matches, which must be there.
func editCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "edit FILE REGEXP NEW")
	was, re := ts.ReadFile(args[0]), regexp.MustCompile(args[1])
	if !re.MatchString(was) {
		ts.Fatalf("%s has no %q:\n%s", args[0], args[1], was)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(re.ReplaceAllString(was, args[2])), 0o666))
}

func checkExit(ts *testscript.TestScript, want string, err error) {
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
		if s := exit.Sys().(syscall.WaitStatus); s.Signaled() {
			code = 128 + int(s.Signal())
		}
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}

// start CMD...: runs a command in the background, which interrupt and finish
// are about.
func startCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "start CMD...")
	s := &started{cmd: command(ts, args), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	ts.Check(s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	of(ts).started = s
}

// command is for what testscript's exec cannot do.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	cmd := exec.CommandContext(of(ts).ctx, args[0], args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "KILLPORT_ALL="+ts.Getenv("KILLPORT_ALL"))
	return cmd
}

// interrupt: sends SIGINT to the started command, and to nothing else.
func interruptCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "interrupt")
	ts.Check(of(ts).started.cmd.Process.Signal(os.Interrupt))
}

// finish CODE: waits for the end of the started command.
func finishCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "finish CODE")
	s := of(ts).started
	select {
	case <-s.done:
	case <-time.After(patience):
		ts.Fatalf("not finished within %v", patience)
	}
	fmt.Fprint(ts.Stdout(), s.stdout.String())
	fmt.Fprint(ts.Stderr(), s.stderr.String())
	of(ts).started = nil
	if code := strconv.Itoa(s.cmd.ProcessState.ExitCode()); code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// closed-stdout CODE STDIN CMD...: runs a command whose stdout is a pipe that
// nobody reads any more. In a shell's `CMD | true` it is a matter of luck when
// that begins.
func closedStdoutCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "closed-stdout CODE STDIN CMD...")
	cmd := command(ts, args[2:])
	in, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer in.Close()
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, w, ts.Stderr()
	err = cmd.Run()
	ts.Check(w.Close())
	checkExit(ts, args[0], err)
}

// json FILE PATH [VALUE]: FILE is one line of JSON whose member PATH (as gjson
// has it) is VALUE, or is there at all. A PATH from ".." on is of a file of
// several lines.
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: [!] json FILE PATH [VALUE]")
	}
	text, path := ts.ReadFile(args[0]), args[1]
	if !strings.HasPrefix(path, "..") && strings.Count(text, "\n") != 1 {
		ts.Fatalf("%s has not one line:\n%s", args[0], text)
	}
	got := gjson.Get(text, path)
	so, want := got.Exists(), "anything"
	if len(args) == 3 {
		so, want = so && got.String() == args[2], args[2]
	}
	if so == neg {
		ts.Fatalf("%s: %s is %q, want %q (not: %v) in:\n%s", args[0], path, got.String(), want, neg, text)
	}
}

// jsonl FILE N: has N lines, each of them an object.
func jsonlCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "jsonl FILE N")
	text := ts.ReadFile(args[0])
	n := 0
	for line := range strings.Lines(text) {
		if n++; !gjson.Valid(line) || !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") {
			ts.Fatalf("%s:%d: not a JSON object and the end of a line: %q", args[0], n, line)
		}
		ts.Check(fitsSchema(line))
	}
	if strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s has %d lines, want %s:\n%s", args[0], n, args[1], text)
	}
}

// fitsSchema checks a record against the schema of the tool whose it is.
func fitsSchema(line string) error {
	kind := "listeners"
	switch has := func(path string) bool { return gjson.Get(line, path).Exists() }; {
	case has("status"):
		kind = "classify"
	case has("verdict"):
		kind = "portdiag"
	case has("pkill2"):
		kind = "pkill2"
	case has("pidcheck"):
		kind = "pidcheck"
	}
	if err := schematest.Check(kind, []byte(line)); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// printable FILE: has nothing that moves a cursor, rings a bell, turns text
// around, or is not UTF-8.
func printableCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "printable FILE")
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "\r\n", "\n") // a terminal adds the CR
	bad := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && c != utf8.RuneError && !unicode.IsPrint(c) })
	if bad >= 0 || !utf8.ValidString(text) {
		ts.Fatalf("%s: something not printable, at byte %d, or not UTF-8, in %q", args[0], bad, text)
	}
}

// pin returns the pin of a PID that one of the animals has told us.
func (s *state) pin(ts *testscript.TestScript, word string) pin {
	pid, err := strconv.Atoi(word)
	ts.Check(err)
	for _, a := range s.animals {
		if p, ok := a.pins[pid]; ok {
			return p
		}
	}
	ts.Fatalf("PID %d is of no zoo", pid)
	return 0
}

// alive PID...: they live. This says something only after what might have
// ended them.
func aliveCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "alive PID...")
	for word := range strings.FieldsSeq(strings.Join(args, " ")) { // $pids are one argument
		if of(ts).pin(ts, word).ended() {
			ts.Fatalf("PID %s has ended", word)
		}
	}
}

// ended PID...: they have ended, or do so soon.
func endedCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "ended PID...")
	for word := range strings.FieldsSeq(strings.Join(args, " ")) { // $pids are one argument
		if !eventually(patience, of(ts).pin(ts, word).ended) {
			ts.Fatalf("PID %s is alive", word)
		}
	}
}

// appears FILE: waits until it is there.
func appearsCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "appears FILE")
	there := func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	}
	if !eventually(patience, there) {
		ts.Fatalf("no %s", args[0])
	}
}
