package pkill2_test

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/pkill2"
)

// xinetd is a server on two ports whose program has the name of one that serves
// many.
func xinetd(t *testing.T) *server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "xinetd")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return startAs(t, path, "two")
}

// What is protected is so whatever else a record says that it had, and has not
// any more.
func TestSparedAfterAnotherSocket(t *testing.T) {
	s := xinetd(t)
	both := s.records(t)
	past := set(t, both[0], "socket", map[string]int{"inode": 1})
	out, errs := run(t, t.Context(), pkill2.Options{Grace: time.Minute, Via: pkill2.ViaAuto}, past, both[1])
	if len(out) != 2 || len(errs) > 0 || out[1].outcome == "terminated" || out[1].signals != "" || !s.lives() {
		t.Errorf("Stage = %v, %v, it lives: %v; want nothing sent", out, errs, s.lives())
	}
}

// Who stands before listeners in a pipeline is known to listeners alone, which
// says so: nothing that the user says has it ended.
func TestSparedByItsRecord(t *testing.T) {
	s := start(t, "two")
	both := s.records(t)
	spared := set(t, both[1], "protected", "pipeline")
	for name, in := range map[string][]jsonl.Record{
		"alone":                        {spared},
		"with another":                 {both[0], spared},
		"before another":               {spared, both[0]},
		"with one that it has no more": {set(t, both[0], "socket", map[string]int{"inode": 1}), spared},
	} {
		for _, opts := range []pkill2.Options{
			{Grace: time.Minute, Via: pkill2.ViaAuto},
			{Grace: time.Minute, Via: pkill2.ViaProcess, Override: true},
		} {
			out, errs := run(t, t.Context(), opts, in...)
			if len(errs) > 0 || !s.lives() {
				t.Fatalf("%s: Stage = %v, %v, it lives: %v", name, out, errs, s.lives())
			}
			for _, r := range out {
				if r.outcome != "protected" || r.reason != "pipeline" || r.signals != "" {
					t.Errorf("%s: %v; want it protected", name, r)
				}
			}
		}
	}
}

// bind binds a port and does not listen. By SIGUSR1 it connects, by SIGUSR2 it
// closes.
func bind() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	socket := func() int {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err == nil {
			err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		}
		if err != nil {
			panic(err)
		}
		return fd
	}
	port := func(fd int) int {
		name, err := syscall.Getsockname(fd)
		if err != nil {
			panic(err)
		}
		return name.(*syscall.SockaddrInet4).Port
	}
	client, server := socket(), socket()
	if err := syscall.Listen(server, 1); err != nil {
		panic(err)
	}
	fmt.Println(port(client))
	if <-signals == syscall.SIGUSR2 {
		syscall.Close(client)
	} else if err := syscall.Connect(client, &syscall.SockaddrInet4{Port: port(server), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		panic(err)
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
