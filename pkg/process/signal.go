package process

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
)

// signals are those by which a process can be asked to end.
var signals = map[string]syscall.Signal{
	"SIGHUP":  syscall.SIGHUP,
	"SIGINT":  syscall.SIGINT,
	"SIGQUIT": syscall.SIGQUIT,
	"SIGTERM": syscall.SIGTERM,
	"SIGKILL": syscall.SIGKILL,
}

// ParseSignal reads the name of a signal that ends a process, with or without
// SIG, in any case.
func ParseSignal(name string) (syscall.Signal, error) {
	upper := strings.ToUpper(name)
	if sig, ok := signals["SIG"+strings.TrimPrefix(upper, "SIG")]; ok {
		return sig, nil
	}
	return 0, fmt.Errorf("%q is not one of HUP, INT, QUIT, TERM, KILL", name)
}

// SignalName is the inverse of ParseSignal: "SIGTERM".
func SignalName(sig syscall.Signal) string {
	for name, s := range signals {
		if s == sig {
			return name
		}
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// KillName is what a process is killed by, as records have it.
func KillName() string {
	if runtime.GOOS == "windows" {
		return "TerminateProcess"
	}
	return "SIGKILL"
}
