// Command zoo plays the odd holders of a port that killport must handle. It is for tests only.
//
//	zoo MODE [flags] [ADDR...]
//	zoo help
//
// ADDR is like 127.0.0.1:0, [::1]:0 or [::]:0. Port 0 lets the kernel choose; no ADDR means 127.0.0.1:0.
//
// Once the holder stands, zoo prints one line of JSON, a [ready], and stays. Nothing leaks: every process ends itself
// when --life is over, even a stopped one, and helpers end with the process that started them unless living on is the
// point of their mode. With --leash they all end when stdin does as well, that is, with whoever holds its other end.
//
// Exit codes: 0 ended by itself, 1 could not play, 2 usage, or not supported here.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
)

// argsVar hands over the arguments where argv itself is falsified; see hostileName.
const argsVar = "ZOO_ARGS"

var errUsage = errors.New("usage")

func main() { os.Exit(run(arguments(), os.Stdout, os.Stderr)) }

func arguments() []string {
	var args []string
	if json.Unmarshal([]byte(os.Getenv(argsVar)), &args) != nil {
		return os.Args[1:]
	}
	return args
}

func run(args []string, stdout, stderr io.Writer) int {
	err := play(args, stdout)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok { // of the command that run-holding runs
		return exit.ExitCode()
	}
	fmt.Fprintf(stderr, "zoo: %v\n", err)
	if errors.Is(err, errUsage) || errors.Is(err, errors.ErrUnsupported) {
		return 2
	}
	return 1
}

// unsupported stands for the modes of other systems.
func unsupported(*call) error {
	return fmt.Errorf("%w on %s", errors.ErrUnsupported, runtime.GOOS)
}

func play(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: zoo MODE [flags] [ADDR...]; zoo help lists the modes", errUsage)
	}
	if args[0] == "help" {
		return help(stdout)
	}
	m, ok := modeNamed(args[0])
	if !ok {
		return fmt.Errorf("%w: no mode %q; zoo help lists them", errUsage, args[0])
	}
	c, err := parse(m, args[1:])
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errUsage, m.name, err)
	}
	c.stdout = stdout
	defer sayFarewell()
	c.limitLife()
	return m.play(c)
}
