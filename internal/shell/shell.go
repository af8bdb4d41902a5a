// Package shell says a command line so that a person can paste it: a shell
// reads from it the very words that it was made of, whoever chose them.
package shell

import (
	"fmt"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Join says argv for the shell of this system: sh, and those that are like it;
// on Windows cmd.exe.
func Join(argv ...string) string {
	quote := sh
	if runtime.GOOS == "windows" {
		quote = cmd
	}
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = quote(word)
	}
	return strings.Join(words, " ")
}

// plain reports whether no shell sees anything in the word but a word. One that
// begins with = is the path of a program to zsh.
func plain(word string) bool {
	return word != "" && word[0] != '=' && !strings.ContainsFunc(word, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("+,-./:=@_", c))
	})
}

// sh quotes a word for sh. One that has characters which do not print is in
// the form $'…', of which a shell without it (dash) makes another, harmless
// word: so ' and \ are octal in there.
func sh(word string) string {
	switch {
	case plain(word):
		return word
	case !strings.ContainsFunc(word, mute):
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(word) > 0 {
		c, size := utf8.DecodeRuneInString(word)
		if mute(c) || c == '\'' || c == '\\' {
			for i := range size {
				fmt.Fprintf(&b, `\%03o`, word[i])
			}
		} else {
			b.WriteRune(c)
		}
		word = word[size:]
	}
	b.WriteString("'")
	return b.String()
}

// mute reports whether c cannot be shown: it does not print, or stands for what
// is not UTF-8.
func mute(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar }

// cmd quotes a word for cmd.exe, which passes it on to a program that reads
// its words as CommandLineToArgvW does:
// https://learn.microsoft.com/windows/win32/api/shellapi/nf-shellapi-commandlinetoargvw
// Between quotes cmd.exe takes all but % as it is. It does not know \", and so
// a word with one of these has a caret before each character that it minds.
func cmd(word string) string {
	if plain(strings.ReplaceAll(word, `\`, "/")) {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for i := range len(word) {
		switch word[i] {
		case '\\':
			slashes++
		case '"':
			b.WriteString(strings.Repeat(`\`, slashes+1))
			slashes = 0
		default:
			slashes = 0
		}
		b.WriteByte(word[i])
	}
	b.WriteString(strings.Repeat(`\`, slashes) + `"`)
	if !strings.ContainsAny(word, `"%`) {
		return b.String()
	}
	return carets.Replace(b.String())
}

var carets = strings.NewReplacer(
	"^", "^^", `"`, `^"`, "%", "^%", "&", "^&", "|", "^|", "<", "^<", ">", "^>", "(", "^(", ")", "^)", "!", "^!",
)
