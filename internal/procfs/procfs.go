// Package procfs parses the text files of Linux's /proc (proc(5)) that tell who holds a socket.
//
// It opens nothing: every function takes the bytes of a file, or a reader of them, so that it compiles and is tested
// on every OS. What a process may choose itself (its name, its arguments, the paths that it opens) is data of an
// adversary, and no name makes one line pass for another.
//
// A file of /proc ends in a newline. One that does not was cut off, and a number that was cut off is another number,
// so a last line without its newline is an error and not a line.
package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// pidLimit is PID_MAX_LIMIT of include/linux/threads.h on 64-bit machines. No ID and no number of threads exceeds it.
const pidLimit = 1 << 22

// Bounds on what a file may make us keep.
const (
	maxLine   = 64 << 10 // bytes in a line; the longest are paths (4096 bytes, octal escapes included: 16384)
	maxErrors = 8        // errors about lines, after which they are only counted
	maxQuoted = 64       // bytes of a line that an error repeats
)

var (
	errCutOff = errors.New("cut off")
	errLong   = fmt.Errorf("more than %d bytes", maxLine)
)

// eachLine calls visit with every line of r, without its newline, and joins the errors that it returns to what is
// wrong with r itself. The bytes are valid only during the call.
func eachLine(r io.Reader, visit func(number int, line []byte) error) error {
	var errs lineErrors
	lines := bufio.NewReaderSize(r, maxLine+1)
	for number := 1; ; number++ {
		line, err := readLine(lines)
		switch {
		case err == io.EOF:
			return errs.join()
		case err == nil:
			errs.add(number, visit(number, line))
		case err == errCutOff, err == errLong:
			errs.add(number, err)
		default:
			return errors.Join(errs.join(), err)
		}
	}
}

// readLine returns the next line without its newline. After errLong it stands at the beginning of the line that
// follows, after errCutOff at the end.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		for err == bufio.ErrBufferFull {
			_, err = r.ReadSlice('\n')
		}
		if err == nil || err == io.EOF {
			err = errLong
		}
		return nil, err
	}
	if err == io.EOF && len(line) > 0 {
		return nil, errCutOff
	}
	if err != nil {
		return nil, err
	}
	return line[:len(line)-1], nil
}

// lineErrors collects errors about the lines of a file, at most maxErrors of them.
type lineErrors struct {
	errs []error
	more int
}

func (e *lineErrors) add(number int, err error) {
	switch {
	case err == nil:
	case len(e.errs) < maxErrors:
		e.errs = append(e.errs, fmt.Errorf("line %d: %w", number, err))
	default:
		e.more++
	}
}

func (e *lineErrors) join() error {
	if e.more > 0 {
		return errors.Join(append(e.errs, fmt.Errorf("and %d more bad lines", e.more))...)
	}
	return errors.Join(e.errs...)
}

// parseInt reads a decimal number as the kernel prints it, from low to high.
func parseInt(b []byte, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || b[0] == '+' {
		return 0, fmt.Errorf("%s is not a number", quote(b))
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d is out of range", n)
	}
	return n, nil
}

func parsePID(b []byte) (int, error) {
	n, err := parseInt(b, 0, pidLimit)
	return int(n), err
}

func parseUID(b []byte) (uint32, error) {
	n, err := parseInt(b, 0, math.MaxUint32)
	return uint32(n), err
}

// parseHex reads a hexadecimal number of exactly so many digits.
func parseHex(b []byte, digits int) (uint64, error) {
	n, err := strconv.ParseUint(string(b), 16, 4*digits)
	if err != nil || len(b) != digits {
		return 0, fmt.Errorf("%s is not a number of %d hexadecimal digits", quote(b), digits)
	}
	return n, nil
}

// quote returns b, or its beginning, for an error.
func quote(b []byte) string {
	if len(b) > maxQuoted {
		return strconv.Quote(string(b[:maxQuoted])) + "…"
	}
	return strconv.Quote(string(b))
}

// isLetter reports whether c can be the letter of a process state.
func isLetter(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
