//go:build !linux && !windows

package main

// The modes that are for Linux and Windows.
var orphan, bound = unsupported, unsupported
