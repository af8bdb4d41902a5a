package command

import (
	"os/exec"
	"syscall"
)

// alone keeps Ctrl-C from a command: it is for us, who then say what was asked
// for (CREATE_NEW_PROCESS_GROUP, Process Creation Flags of the Windows API).
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
