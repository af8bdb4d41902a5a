//go:build !linux

package main

import (
	"net"
	"syscall"
	"time"
)

// The modes that are for Linux.
var (
	stopped, reuseport, prefork, worker          = unsupported, unsupported, unsupported, unsupported
	connected, threadFDs, leaderGone             = unsupported, unsupported, unsupported
	cloneFiles, vfork, scm, ioUring, hostileName = unsupported, unsupported, unsupported, unsupported, unsupported
	traced, tracer, hung, stuck, stuckThread     = unsupported, unsupported, unsupported, unsupported, unsupported
	lingering, stuckExit, crowd, storm           = unsupported, unsupported, unsupported, unsupported
)

// blockTerm falls back: Go has SIGTERM unblocked in all threads.
func blockTerm(c *call) error { return ignoreTerm(c) }

func sharePort(string, string, syscall.RawConn) error { return unsupported(nil) }

func exclusive(string, string, syscall.RawConn) error { return unsupported(nil) }

func isMPTCP(net.Listener) bool { return false }

// killAfter is not needed where no mode stops itself.
func killAfter(time.Duration) {}
