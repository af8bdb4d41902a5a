package process

import "runtime"

// Superuser is what people call who may act on the processes of all.
func Superuser() string {
	if runtime.GOOS == "windows" {
		return "administrator"
	}
	return "root"
}

// Elevated is the command as root; on Windows, where one opens a window as
// administrator and types the command there, as it is.
func Elevated(command ...string) []string {
	if runtime.GOOS == "windows" {
		return command
	}
	return append([]string{"sudo"}, command...)
}
