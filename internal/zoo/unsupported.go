//go:build !linux

package main

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"
)

// The modes that are for Linux.
var (
	stopped, reuseport, prefork, orphan, worker  = unsupported, unsupported, unsupported, unsupported, unsupported
	bound, connected, threadFDs, leaderGone      = unsupported, unsupported, unsupported, unsupported
	cloneFiles, vfork, scm, ioUring, hostileName = unsupported, unsupported, unsupported, unsupported, unsupported
	traced, tracer, hung, stuck, stuckThread     = unsupported, unsupported, unsupported, unsupported, unsupported
	lingering, stuckExit                         = unsupported, unsupported
)

func unsupported(*call) error {
	return fmt.Errorf("%w on %s", errors.ErrUnsupported, runtime.GOOS)
}

// blockTerm falls back: Go has SIGTERM unblocked in all threads.
func blockTerm(c *call) error { return ignoreTerm(c) }

func sharePort(string, string, syscall.RawConn) error { return unsupported(nil) }

func isMPTCP(net.Listener) bool { return false }

// killAfter is not needed where no mode stops itself.
func killAfter(time.Duration) {}
