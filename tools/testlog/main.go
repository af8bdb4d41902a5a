// Testlog shows the events of `go test -json` the way go test shows them
// without -v, with the attributes that tests give themselves (testing.T.Attr),
// and lists at the end every test that was skipped, with its reason.
//
//	go test -json ./... | testlog [-strict]
//
// With -strict a skip is a failure: the exit code is 1.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	strict := flag.Bool("strict", false, "exit 1 when a test was skipped")
	flag.Parse()
	skipped, err := show(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testlog: error: %v\n", err)
		os.Exit(3)
	}
	if *strict && skipped > 0 {
		os.Exit(1)
	}
}

// An event is what `go doc test2json` calls TestEvent, as far as it is used here.
type event struct {
	Action, Package, Test, Output, Key, Value string
}

// A test is one test's output so far, and how it ended: "" while it runs.
type test struct {
	name, ended string
	attributes  []string
	output      strings.Builder
}

// A pkg holds the tests of one package in the order of their start; the one
// without a name is the package itself.
type pkg struct {
	tests  []*test
	byName map[string]*test
}

func (p *pkg) test(name string) *test {
	t := p.byName[name]
	if t == nil {
		t = &test{name: name}
		p.byName[name] = t
		p.tests = append(p.tests, t)
	}
	return t
}

// show copies the events in r to w as text and returns how many tests were skipped.
func show(r io.Reader, w io.Writer) (skipped int, err error) {
	out := bufio.NewWriter(w)
	defer out.Flush()
	pkgs := map[string]*pkg{}
	var skips []string
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err != nil && err != io.EOF {
			return len(skips), err
		}
		skips = append(skips, handle(out, pkgs, line)...)
		if err == io.EOF {
			break
		}
	}
	for _, s := range skips {
		fmt.Fprintln(out, s)
	}
	return len(skips), out.Flush()
}

// handle takes in one line of input and returns a line for each skip that its package ends with.
func handle(out *bufio.Writer, pkgs map[string]*pkg, line string) (skips []string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		out.WriteString(line)
		return nil
	}
	if e.Action == "build-output" {
		out.WriteString(e.Output)
		return nil
	}
	p := pkgs[e.Package]
	if p == nil {
		p = &pkg{byName: map[string]*test{}}
		pkgs[e.Package] = p
	}
	t := p.test(e.Test)
	t.output.WriteString(e.Output)
	switch e.Action {
	case "attr":
		t.attributes = append(t.attributes, e.Key+": "+e.Value)
	case "pass", "fail", "skip":
		t.ended = e.Action
		if e.Test == "" {
			skips = p.finish(out, e.Package)
			delete(pkgs, e.Package)
			out.Flush()
		}
	}
	return skips
}

// finish prints a package that has ended: all that a failing test said, or one
// that never ended, then the package's own lines.
func (p *pkg) finish(out *bufio.Writer, path string) (skips []string) {
	whole := p.test("")
	for _, t := range p.tests {
		for _, attribute := range t.attributes {
			fmt.Fprintf(out, "%s: %s\n", t.name, attribute)
		}
		switch {
		case t == whole || t.ended == "pass":
		case t.ended == "skip":
			skips = append(skips, fmt.Sprintf("skipped: %s %s: %s", path, t.name, reason(t.output.String())))
		default:
			out.WriteString(withoutProgress(t.output.String()))
		}
	}
	for line := range strings.Lines(whole.output.String()) {
		if whole.ended == "fail" || !chatter(line) {
			out.WriteString(line)
		}
	}
	return skips
}

// chatter reports whether go test without -v keeps the line of a passing package to itself.
func chatter(line string) bool {
	return !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "? ") && !strings.HasPrefix(line, "\t")
}

func withoutProgress(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "=== ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// reason is what a skipped test said, on one line.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(withoutProgress(output)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	if said == nil {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
