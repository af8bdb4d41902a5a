package suite_test

import (
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// idlers starts processes that hold nothing.
func idlers(b *testing.B, n int) {
	b.Helper()
	for range n {
		cmd := exec.Command("sleep", "1h")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// each runs commands that answer the same question, as sub-benchmarks; those
// that are not here are left out.
func each(b *testing.B, commands map[string][]string, before func(*testing.B)) {
	b.Helper()
	for name, argv := range commands {
		b.Run(name, func(b *testing.B) {
			if _, err := exec.LookPath(argv[0]); err != nil {
				b.Skip(err)
			}
			for b.Loop() {
				if before != nil {
					b.StopTimer()
					before(b)
					b.StartTimer()
				}
				// fuser exits with 1 if it finds nobody.
				if out, err := exec.Command(argv[0], argv[1:]...).Output(); err != nil && argv[0] != "fuser" {
					b.Fatalf("%q: %v\n%s", argv, err, out)
				}
			}
		})
	}
}

// Who has a port, among 1,000 processes.
func BenchmarkListed(b *testing.B) {
	a := zoo(b, b.TempDir(), "serve", "127.0.0.1:0")
	idlers(b, 1000)
	port := strconv.Itoa(a.Port)
	each(b, map[string][]string{
		"listeners": {"listeners", port},
		"ss":        {"ss", "-Hltnp", "sport = :" + port},
		"lsof":      {"lsof", "-nP", "-t", "-iTCP:" + port, "-sTCP:LISTEN"},
		"fuser":     {"fuser", port + "/tcp"},
	}, nil)
}

// To free a port on which nobody is, among 1,000 processes.
func BenchmarkFree(b *testing.B) {
	idlers(b, 1000)
	port := strconv.Itoa(freshPorts(1))
	each(b, map[string][]string{
		"killport": {"killport", port},
		"ss":       {"ss", "-Hltnp", "sport = :" + port},
		"fuser":    {"fuser", "-k", port + "/tcp"},
	}, nil)
}

// To free a port that a server has which ends at once, among 1,000 processes.
// fuser does not wait until the port is free.
func BenchmarkHeld(b *testing.B) {
	idlers(b, 1000)
	port := strconv.Itoa(freshPorts(1))
	var server *exec.Cmd
	serve := func(b *testing.B) {
		if server != nil {
			_ = server.Wait()
		}
		server = exec.Command("zoo", "serve", "--life=1m", "127.0.0.1:"+port)
		out, err := server.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := server.Start(); err != nil {
			b.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // its line: it listens
			b.Fatal(err)
		}
	}
	b.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	each(b, map[string][]string{
		"killport": {"killport", port},
		"fuser":    {"fuser", "-k", "-TERM", port + "/tcp"},
	}, func(b *testing.B) {
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if exec.Command("sh", "-c", "ss -Hltn 'sport = :"+port+"' | grep -q .").Run() != nil {
				break // free again
			}
		}
		serve(b)
	})
}
