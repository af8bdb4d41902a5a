//go:build linux || windows

package suite_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// errUnplayable says that the zoo cannot play a mode on this system.
var errUnplayable = errors.New("cannot be played here")

// ready is the line that the zoo prints, see internal/zoo.
type ready struct {
	PID        int    `json:"pid"`
	Port       int    `json:"port"`
	Addr       string `json:"addr"`
	PIDs       []int  `json:"pids"`
	Ports      []int  `json:"ports"`
	Parent     int    `json:"parent"`
	Supervisor int    `json:"supervisor"`
	PeerPID    int    `json:"peer_pid"`
	Child      int    `json:"child"`
	TID        int    `json:"tid"`
	MPTCP      bool   `json:"mptcp"`
}

// animal is a mode of the zoo that runs.
type animal struct {
	ready
	cmd    *exec.Cmd
	leash  *os.File // it ends when this is closed
	stderr bytes.Buffer
	done   chan struct{} // closed when it has ended and was reaped
	pins   map[int]pin   // of all that it has told us of
}

// startZooBy plays a mode, in a folder. The program is the zoo, a copy of it, or
// a command that becomes it: as another user, in another namespace. Every ":0"
// among its addresses becomes a port that no other test has.
func startZooBy(program []string, dir string, args ...string) (*animal, error) {
	a := &animal{done: make(chan struct{}), pins: map[int]pin{}}
	args = append([]string{args[0], "--life=2m", "--leash"}, withPorts(args[0], args[1:])...)
	args = slices.Concat(program, args)
	a.cmd = exec.Command(args[0], args[1:]...)
	a.cmd.Dir = dir
	a.cmd.Stderr = &a.stderr
	a.cmd.SysProcAttr = console
	// Pipes of our own: StdinPipe would be closed, and StdoutPipe waited for, by Wait.
	stdin, leash, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, leash.Close())
	}
	defer out.Close()
	a.cmd.Stdin, a.leash, a.cmd.Stdout = stdin, leash, stdout
	err = a.cmd.Start()
	stdout.Close()
	if err != nil {
		return nil, errors.Join(err, leash.Close())
	}
	if p, err := pinned(a.cmd.Process.Pid); err == nil {
		a.pins[a.cmd.Process.Pid] = p // as long as the PID cannot be another's
	}
	go func() {
		_ = a.cmd.Wait()
		close(a.done)
	}()
	if err := a.await(out); err != nil {
		a.end()
		return nil, err
	}
	return a, nil
}

// await reads the line, and pins whom it names.
func (a *animal) await(out *os.File) error {
	_ = out.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		a.leash.Close()
		<-a.done
		if a.cmd.ProcessState.ExitCode() == 2 && strings.Contains(a.stderr.String(), "unsupported") {
			return fmt.Errorf("%w: %s", errUnplayable, a.stderr.String())
		}
		return fmt.Errorf("zoo %q: %w: %s", a.cmd.Args[1:], err, a.stderr.String())
	}
	if err := json.Unmarshal(line, &a.ready); err != nil {
		return err
	}
	for _, pid := range append([]int{a.PID, a.Parent, a.Supervisor, a.PeerPID, a.Child}, a.PIDs...) {
		if a.pins[pid] != 0 || pid == 0 {
			continue
		}
		p, err := pinned(pid)
		if err == nil {
			a.pins[pid] = p
		} else if err != errNoProcess { // the modes that exit have done so
			return fmt.Errorf("pin PID %d: %w", pid, err)
		}
	}
	return nil
}

// end lets it go, and waits until all of it has ended.
func (a *animal) end() {
	a.leash.Close()
	for _, p := range a.pins {
		p.wake() // a stopped one notices nothing
		if !eventually(5*time.Second, p.ended) {
			p.kill()
		}
		p.close()
	}
	<-a.done
}

// modes without an address of their own, or with one that must stay as it is.
var unaddressed = []string{"sleep", "client", "churn", "noop", "many"}

func withPorts(mode string, args []string) []string {
	if private() != nil || slices.Contains(unaddressed, mode) {
		return args
	}
	args = slices.Clone(args)
	addressed := false
	for i, arg := range args {
		if host, port, ok := cutPort(arg); ok {
			addressed = true
			if port == "0" {
				args[i] = host + ":" + strconv.Itoa(freshPorts(1))
			}
		}
	}
	if !addressed {
		args = append(args, "127.0.0.1:"+strconv.Itoa(freshPorts(1)))
	}
	return args
}

func cutPort(arg string) (host, port string, ok bool) {
	i := strings.LastIndexByte(arg, ':')
	if i < 0 || strings.HasPrefix(arg, "-") {
		return "", "", false
	}
	first, _, _ := strings.Cut(arg[i+1:], "-") // of a range
	_, err := strconv.ParseUint(first, 10, 16)
	return arg[:i], arg[i+1:], err == nil
}

// lastPort begins somewhere: two suites may run on one Windows.
var lastPort = rand.Uint32N(5000) + 10000

// freshPorts returns the first of n ports in a row that no test has or had:
// one that the kernel chooses could be given to a second test as soon as the
// first has it freed. They are below the ports that the kernel chooses from.
func freshPorts(n int) int {
	for {
		if first := int(atomic.AddUint32(&lastPort, uint32(n))) - n + 1; allFree(first, n) {
			return first
		}
	}
}

// allFree keeps us away from what others have: no Windows is ours alone. Where
// the network is, nobody has to look, and had better not: a child that is
// forked at this moment has the port until it executes its program.
func allFree(first, n int) bool {
	if runtime.GOOS != "windows" {
		return true
	}
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// eventually waits until it is so, for as long as said.
func eventually(limit time.Duration, so func() bool) bool {
	for end := time.Now().Add(limit); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
