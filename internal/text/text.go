// Package text says records to people: one or more lines each, for a terminal.
// What others chose (names, addresses, command lines) cannot move the cursor
// or run on without end.
package text

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
	"github.com/killport/killport/pkg/process"
)

// Listener says a record of listeners: protocol, address, holder, user.
func Listener(r jsonl.Record) string {
	l := read[line](r)
	s := l.where() + l.who()
	if l.State != "" {
		s += " " + Safe(string(l.State)) + ", and does not listen"
	}
	return s + "\n"
}

// Checked says a record of pidcheck.
func Checked(r jsonl.Record) string {
	l := read[line](r)
	s := l.where() + l.who() + " " + Safe(string(l.Check.State))
	if l.Check.Protected != "" {
		s += ", protected: " + Safe(string(l.Check.Protected))
	}
	if by := l.Check.ManagedBy; by != nil {
		s += ", managed by " + managed(by)
	}
	if argv := shell.Join(l.Check.Argv...); argv != "" {
		s += "  " + Safe(argv)
	}
	return s + "\n"
}

// managed says what manages a holder, and by which rule it starts it again.
func managed(by *manager.Manager) string {
	words := by.String()
	if by.Restart != "" {
		words += ", restart " + by.Restart
	}
	if by.Reason != "" {
		words += ": " + by.Reason
	}
	return Safe(words)
}

// Ended says a record of pkill2.
func Ended(r jsonl.Record) string {
	l := read[line](r)
	done := l.Done
	var s strings.Builder
	s.WriteString(l.where() + l.who() + " " + Safe(strings.ReplaceAll(string(done.Outcome), "_", " ")))
	if len(done.Signals) > 0 {
		s.WriteString(" by " + Safe(strings.Join(done.Signals, ", ")))
	}
	if len(done.Stop) > 0 {
		s.WriteString(" by " + safeCommand(done.Stop))
	}
	if done.TookMS != nil {
		fmt.Fprintf(&s, " in %d ms", *done.TookMS)
	}
	for _, why := range []string{done.Reason, done.Detail} {
		if why != "" {
			s.WriteString(": " + Safe(why))
		}
	}
	if n := len(done.TakenBy); n > 0 {
		s.WriteString(", its port is taken by " + Safe(done.TakenBy[0].String()))
		if n > 1 {
			fmt.Fprintf(&s, " and %d more", n-1)
		}
	}
	s.WriteString(also(", also listens on ", done.AlsoListens))
	return s.String() + "\n" + hinted(done.Hint)
}

// also says what else is freed.
func also(words string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return words + Safe(strings.Join(names, ", "))
}

// Status says a record of classify.
func Status(r jsonl.Record) string {
	res := read[classify.Result](r)
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", port(res.Port, res.Proto, res.Addr), Safe(string(res.Status)))
	if len(res.Stopped) > 0 {
		s.WriteString(", stopped " + Safe(strings.Join(res.Stopped, ", ")))
	}
	nobody := "somebody unseen"
	if len(res.Ghost) > 0 {
		nobody = "no process"
	}
	for _, part := range []struct {
		word string
		pids []int
	}{{"ended", res.Killed}, {"released by", res.Released}, {"not ended", res.Failed}, {"ghost", res.Ghost}} {
		if len(part.pids) > 0 {
			fmt.Fprintf(&s, ", %s %s", part.word, joined(part.pids, nobody))
		}
	}
	if res.TookMS > 0 {
		fmt.Fprintf(&s, " in %d ms", res.TookMS)
	}
	s.WriteString(also(", with it ", res.AlsoListens))
	if len(res.Forced) > 0 {
		s.WriteString(" (by " + process.KillName() + ": " + joined(res.Forced, nobody) + ")")
	}
	if len(res.RemainingPIDs) > 0 {
		s.WriteString(", still held by " + joined(res.RemainingPIDs, nobody))
	}
	s.WriteString(why(res) + "\n" + hinted(res.Hint))
	if res.Diagnostics != nil {
		s.WriteString(findings(res.Diagnostics.Findings))
	}
	return s.String() + indented("", Isolation(res.Isolated))
}

// Isolation says what cannot be seen from inside of namespaces of our own; "" if
// there are none.
func Isolation(names []string) string {
	switch {
	case slices.Contains(names, "pid") && slices.Contains(names, "net"):
		return "this is a sandbox: the ports and processes outside of it cannot be seen"
	case slices.Contains(names, "net"):
		return "this is a sandbox: the ports outside of it cannot be seen"
	case slices.Contains(names, "pid"):
		return "this is a sandbox: the processes outside of it cannot be seen"
	}
	return ""
}

// why says why a port was not freed.
func why(res classify.Result) string {
	word := Safe(res.Reason)
	switch {
	case word == "":
		return ""
	case res.Reason == "not_asked":
		return ", which was not asked about: " + Safe(res.Detail)
	case res.Detail != "":
		return " (" + word + ": " + Safe(res.Detail) + ")"
	}
	return " (" + word + ")"
}

// Report says a record of portdiag.
func Report(r jsonl.Record) string {
	report := read[portdiag.Report](r)
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", port(report.Port, report.Proto, report.Addr), Safe(string(report.Verdict)))
	if report.Verdict == portdiag.Blocked {
		s.WriteString(": bind says " + Safe(report.BindError))
	}
	s.WriteString("\n" + findings(report.Findings))
	for _, l := range report.Listeners {
		s.WriteString(indented("why: ", chain(l.Why)))
	}
	for _, unseen := range report.Unseen {
		s.WriteString(indented("could not look: ", unseen))
	}
	return s.String() + indented("", Isolation(report.Isolated))
}

// chain says why a port is held, from the socket to what started it.
func chain(links []portdiag.Link) string {
	var words []string
	for _, link := range links {
		words = append(words, Safe(link.String()))
	}
	return strings.Join(words, " ← ")
}

func findings(found []portdiag.Finding) string {
	var s strings.Builder
	for _, f := range found {
		s.WriteString(indented(Safe(string(f.Cause))+": ", f.Summary))
		if f.Remedy != nil {
			s.WriteString("    " + safeCommand(f.Remedy.Command) + "\n")
		}
	}
	return s.String()
}

// line is what the records of the first three stages have in common.
type line struct {
	listeners.Listener
	Check pidcheck.Result `json:"pidcheck"`
	Done  pkill2.Result   `json:"pkill2"`
}

// where and who are columns.
func (l line) where() string {
	at := l.Addr()
	if l.Device != "" {
		at += " on " + l.Device
	}
	return fmt.Sprintf("%-3s  %-21s  ", Safe(string(l.Proto)), Safe(at))
}

func (l line) who() string {
	switch l.Owner {
	case listeners.OwnerHidden:
		return "hidden, of " + Safe(l.user())
	case listeners.OwnerNone:
		if l.PID != 0 {
			return fmt.Sprintf("nobody: a ghost of PID %d", l.PID)
		}
		return "nobody: a ghost"
	}
	return strconv.Itoa(l.PID) + " " + Safe(cmp.Or(l.Check.Name, l.user()))
}

// user is whose it is; where nobody knows a name, as in many a container, by
// number.
func (l line) user() string {
	if l.User == "" && l.UID != nil {
		return "uid " + strconv.FormatUint(uint64(*l.UID), 10)
	}
	return l.User
}

// read is for showing: what does not fit is left out.
func read[T any](r jsonl.Record) T {
	var v T
	_ = r.Decode(&v)
	return v
}

// port says which: on every address, or on the one that was asked about.
func port(number uint16, proto listeners.Proto, addr string) string {
	if proto == "" {
		proto = listeners.TCP
	}
	if addr != "" {
		return fmt.Sprintf("%s %s:%d:", Safe(string(proto)), Safe(addr), number)
	}
	return fmt.Sprintf("%s port %d:", Safe(string(proto)), number)
}

// joined says PIDs; zero is who PID 0 is.
func joined(pids []int, zero string) string {
	var words []string
	for _, pid := range pids {
		if pid == 0 {
			words = append(words, zero)
			continue
		}
		words = append(words, "PID "+strconv.Itoa(pid))
	}
	return strings.Join(words, ", ")
}

func indented(label, words string) string {
	if words == "" {
		return ""
	}
	return "  " + label + Safe(words) + "\n"
}

// hinted is a hint, which ends with a command and so has more room.
func hinted(hint string) string {
	if hint == "" {
		return ""
	}
	return "  hint: " + Line(hint) + "\n"
}

// safeCommand is a command to paste: all of it, or nothing.
func safeCommand(argv []string) string {
	line := shell.Join(argv...)
	if n := utf8.RuneCountInString(line); n > commandWidth {
		return fmt.Sprintf("(a command of %d characters: --json has it)", n)
	}
	return Line(line)
}

// How many characters are shown: of what Safe lets through, and of a command.
const (
	width        = 200
	commandWidth = 1000
)

// Safe makes characters that are not printable visible (\x1b, \u202e), and
// shortens what is too long.
func Safe(s string) string { return visible(s, width) }

// Line is Safe for a whole line, which may end with a command.
func Line(s string) string { return visible(s, commandWidth) }

func visible(s string, width int) string {
	var b strings.Builder
	n := 0
	for _, c := range s {
		if n++; n > width {
			b.WriteRune('…')
			break
		}
		if unicode.IsPrint(c) {
			b.WriteRune(c)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(c)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
