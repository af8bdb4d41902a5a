// Package remedytest holds what portdiag and killport advise against what
// killport does when it is told so: no advice is refused, none ends what was not
// asked about, and what killport does without being persuaded is advised.
package remedytest

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/internal/shell"
)

// Ask runs a command as whoever asks about the port, and returns its stdout.
// That of a remedy may begin with sudo, and is then to be run as root.
type Ask func(argv ...string) (stdout string)

// Check asks about a port, as the arguments of the commands say it, and tries
// each piece of advice with --dry-run. It returns how many there were.
func Check(t testing.TB, ask Ask, question ...string) (tried int) {
	t.Helper()
	c := check{TB: t, ask: ask, question: question}
	for _, h := range c.holders("listeners", question...) {
		c.asked = append(c.asked, string(h.Socket))
	}
	plain := c.holders("killport", c.dry()...)
	for _, f := range c.findings() {
		if f.Remedy != nil && c.killport(f.Remedy.Command) >= 0 {
			tried++
			c.try(string(f.Cause), f.Evidence.PID, f.Remedy.Command, plain)
		}
	}
	for _, h := range plain {
		tried += c.hint(h)
	}
	c.repeats()
	if tried == 0 && len(plain) > 0 && !slices.ContainsFunc(plain, holder.refused) {
		c.Errorf("killport %q ends %s, and portdiag does not advise it", question, said(plain))
	}
	return tried
}

type check struct {
	testing.TB
	ask      Ask
	question []string
	asked    []string // the sockets
}

// holder is a record of listeners, or of a dry run.
type holder struct {
	Addr   string          `json:"local_addr"`
	Port   int             `json:"local_port"`
	PID    int             `json:"pid"`
	Socket json.RawMessage `json:"socket"`
	Would  struct {
		Outcome string `json:"outcome"`
		Reason  string `json:"reason"`
		Hint    string `json:"hint"`
	} `json:"pkill2"`
}

// refused: what would be done begins with would_, and so does would_refuse.
func (h holder) refused() bool {
	return !slices.Contains([]string{"would_terminate", "would_stop", "would_close"}, h.Would.Outcome)
}

type finding struct {
	Cause    string `json:"cause"`
	Evidence struct {
		PID int `json:"pid"`
	} `json:"evidence"`
	Remedy *struct {
		Command []string `json:"command"`
	} `json:"remedy"`
}

func (c check) dry() []string { return append([]string{"--dry-run"}, c.question...) }

func (c check) holders(command string, args ...string) []holder {
	c.Helper()
	return records[holder](c.TB, c.ask(append([]string{command, "--json"}, args...)...))
}

func (c check) findings() []finding {
	c.Helper()
	argv := append([]string{"portdiag", "--json"}, c.question...)
	reports := records[struct{ Findings []finding }](c.TB, c.ask(argv...))
	if len(reports) != 1 {
		c.Fatalf("%q: %d reports, want one", argv, len(reports))
	}
	return reports[0].Findings
}

// killport is the place of killport in a command; -1 if that is another one.
// Before it there may be sudo, env, setpriv, nsenter with what belongs to them.
func (c check) killport(command []string) int {
	return slices.IndexFunc(command, func(word string) bool { return path.Base(word) == "killport" })
}

// unseen is the PID of a holder that whoever asks may not see, and of whom it
// cannot be known whether killport will end it.
const unseen = -1

// try is for the remedy of a finding about that holder; 0 if it is about all.
func (c check) try(about string, pid int, command []string, plain []holder) {
	c.Helper()
	ends := records[holder](c.TB, c.ask(slices.Concat(command, []string{"--dry-run", "--json"})...))
	helps := false
	for _, h := range ends {
		meant := pid == 0 || h.PID == pid
		helps = helps || meant && !h.refused()
		switch {
		case meant && h.refused():
			c.Errorf("portdiag %q advises %q (%s), which is refused: %s", c.question, command, about, said(ends))
		case !h.refused() && !slices.Contains(c.asked, string(h.Socket)):
			c.Errorf("portdiag %q advises %q (%s), which ends what was not asked about: %s", c.question, command, about, said([]holder{h}))
		}
	}
	if !helps && pid != unseen {
		c.Errorf("portdiag %q advises %q (%s), which ends nobody: %s", c.question, command, about, said(ends))
	}
	if slices.Equal(command[c.killport(command)+1:], c.question) && command[0] != "sudo" {
		for _, h := range plain {
			if h.PID == pid && h.refused() {
				c.Errorf("portdiag %q advises %q (%s), which is what killport refuses: %s", c.question, command, about, said(plain))
			}
		}
	}
}

// hinted is a command of killport in a sentence, as a person would copy it.
var hinted = regexp.MustCompile(`(?:sudo |env (?:\S+=\S+ )+)?\S*\bkillport [^,;]*`)

// hint tries what a refusal says that would help, and returns 1 if it says so.
func (c check) hint(refusal holder) (tried int) {
	c.Helper()
	command := hinted.FindString(refusal.Would.Hint)
	override := strings.Contains(refusal.Would.Hint, "--override")
	switch {
	case !refusal.refused():
		return 0
	case command == "" && override: // a flag for what was typed
		command = "killport --override " + shell.Join(c.question...)
	case command == "":
		return 0
	}
	words := c.split(command)
	if slices.Equal(words, append([]string{"killport"}, c.question...)) { // the same again, once it is as the hint says
		return 0
	}
	pid := refusal.PID
	if refusal.Would.Reason == "hidden" {
		pid = unseen
	}
	c.try("hint: "+refusal.Would.Hint, pid, words, nil)
	return 1
}

// split is the command as a shell reads it.
func (c check) split(command string) []string {
	c.Helper()
	words := strings.Split(c.ask("sh", "-c", "printf '%s\\n' "+command), "\n")
	return words[:len(words)-1]
}

// repeats: a command that is printed has the grace and the signal of the one that was typed.
func (c check) repeats() {
	c.Helper()
	for _, h := range c.holders("killport", append([]string{"--grace", "7s", "--signal", "INT"}, c.dry()...)...) {
		if command := hinted.FindString(h.Would.Hint); command != "" && !(strings.Contains(command, "7s") && strings.Contains(command, "INT")) {
			c.Errorf("killport --grace 7s --signal INT %q hints at %q", c.question, command)
		}
	}
}

// said is what a dry run says, for people.
func said(all []holder) string {
	var b strings.Builder
	for _, h := range all {
		b.WriteString(strings.Join([]string{"\n\t", h.Addr, string(h.Socket), h.Would.Outcome, h.Would.Reason, h.Would.Hint}, " "))
	}
	return b.String()
}

// records are the lines of an output.
func records[R any](t testing.TB, output string) (all []R) {
	t.Helper()
	for line := range strings.Lines(output) {
		var r R
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all
}
