package killport_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/killport/killport/internal/ptytest"
)

// serverVar makes this test binary, run again, a server that calls itself node.
const serverVar = "KILLPORT_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverVar) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err == nil {
		err = os.WriteFile("/proc/self/comm", []byte("node"), 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
}

// An example is a command of the README and what it says then.
type example struct {
	command string
	says    []string
}

var block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// blocks returns the examples of each block that has some.
func blocks(t *testing.T) (all [][]example) {
	t.Helper()
	for _, m := range block.FindAllStringSubmatch(read(t, "README.md"), -1) {
		if !strings.HasPrefix(m[1], "$ ") {
			continue
		}
		var examples []example
		for line := range strings.Lines(m[1]) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				examples = append(examples, example{command: command})
			} else {
				last := &examples[len(examples)-1]
				last.says = append(last.says, line)
			}
		}
		all = append(all, examples)
	}
	return all
}

// Every example of the README says what stands there. In each block, port 8000
// is held by a server called node.
func TestREADME(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("GOBIN", bin)
	if out, err := exec.Command("go", "install", "./cmd/...").CombinedOutput(); err != nil {
		t.Fatalf("go install: %v\n%s", err, out)
	}
	all := blocks(t)
	if len(all) < 5 {
		t.Fatalf("found the blocks %+v only", all)
	}
	for _, examples := range all {
		t.Run(examples[0].command, func(t *testing.T) {
			if strings.Contains(fmt.Sprint(examples), "jq ") {
				if _, err := exec.LookPath("jq"); err != nil {
					t.Skip(err)
				}
			}
			s := stage{bin: bin, dir: t.TempDir(), busy: serve(t), free: unused(t)}
			for _, e := range examples {
				s.play(t, e)
			}
		})
	}
}

// A stage is where the examples of one block are played.
type stage struct {
	bin, dir string
	busy     server
	free     string // a port that nobody listens on
}

// unused is a port that can be had: one that is reserved could not.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// A server is a child that listens.
type server struct{ port, pid string }

var bare = regexp.MustCompile(`\bkillport( --?[a-z-]+)*\s*($|[|;&>])`)

// play runs an example with the ports of the stage, and compares.
func (s stage) play(t *testing.T, e example) {
	t.Helper()
	command := s.local(e.command)
	if bare.MatchString(e.command) || regexp.MustCompile(`\b(8000|8080|3000)\b`).MatchString(command) {
		t.Fatalf("%s: it could end what is not ours", e.command)
	}
	shows := s.run(t, command)
	if want := s.pattern(e.says); !want.MatchString(squeeze(shows)) {
		t.Errorf("%s says\n%s\nwant\n%s", command, shows, s.local(strings.Join(e.says, "\n")))
	}
}

// local puts in our ports, the PID of the server and our name.
func (s stage) local(text string) string {
	me := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	for _, word := range []struct{ in, out string }{
		{`\b8000\b`, s.busy.port},
		{`\b3000\b`, s.free},
		{`\b4242\b`, s.busy.pid},
		{`\bann\b`, me},
	} {
		text = regexp.MustCompile(word.in).ReplaceAllLiteralString(text, word.out)
	}
	return text
}

// pattern matches what the README says, but for times and what it leaves out.
func (s stage) pattern(lines []string) *regexp.Regexp {
	text := squeeze(s.local(strings.Join(lines, "\n")))
	text = strings.ReplaceAll(regexp.QuoteMeta(text), "…", `.*`)
	text = regexp.MustCompile(` in \d+ ms`).ReplaceAllLiteralString(text, `( in \d+ ms)?`) // none if it took 0
	return regexp.MustCompile(`\A` + text + `\n?\z`)
}

// squeeze leaves the widths of columns out.
func squeeze(text string) string {
	return regexp.MustCompile(` +`).ReplaceAllLiteralString(text, " ")
}

// run runs a line of shell on a terminal, and returns what that shows.
func (s stage) run(t *testing.T, line string) (shows string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	screen, terminal := ptytest.Open(t)
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	var stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, &stderr
	cmd.Env = append(os.Environ(), "PATH="+s.bin+":"+os.Getenv("PATH"), "KILLPORT_ALL="+s.busy.port, "NO_COLOR=1")
	cmd.Dir = s.dir
	if strings.HasPrefix(line, "go ") {
		cmd.Dir = "."
	}
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		io.Copy(&out, screen) // ends with EIO when nobody has the terminal open any more
		close(done)
	}()
	err := cmd.Run()
	terminal.Close()
	<-done
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, stderr.String())
	}
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

func serve(t *testing.T) server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serverVar+"=yes", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
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
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return server{port: strings.TrimSpace(said), pid: strconv.Itoa(cmd.Process.Pid)}
}
