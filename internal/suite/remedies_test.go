//go:build linux

package suite_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/killport/killport/internal/remedytest"
	"github.com/killport/killport/internal/shell"
)

// TestRemedies: nothing that portdiag or killport advises is refused, and none of
// it ends what was not asked about; in every situation that the other tests have.
func TestRemedies(t *testing.T) {
	require(t, "private", "bash")
	var played, tried atomic.Int64
	t.Run("of", func(t *testing.T) {
		for _, sit := range slices.Concat(situations, odd, sighted(), fronts(), beside) {
			t.Run(sit.name, func(t *testing.T) {
				t.Parallel()
				require(t, sit.needs...)
				s := &staging{T: t, dir: t.TempDir(), roles: map[int]string{}}
				sit.set(s)
				played.Add(1)
				tried.Add(int64(s.advised()))
			})
		}
	})
	t.Logf("%d pieces of advice in %d situations", tried.Load(), played.Load())
	if tried.Load() < played.Load() { // there is somebody beside in nearly all of them, whom one can be told to end
		t.Error("this tests nothing")
	}
}

// advised tries all advice on the port, and on each address of it, with somebody
// beside who was not asked about. It returns how much there was.
func (s *staging) advised() (tried int) {
	s.Helper()
	user := s.session(s.through)
	root := user
	if through := s.elevated(); len(through) != len(s.through) {
		root = s.session(through)
	}
	ask := func(argv ...string) string {
		if argv[0] == "sudo" {
			return root.run(s, argv[1:]...)
		}
		return user.run(s, argv...)
	}
	tried = remedytest.Check(s, ask, strconv.Itoa(s.port))
	bystander, err := startZoo(s.dir, "serve", s.at("127.0.0.9"))
	if err == nil {
		s.Cleanup(bystander.end)
	}
	asked := []string{"127.0.0.9"}
	for line := range strings.Lines(ask("listeners", strconv.Itoa(s.port))) {
		asked = append(asked, gjson.Get(line, "local_addr").Str)
	}
	slices.Sort(asked)
	for _, addr := range slices.Compact(asked) {
		tried += remedytest.Check(s, ask, s.at(addr))
	}
	if ask("listeners", "--udp", strconv.Itoa(s.port)) != "" {
		tried += remedytest.Check(s, ask, "--udp", strconv.Itoa(s.port))
	}
	return tried
}

// elevated is through without what makes us another user, which sudo undoes.
func (s *staging) elevated() []string {
	for _, user := range [][]string{stranger, nobody} {
		if n := len(s.through) - len(user); n >= 0 && slices.Equal(s.through[n:], user) {
			return s.through[:n]
		}
	}
	return s.through
}

// session is a shell that stays, since with it goes what it is run through.
type session struct {
	in  *os.File
	out *bufio.Reader
}

// session starts a shell through a command.
func (s *staging) session(through []string) *session {
	s.Helper()
	argv := append(slices.Clone(through), "sh")
	cmd := exec.CommandContext(limited(s), argv[0], argv[1:]...)
	in, w, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	r, out, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	err = cmd.Start()
	in.Close()
	out.Close()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { w.Close(); _ = cmd.Wait(); r.Close() })
	return &session{in: w, out: bufio.NewReader(r)}
}

// over is what stands behind the output of a command.
const over = "\x00\n"

func (c *session) run(t testing.TB, argv ...string) (stdout string) {
	t.Helper()
	if _, err := fmt.Fprintf(c.in, "%s </dev/null 2>/dev/null; printf '\\000\\n'\n", shell.Join(argv...)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for !strings.HasSuffix(b.String(), over) {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			t.Fatalf("%q: %v: %s", argv, err, b.String())
		}
		b.Write(line)
	}
	return strings.TrimSuffix(b.String(), over)
}

// sighted are the ways to look as situations: with root's holder, and the own one.
func sighted() (all []situation) {
	for _, look := range sights {
		for holder, by := range map[string][]string{"root": nil, "own": look.own} {
			all = append(all, situation{
				name: look.name + "_" + holder, needs: []string{"otheruser"},
				set: func(s *staging) {
					if out, err := tool(s.Context(), "", append(slices.Clone(look.through), "true")...).CombinedOutput(); err != nil {
						s.Skipf("cannot be had here: %v: %s", err, out)
					}
					s.port, s.through = zooBy(s, by, s.dir, "serve").Port, look.through
				},
			})
		}
	}
	return all
}

// fronts are what listens for others, outside of a container and in one.
func fronts() (all []situation) {
	for _, name := range []string{"dockerd", "docker-proxy", "sshd", "node", "systemd", "supervisord"} {
		for _, contained := range []bool{false, true} {
			all = append(all, situation{
				name: fmt.Sprintf("%s_contained_%v", name, contained),
				set: func(s *staging) {
					exe := filepath.Join(s.dir, name)
					if err := copyZoo(exe); err != nil {
						s.Fatal(err)
					}
					a, err := startZooBy([]string{exe}, s.dir, "serve")
					if err != nil {
						s.Fatal(err)
					}
					s.port = a.Port
					if contained {
						contain(s, a.PID)
					}
					s.Cleanup(a.end) // before its cgroup
				},
			})
		}
	}
	return all
}

// beside are situations where the address counts, or the protocol.
var beside = []situation{
	{name: "beside_udp", set: func(s *staging) {
		s.add("holder", "serve", "127.0.0.1:0")
		s.add("udp", "udp", s.at("127.0.0.1"))
	}},
	{name: "beside_two_ports_of_one", set: func(s *staging) {
		s.fresh()
		s.add("holder", "serve", s.at("127.0.0.1"), fmt.Sprintf("127.0.0.1:%d", freshPorts(1)))
	}},
	{name: "beside_mapped", needs: []string{"ipv6"}, set: func(s *staging) {
		s.add("holder", "serve", "[::1]:0")
		s.add("other", "serve", s.at("127.0.0.1"))
	}},
	{name: "beside_other_users", needs: []string{"otheruser"}, set: func(s *staging) {
		s.add("holder", "serve", "127.0.0.1:0")
		zooBy(s, stranger, s.dir, "serve", s.at("127.0.0.2"))
		s.through = stranger
	}},
	{name: "beside_ancestor", set: func(s *staging) {
		ancestor(s)
		s.add("other", "serve", s.at("127.0.0.2"))
	}},
	{name: "beside_ghost", set: func(s *staging) {
		s.add("holder", "scm", "127.0.0.1:0")
		s.add("other", "serve", s.at("127.0.0.2"))
	}},
}
