package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostileName calls itself as told. For argv and exe it executes itself again, with the real arguments in argsVar.
func hostileName(c *call) error {
	if len(c.argv) > 0 || c.argvBytes > 0 || c.exe != "" {
		return c.again()
	}
	r, err := c.serveAll()
	if err != nil {
		return err
	}
	for _, s := range c.comm {
		if err := setComm(s); err != nil {
			return err
		}
	}
	return c.hold(r)
}

// setComm names the main thread, see init, and so the process.
func setComm(escaped string) error {
	s, err := unescape(escaped)
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(s)
	if err != nil {
		return err
	}
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0))
}

func (c *call) again() error {
	exe, err := c.executable()
	if err != nil {
		return err
	}
	argv, err := c.falseArgv()
	if err != nil {
		return err
	}
	args := []string{
		"hostile-name", "--life=" + c.left().String(), "--leash=" + strconv.FormatBool(c.leash),
		"--port-file=" + c.portFile,
	}
	for _, s := range c.comm {
		args = append(args, "--comm="+s)
	}
	inner, err := json.Marshal(append(args, c.args...))
	if err != nil {
		return err
	}
	err = syscall.Exec(exe, argv, append(os.Environ(), argsVar+"="+string(inner)))
	return fmt.Errorf("execve %q: %w", exe, err)
}

// executable is zoo, or the copy of it that --exe asks for.
func (c *call) executable() (string, error) {
	self, err := os.Executable()
	if err != nil || c.exe == "" {
		return self, err
	}
	path, err := unescape(c.exe)
	if err != nil {
		return "", err
	}
	image, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, image, 0o755)
}

func (c *call) falseArgv() ([]string, error) {
	argv := []string{"zoo"}
	if len(c.argv) > 0 {
		argv = nil
	}
	size := 0
	for _, s := range c.argv {
		arg, err := unescape(s)
		if err != nil {
			return nil, err
		}
		argv = append(argv, arg)
	}
	for _, arg := range argv {
		size += len(arg) + 1
	}
	if c.argvBytes > size {
		if err := allowLongArgv(); err != nil {
			return nil, err
		}
	}
	for size < c.argvBytes {
		arg := strings.Repeat("x", min(100_000, c.argvBytes-size-1))
		argv, size = append(argv, arg), size+len(arg)+1
	}
	return argv, nil
}

// allowLongArgv: argv and the environment may have a quarter of the stack limit, and 6 MiB at most; one argument has
// 128 KiB at most (bprm_stack_limits in fs/exec.c).
func allowLongArgv() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	limit.Cur = max(limit.Cur, min(limit.Max, 4*6<<20))
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_STACK, &limit))
}

func unescape(s string) (string, error) {
	text, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not Go-escaped: %w", errUsage, s, err)
	}
	return text, nil
}
