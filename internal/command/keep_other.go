//go:build !linux

package command

import "os/exec"

// keepFiles and startWithoutKeys are for Linux: Windows passes on what is
// named, and nowhere else does anything run as another user.
func keepFiles() error { return nil }

func startWithoutKeys(cmd *exec.Cmd) error { return cmd.Start() }
