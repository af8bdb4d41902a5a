package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestShow(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.org/m\n\ngo 1.26\n")
	write(t, dir, "empty/empty.go", "package empty\n")
	write(t, dir, "good/good_test.go", `package good

import "testing"

func TestQuiet(t *testing.T) { t.Log("said in passing"); t.Attr("tally", "7 of 7") }
func TestRoot(t *testing.T)  { t.Run("inner", func(t *testing.T) { t.Skip("needs root") }) }
`)
	write(t, dir, "bad/bad_test.go", `package bad

import "testing"

func TestQuiet(t *testing.T) { t.Log("said in passing") }
func TestBad(t *testing.T)   { t.Error("went wrong") }
`)
	write(t, dir, "panics/panics_test.go", `package panics

import "testing"

func TestPanics(t *testing.T) { panic("out of hand") }
`)
	write(t, dir, "unbuilt/unbuilt_test.go", `package unbuilt

var x = undefined
`)
	cmd := exec.Command("go", "test", "-json", "./...")
	cmd.Dir = dir
	events, _ := cmd.Output() // it fails, as it should
	var out strings.Builder
	skipped, err := show(strings.NewReader(string(events)+"not an event\n"), &out)
	if skipped != 1 || err != nil {
		t.Errorf("show = %d, %v; want 1, nil", skipped, err)
	}
	for _, want := range []string{
		`(?m)^\?\s+example.org/m/empty\s+\[no test files\]$`,
		`(?m)^TestQuiet: tally: 7 of 7$`,
		`(?m)^ok\s+example.org/m/good\s+[0-9.]+s$`,
		`bad_test.go:6: went wrong\n--- FAIL: TestBad`,
		`(?m)^FAIL\s+example.org/m/bad\s+[0-9.]+s$`,
		`panic: out of hand`,
		`undefined: undefined`,
		`(?m)^FAIL\s+example.org/m/unbuilt \[build failed\]$`,
		`(?m)^not an event$`,
		`skipped: example.org/m/good TestRoot/inner: good_test.go:6: needs root\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("output has no %q:\n%s", want, &out)
		}
	}
	for _, not := range []string{"said in passing", "=== RUN", "--- PASS", "--- SKIP"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("output has %q:\n%s", not, &out)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
