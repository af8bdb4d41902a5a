//go:build linux || windows

package suite_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for something that takes milliseconds.
const patience = 20 * time.Second

// build makes the commands and the zoo the first of their names on PATH, which
// are where scripts/wine has put them: there is no go command under Wine.
func build(dir string) error {
	bin := os.Getenv("KILLPORT_EXES")
	if bin == "" {
		bin = filepath.Join(dir, "bin")
		if err := compile(bin, filepath.Join(dir, "cover")); err != nil {
			return err
		}
	}
	os.Unsetenv("KILLPORT_ALL")
	return os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// compile builds them into bin; what they covered goes to cover.
func compile(bin, cover string) error {
	for _, d := range []string{bin, cover} {
		if err := os.Mkdir(d, 0o777); err != nil {
			return err
		}
	}
	// Other users run the programs, and write what those covered.
	if err := errors.Join(os.Chmod(filepath.Dir(bin), 0o755), os.Chmod(bin, 0o755), os.Chmod(cover, 0o777)); err != nil {
		return err
	}
	if testing.CoverMode() != "" {
		// go test -cover has a GOCOVERDIR of its own, and takes another one with -args.
		given := flag.Lookup("test.gocoverdir").Value.String()
		os.Setenv("GOCOVERDIR", cmp.Or(given, os.Getenv("GOCOVERDIR"), cover))
	}
	return compileInto(bin, "./cmd/...", "./internal/zoo")
}

// compileInto is go build; the words are flags and packages.
func compileInto(dir string, words ...string) error {
	args := []string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}
	if mode := testing.CoverMode(); mode != "" {
		args = append(args, "-cover", "-covermode="+mode)
	}
	cmd := exec.Command("go", append(args, words...)...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	return nil
}
