package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// lines is where JSON Lines go. On a terminal nothing may move a cursor, of what
// users put into records themselves either, which is passed on byte for byte
// elsewhere. On Windows what is in a pipe may be read and written again in another
// code page (some shells do that between two programs), so that there is nothing
// but ASCII in it.
func lines(stdout io.Writer) io.Writer {
	f, ok := stdout.(*os.File)
	switch {
	case isTerminal(stdout):
		return escaping{stdout, isHarmless}
	case ok && runtime.GOOS == "windows" && isPipe(f):
		return escaping{stdout, isASCII}
	}
	return stdout
}

// isHarmless is true of blanks between members, too: in a string they are escapes.
func isHarmless(c rune) bool { return unicode.IsPrint(c) || c == '\n' || c == '\t' }

func isASCII(c rune) bool { return c < utf8.RuneSelf }

func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// escaping writes JSON, whole lines at a time, with every character that is not
// to be kept as a \u escape.
type escaping struct {
	w    io.Writer
	keep func(rune) bool
}

func (e escaping) Write(line []byte) (int, error) {
	out := make([]byte, 0, len(line))
	for rest := line; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		valid := c != utf8.RuneError || size > 1
		switch {
		case valid && e.keep(c):
			out = append(out, rest[:size]...)
		case c > 0xffff:
			hi, lo := utf16.EncodeRune(c)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default: // the replacement character among them, for a byte that is not UTF-8
			out = fmt.Appendf(out, `\u%04x`, c)
		}
		rest = rest[size:]
	}
	if _, err := e.w.Write(out); err != nil {
		return 0, err
	}
	return len(line), nil
}
