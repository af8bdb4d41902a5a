//go:build unix

package command

import (
	"os/exec"
	"syscall"
)

// alone gives a command a session of its own. Ctrl-C is for us, who then say
// what was asked for; and what runs as another user has no terminal of ours.
func alone(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
