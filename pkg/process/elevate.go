package process

import (
	"os"
	"runtime"
)

// Superuser is what people call who may act on the processes of all.
func Superuser() string {
	if runtime.GOOS == "windows" {
		return "administrator"
	}
	return "root"
}

// Elevated is the command as root types it, if we are root, and else as
// everybody does; on Windows, where one opens a window as administrator and
// types the command there, as it is.
func Elevated(command ...string) []string {
	if os.Geteuid() > 0 { // -1 on Windows
		return append([]string{"sudo"}, command...)
	}
	return command
}
