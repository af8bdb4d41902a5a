package shell

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// Once cmd.exe has taken its carets away, a program reads the very words.
func TestWindowsReadsTheWords(t *testing.T) {
	for _, word := range []string{"", "a b", `a"b`, `\`, `a b\`, `\"`, `\\" \`, "a&b", "%PATH%", `^"%`, "(x)", "a\tb"} {
		argv := []string{"x", word, "end"}
		line := Join(argv...)
		if strings.ContainsAny(word, `"%`) {
			line = strings.NewReplacer("^^", "^", "^", "").Replace(line)
		}
		if got, err := windows.DecomposeCommandLine(line); err != nil || !slices.Equal(got, argv) {
			t.Errorf("%s: %q, %v; want %q", Join(argv...), got, err, argv)
		}
	}
}
