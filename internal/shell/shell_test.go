package shell

import (
	"strings"
	"testing"
	"unicode"
)

func TestQuoting(t *testing.T) {
	for _, tt := range []struct{ word, sh, cmd string }{
		{"killport", "killport", "killport"},
		{"--close-ghosts", "--close-ghosts", "--close-ghosts"},
		{"127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000"},
		{"[::1]:8000", "'[::1]:8000'", `"[::1]:8000"`},
		{"", "''", `""`},
		{"a b", "'a b'", `"a b"`},
		{"web; touch /tmp/PWNED", "'web; touch /tmp/PWNED'", `"web; touch /tmp/PWNED"`},
		{`web\x2dapp.service`, `'web\x2dapp.service'`, `web\x2dapp.service`},
		{`it's "mine"`, `'it'\''s "mine"'`, `^"it's \^"mine\^"^"`},
		{"$(reboot)`reboot`", "'$(reboot)`reboot`'", "\"$(reboot)`reboot`\""},
		{"~", "'~'", `"~"`},
		{"=ls", "'=ls'", `"=ls"`},
		{"a\nb", `$'a\012b'`, "\"a\nb\""},
		{"\u202e'\\", `$'\342\200\256\047\134'`, "\"\u202e'\\\\\""},
		{"東京\n", `$'東京\012'`, "\"東京\n\""},
		{"\xff", `$'\377'`, "\"\xff\""},
		{`C:\Program Files\`, `'C:\Program Files\'`, `"C:\Program Files\\"`},
		{`a & b`, `'a & b'`, `"a & b"`},
		{`%PATH% & "b`, `'%PATH% & "b'`, `^"^%PATH^% ^& \^"b^"`},
	} {
		if got := sh(tt.word); got != tt.sh {
			t.Errorf("sh(%q) = %s; want %s", tt.word, got, tt.sh)
		}
		if got := cmd(tt.word); got != tt.cmd {
			t.Errorf("cmd(%q) = %s; want %s", tt.word, got, tt.cmd)
		}
	}
}

func TestJoin(t *testing.T) {
	for _, tt := range []struct {
		argv []string
		want string
	}{
		{nil, ""},
		{[]string{"docker", "stop", "web"}, "docker stop web"},
		{[]string{"env", "A=b", "x"}, "env A=b x"},
	} {
		if got := Join(tt.argv...); got != tt.want {
			t.Errorf("Join(%q) = %s; want %s", tt.argv, got, tt.want)
		}
	}
}

// What sh reads can be printed as it is.
func FuzzShPrints(f *testing.F) {
	f.Add("a\nb")
	f.Fuzz(func(t *testing.T, word string) {
		got := sh(word)
		if strings.ContainsFunc(got, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar }) {
			t.Errorf("sh(%q) = %q", word, got)
		}
	})
}
