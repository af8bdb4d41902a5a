package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"unicode/utf16"
	"unicode/utf8"
)

// lines is where JSON Lines go. On Windows what is in a pipe may be read and
// written again in another code page (some shells do that between two programs),
// so that there is nothing but ASCII in it.
func lines(stdout io.Writer) io.Writer {
	if f, ok := stdout.(*os.File); ok && runtime.GOOS == "windows" && isPipe(f) {
		return ascii{stdout}
	}
	return stdout
}

func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// ascii writes JSON, whole lines at a time, with every character beyond ASCII
// as a \u escape.
type ascii struct{ w io.Writer }

func (a ascii) Write(line []byte) (int, error) {
	out := make([]byte, 0, len(line))
	for rest := line; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		switch {
		case c < utf8.RuneSelf:
			out = append(out, byte(c))
		case c > 0xffff:
			hi, lo := utf16.EncodeRune(c)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default: // the replacement character among them, for a byte that is not UTF-8
			out = fmt.Appendf(out, `\u%04x`, c)
		}
	}
	if _, err := a.w.Write(out); err != nil {
		return 0, err
	}
	return len(line), nil
}
