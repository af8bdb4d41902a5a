// Package scripts_test runs the entry points that are not commands: kill_port.py
// and the prompts for assistants, every command line of which is run here.
package scripts_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	root     = ".."
	markdown = root + "/.claude/commands/kill-port.md"
	toml     = root + "/.gemini/commands/kill-port.toml"

	// roleVar tells this test binary, run again, what to be.
	roleVar  = "KILLPORT_TEST_ROLE"
	listener = "listener" // listens, prints its port, and ends by SIGTERM or with its stdin
	stubborn = "stubborn" // the same, and says SIGTERM instead of ending by it
	ancestor = "ancestor" // listens, and runs its arguments with its port at the end
)

var scratch string // for what all tests share

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	var err error
	if scratch, err = os.MkdirTemp("", "killport-scripts-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// play is what this binary does as a child of the test, and its exit code.
func play(role string, args []string) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	port := l.Addr().(*net.TCPAddr).Port
	switch role {
	case stubborn:
		terms := make(chan os.Signal, 1)
		signal.Notify(terms, syscall.SIGTERM)
		go func() {
			for range terms {
				fmt.Println("SIGTERM")
			}
		}()
	case ancestor:
		cmd := exec.Command(args[0], append(args[1:], strconv.Itoa(port))...)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, roleVar+"=") })
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return cmd.ProcessState.ExitCode()
	}
	fmt.Println(port)
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// commands returns a folder with all the commands of the repository.
func commands(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the command lines are for a POSIX shell")
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var built = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "bin") + string(filepath.Separator)
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/...")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return dir, nil
})

// python returns the interpreter itself, which works with any PATH; what PATH has may be a wrapper.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("python3 is not on PATH")
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A server is a child that listens on a port of 127.0.0.1.
type server struct {
	port string
	cmd  *exec.Cmd
	said *bufio.Reader // its stdout, after the port
	done chan struct{} // closed when it has ended
}

func serve(t *testing.T, role string) *server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: exec.Command(self), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), roleVar+"="+role)
	s.cmd.Stderr = os.Stderr
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe() // not StdoutPipe, which Wait closes under a reader
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout = w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-s.done
		r.Close()
	})
	s.said = bufio.NewReader(r)
	line, err := s.said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.port = strings.TrimSpace(line)
	return s
}

// ended waits a moment for the server to be gone.
func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

// serves reports whether the server can be reached.
func (s *server) serves() bool {
	c, err := net.Dial("tcp4", "127.0.0.1:"+s.port)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// A result is what a command wrote and how it ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%sstderr:\n%s", r.code, r.stdout, r.stderr)
}

// run runs name in dir with env set over the environment of the test.
func run(t *testing.T, dir string, env []string, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// A line is a command line of a prompt.
type line struct {
	text        string
	placeholder string // for the ports, in text
	quoted      bool   // the ports arrive as one word, and the line runs without being asked for
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// prompt returns the TOML file's one multi-line string.
func prompt(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, toml), "\nprompt = '''\n")
	text, after, ok := strings.Cut(rest, "'''\n")
	if !ok || after != "" {
		t.Fatalf("%s does not end with one prompt between ''' and '''", toml)
	}
	return text
}

var (
	fence    = regexp.MustCompile("(?s)```sh\n(.*?)```")
	injected = regexp.MustCompile(`!\{(.*)\}`)
)

// lines returns every command line of a prompt.
func lines(text, placeholder string) (all []line) {
	for _, m := range injected.FindAllStringSubmatch(text, -1) {
		all = append(all, line{m[1], placeholder, true})
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for l := range strings.Lines(m[1]) {
			if l = strings.TrimSpace(l); l != "" {
				all = append(all, line{l, placeholder, false})
			}
		}
	}
	return all
}

// with puts in the ports.
func (l line) with(ports ...string) string {
	arg := strings.Join(ports, " ")
	if l.quoted {
		arg = "'" + arg + "'"
	}
	return strings.ReplaceAll(strings.ReplaceAll(l.text, l.placeholder, arg), "8000", ports[0])
}

var (
	number = regexp.MustCompile(`\b[0-9]+\b`)
	every  = regexp.MustCompile(`\ball\b`)
)

// namesOnly checks that a command line can hit nothing but the ports given.
func namesOnly(t *testing.T, command string, ports []string) {
	t.Helper()
	found := number.FindAllString(command, -1)
	slices.Sort(found)
	if want := slices.Sorted(slices.Values(ports)); !slices.Equal(slices.Compact(found), want) || every.MatchString(command) {
		t.Fatalf("%q does not name the ports %q and nothing else", command, want)
	}
}

// readers are the beginnings of command lines that end no process.
var readers = []string{"killport diagnose", "killport --dry-run", "portdiag", "listeners", "pidcheck", "classify"}

// onlyReads reports whether every command of a pipe is a reader.
func onlyReads(command string) bool {
	for c := range strings.SplitSeq(command, "|") {
		c = strings.TrimSpace(c)
		if !slices.ContainsFunc(readers, func(r string) bool { return c == r || strings.HasPrefix(c, r+" ") }) {
			return false
		}
	}
	return !strings.ContainsAny(command, ";&<>`$")
}

func TestPromptLines(t *testing.T) {
	bin := commands(t)
	for _, doc := range []struct{ name, text, placeholder string }{
		{"claude", read(t, markdown), "$ARGUMENTS"},
		{"gemini", prompt(t), "{{args}}"},
	} {
		all := lines(doc.text, doc.placeholder)
		if len(all) < 5 {
			t.Errorf("%s: found the command lines %+v only", doc.name, all)
		}
		for _, l := range all {
			t.Run(doc.name+"/"+l.text, func(t *testing.T) {
				t.Parallel()
				if strings.HasPrefix(l.text, "python3 ") {
					python(t)
				}
				tryLine(t, bin, l, serve(t, listener))
				if strings.Contains(l.text, l.placeholder) {
					tryLine(t, bin, l, serve(t, listener), serve(t, listener))
				}
			})
		}
	}
}

// tryLine runs the line on the ports of the servers: one that only reads leaves
// them alone, any other ends them and says so.
func tryLine(t *testing.T, bin string, l line, servers ...*server) {
	t.Helper()
	ports := portsOf(servers)
	command := l.with(ports...)
	namesOnly(t, command, ports)
	r := run(t, root, onPath(bin, ports), "sh", "-c", command)
	if onlyReads(command) {
		tellsOf(t, command, r, servers)
		return
	}
	if r.code != 0 {
		t.Fatalf("%s: %v", command, r)
	}
	for _, s := range servers {
		if !s.ended() {
			t.Errorf("%s: the server on %s goes on\n%v", command, s.port, r)
		}
	}
	if got := statuses(t, r.stdout); !maps.Equal(got, cleaned(ports)) {
		t.Errorf("%s: statuses %v; want %v\n%v", command, got, cleaned(ports), r)
	}
}

// tellsOf checks that a command that only reads named each server, and that all of them go on.
func tellsOf(t *testing.T, command string, r result, servers []*server) {
	t.Helper()
	if r.code > 1 {
		t.Errorf("%s: %v", command, r)
	}
	for _, s := range servers {
		if !s.serves() {
			t.Errorf("%s ended the server on %s", command, s.port)
		}
		pid := fmt.Sprintf(`"pid":%d,`, s.cmd.Process.Pid)
		if !strings.Contains(r.stdout, pid) {
			t.Errorf("%s does not say %s: %v", command, pid, r)
		}
	}
}

func portsOf(servers []*server) (ports []string) {
	for _, s := range servers {
		ports = append(ports, s.port)
	}
	return ports
}

// onPath is an environment with bin first on PATH, where `all` and no port mean the ports given.
func onPath(bin string, ports []string) []string {
	return []string{
		"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"KILLPORT_ALL=" + strings.Join(ports, " "),
	}
}

// statuses reads the status of each port; every line must have one that exists.
func statuses(t *testing.T, stdout string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for l := range strings.Lines(stdout) {
		var rec struct {
			Port   json.Number
			Status string
		}
		if err := json.Unmarshal([]byte(l), &rec); err != nil {
			t.Errorf("%q: %v", l, err)
		}
		if !slices.Contains(allStatuses, rec.Status) {
			t.Errorf("%q: status %q does not exist", l, rec.Status)
		}
		got[rec.Port.String()] = rec.Status
	}
	return got
}

var allStatuses = []string{"free", "cleaned", "partial", "ghost", "stuck"}

func cleaned(ports []string) map[string]string {
	m := map[string]string{}
	for _, p := range ports {
		m[p] = "cleaned"
	}
	return m
}

func TestPromptsKillOnlyOnRequest(t *testing.T) {
	for _, l := range lines(prompt(t), "{{args}}") {
		if l.quoted && !onlyReads(l.with("8000")) {
			t.Errorf("%s runs unasked: %s", toml, l.text)
		}
	}
	if strings.Contains(read(t, markdown), "!`") {
		t.Errorf("%s has a command that runs unasked, with arguments that are not quoted", markdown)
	}
}

func TestAllowedToolsOnlyRead(t *testing.T) {
	bin := commands(t)
	tool := regexp.MustCompile(`^Bash\((.+):\*\)$`)
	for entry := range strings.SplitSeq(frontmatter(t)["allowed-tools"], ", ") {
		m := tool.FindStringSubmatch(entry)
		if m == nil || !onlyReads(m[1]) {
			t.Errorf("allowed-tools has %q", entry)
			continue
		}
		s := serve(t, listener)
		command := m[1] + " " + s.port
		namesOnly(t, command, []string{s.port})
		tellsOf(t, command, run(t, root, onPath(bin, []string{s.port}), "sh", "-c", command), []*server{s})
		// The rule allows whatever follows.
		command = m[1] + " --dry-run=false " + s.port
		if r := run(t, root, onPath(bin, []string{s.port}), "sh", "-c", command); !s.serves() {
			t.Errorf("%s ended the server: %v", command, r)
		}
	}
}

// frontmatter returns the keys and values between the lines --- of the Markdown file.
func frontmatter(t *testing.T) map[string]string {
	t.Helper()
	head, _, ok := strings.Cut(strings.TrimPrefix(read(t, markdown), "---\n"), "\n---\n")
	if !ok {
		t.Fatalf("%s has no frontmatter", markdown)
	}
	m := map[string]string{}
	for l := range strings.Lines(head) {
		key, value, ok := strings.Cut(strings.TrimSpace(l), ": ")
		if plain := !strings.HasPrefix(value, `"`); !ok || plain && strings.ContainsAny(value, `[]{}"#`) || plain && strings.Contains(value, ": ") {
			t.Errorf("frontmatter: %q is not a key and a plain or quoted string", l)
		}
		m[key] = value
	}
	return m
}

func TestPromptHeads(t *testing.T) {
	want := []string{"allowed-tools", "argument-hint", "description"}
	m := frontmatter(t)
	if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
		t.Errorf("frontmatter has the keys %q; want %q", got, want)
	}
	if want := fmt.Sprintf("description = %q\n", m["description"]); !strings.HasPrefix(read(t, toml), want) {
		t.Errorf("%s does not begin with %s", toml, want)
	}
}

func TestPromptTexts(t *testing.T) {
	wrong := regexp.MustCompile(`\$[0-9]|(?i:powershell)`)
	bare := regexp.MustCompile(`\bkill -|killall|fuser|taskkill|xargs`)
	for path, text := range map[string]string{markdown: read(t, markdown), toml: prompt(t)} {
		if m := wrong.FindString(text); m != "" {
			t.Errorf("%s says %q", path, m)
		}
		for paragraph := range strings.SplitSeq(text, "\n\n") {
			if m := bare.FindString(paragraph); m != "" && !strings.HasPrefix(paragraph, "Never ") {
				t.Errorf("%s says %q outside of the warning:\n%s", path, m, paragraph)
			}
		}
		for _, s := range allStatuses {
			if !strings.Contains(text, "\n| `"+s+"` | ") {
				t.Errorf("%s does not explain the status %s", path, s)
			}
		}
	}
}

// checkout returns a folder with a copy of kill_port.py where the repository has it.
func checkout(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir+"/scripts/kill_port.py", 0o777, read(t, "kill_port.py"))
	return dir
}

func write(t *testing.T, path string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// stub writes a stand-in for killport that says who it is and what it was given, and exits 7.
func stub(t *testing.T, path, name string) {
	t.Helper()
	write(t, path, 0o777, "#!/bin/sh\necho "+name+" $#\nfor a; do echo \"<$a>\"; done\nexit 7\n")
}

func TestKillPortFinds(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins for killport are shell scripts")
	}
	dir := checkout(t)
	path := dir + "/path"
	args := []string{dir + "/scripts/kill_port.py", "8000", "a b", "--x=*"}
	// Each is found before the ones already there.
	for _, where := range []string{"path", "bin", "scripts"} {
		stub(t, dir+"/"+where+"/killport", where)
		got := run(t, dir, []string{"PATH=" + path}, python(t), args...)
		if want := (result{7, where + " 3\n<8000>\n<a b>\n<--x=*>\n", ""}); got != want {
			t.Errorf("with %s/killport: %v; want %v", where, got, want)
		}
	}
	got := run(t, dir, []string{"PATH=" + path}, python(t), args[0])
	if want := (result{7, "scripts 0\n", ""}); got != want {
		t.Errorf("without arguments: %v; want %v", got, want)
	}
}

func TestKillPortFindsNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs symbolic links")
	}
	dir := checkout(t)
	path := dir + "/path"
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	check := func(situation, want string) {
		t.Helper()
		env := append(goCache(t), "PATH="+path, "XDG_CACHE_HOME="+dir+"/cache")
		r := run(t, dir, env, python(t), dir+"/scripts/kill_port.py", "8000")
		if r.code != 3 || r.stdout != "" || !regexp.MustCompile(`\A(?s:`+want+`)killport: hint: [^\n]+\n\z`).MatchString(r.stderr) {
			t.Errorf("%s: %v", situation, r)
		}
	}
	check("no killport, no repository", "killport: error: killport not found beside kill_port.py or on PATH\n")
	// Called killport, the script must not take itself for killport.
	if err := os.Symlink(dir+"/scripts/kill_port.py", path+"/killport"); err != nil {
		t.Fatal(err)
	}
	check("the script as killport", "killport: error: killport not found beside kill_port.py or on PATH\n")
	write(t, dir+"/cmd/killport/main.go", 0o666, "package main\n\nfunc main() {\n\tundefined()\n}\n")
	check("no go", "killport: error: killport not found, and no go on PATH to build it with\n")
	linkGo(t, path)
	write(t, dir+"/go.mod", 0o666, "module example.org/m\n\ngo 1.26\n")
	check("it does not build", ".*undefined: undefined\nkillport: error: cannot build killport in [^\n]+\n")
	write(t, dir+"/scripts/killport", 0o777, "\x7fELF, cut short")
	check("not a program", "killport: error: cannot run killport: [^\n]+\n")
}

// linkGo puts the go command, and nothing else, into a folder for PATH.
func linkGo(t *testing.T, dir string) {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/go", 0o777, "#!/bin/sh\nexec '"+path+"' \"$@\"\n")
}

// goCache keeps go's own cache where it is, whatever XDG_CACHE_HOME is.
func goCache(t *testing.T) (env []string) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"GOCACHE=" + strings.TrimSpace(string(out))}
}

func TestKillPortBuilds(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for go is a shell script")
	}
	dir := checkout(t)
	write(t, dir+"/go.mod", 0o666, "module example.org/m\n\ngo 1.26\n")
	write(t, dir+"/cmd/killport/main.go", 0o666, `package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Printf("%q\n", os.Args[1:])
	os.Exit(7)
}
`)
	linkGo(t, dir+"/path")
	for situation, home := range map[string]string{"cache": dir + "/cache", "no cache": "/dev/null"} {
		env := append(goCache(t), "PATH="+dir+"/path", "XDG_CACHE_HOME="+home, "TMPDIR="+t.TempDir())
		got := run(t, t.TempDir(), env, python(t), dir+"/scripts/kill_port.py", "8000", "a b")
		if want := (result{7, `["8000" "a b"]` + "\n", ""}); got != want {
			t.Errorf("%s: %v; want %v", situation, got, want)
		}
	}
}

func TestKillPortExitCodes(t *testing.T) {
	bin := commands(t)
	dir := checkout(t)
	env := onPath(bin, nil)[:1]
	command := []string{python(t), dir + "/scripts/kill_port.py"}

	s := serve(t, listener)
	r := run(t, dir, env, command[0], command[1], s.port)
	if got := statuses(t, r.stdout); r.code != 0 || got[s.port] != "cleaned" || !s.ended() {
		t.Errorf("a listener: %v", r)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r = run(t, dir, append(env, roleVar+"="+ancestor), self, command...)
	if r.code != 1 || !strings.Contains(r.stdout, `"status":"partial"`) {
		t.Errorf("an ancestor that listens: %v", r)
	}

	r = run(t, dir, env, command[0], command[1], "80a")
	if r.code != 2 || r.stdout != "" || !strings.HasPrefix(r.stderr, "killport: error: ") {
		t.Errorf("80a: %v", r)
	}
}

func TestKillPortInterrupted(t *testing.T) {
	bin := commands(t)
	dir := checkout(t)
	s := serve(t, stubborn)
	cmd := exec.Command(python(t), dir+"/scripts/kill_port.py", "--grace", "60s", s.port)
	cmd.Env = append(os.Environ(), onPath(bin, []string{s.port})...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if said, err := s.said.ReadString('\n'); said != "SIGTERM\n" {
		t.Errorf("the server says %q, %v; want SIGTERM", said, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != 130 || !s.serves() {
		t.Errorf("interrupted: %v, server goes on: %v\n%s", cmd.ProcessState, s.serves(), &out)
	}
}
