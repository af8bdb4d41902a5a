//go:build unix

package shell

import (
	"os/exec"
	"strings"
	"testing"
)

var hostile = []string{
	"", "a b", "web; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "it's", `"`, `\`, `\'`, "'; touch PWNED; '", "*", "?", "[a-z]", "{a,b}", "~", "~root",
	"=ls", "#x", "!!", "%1", "&", "|", "<x", ">PWNED", "a\\\nb", "-n", "A=b", "\t", "é", "\u00a0", "x\n; touch PWNED", "\x1b[31m", "\u202e", "\xff\xfe'", "\n'; touch PWNED; '\\",
}

// A shell reads the very words again; one that does not know $'…' reads as many,
// and runs nothing else.
func TestShellsReadTheWords(t *testing.T) {
	for _, name := range []string{"bash", "zsh", "ksh", "dash", "busybox", "sh"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Log(err)
			continue
		}
		for _, word := range hostile {
			argv := []string{"printf", `%s\000`, word, "end"}
			args := []string{"-c", Join(argv...)}
			if name == "busybox" {
				args = append([]string{"sh"}, args...)
			}
			cmd := exec.Command(name, args...)
			cmd.Dir = t.TempDir()
			out, err := cmd.Output()
			got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
			exact := name == "bash" || name == "zsh" || name == "ksh" || !strings.HasPrefix(sh(word), "$")
			if err != nil || len(got) != 2 || got[1] != "end" || exact && got[0] != word {
				t.Errorf("%s: %s: %q, %v; want %q", name, args[len(args)-1], got, err, word)
			}
			left, err := exec.Command("ls", "-A", cmd.Dir).Output()
			if err != nil || len(left) > 0 {
				t.Errorf("%s: %s: it made %q (%v)", name, args[len(args)-1], left, err)
			}
		}
	}
}
