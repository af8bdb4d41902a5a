package jsonl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

const mark = "\ufeff" // the byte order mark

// LineError is an error of one line of the input: bad input, not bad luck.
type LineError struct {
	Line int // from 1 on
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Read is the source of the records on r, one a line, as they come. A byte
// order mark, CRLF, blank lines and a missing end of the last line are
// accepted. A line that is no record, or is longer than [MaxLine], is a
// [*LineError] in its place; a failing reader is an error and the end.
// Memory is bounded by MaxLine.
func Read(r io.Reader) Source {
	return func(ctx context.Context) Seq {
		return func(yield func(Record, error) bool) {
			in := bufio.NewReaderSize(r, 64<<10)
			for n := 1; ctx.Err() == nil; n++ {
				line, err := readLine(in)
				if n == 1 {
					line = bytes.TrimPrefix(line, []byte(mark))
				}
				line = bytes.TrimSuffix(line, []byte("\r"))
				if !blank(line) {
					rec, perr := parseAt(line, n)
					if !yield(rec, perr) {
						return
					}
				}
				if err == io.EOF {
					return
				}
				if err != nil {
					yield(Record{}, fmt.Errorf("read: %w", err))
					return
				}
			}
		}
	}
}

// blank reports whether there is nothing on line. Of a line that is too long
// nobody knows, since its end was not kept.
func blank(line []byte) bool {
	return len(line) <= MaxLine && len(bytes.Trim(line, " \t\r")) == 0
}

// readLine returns the next line without its '\n'. Of a line longer than
// MaxLine it reads all and keeps what is enough to see that it is too long.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		part = bytes.TrimSuffix(part, []byte("\n"))
		if room := MaxLine + len(mark+"\r") + 1 - len(line); len(part) > room { // 1: one too many
			part = part[:room]
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// Write writes each record of seq to w, one line and one write each, and gives
// each error of seq to report. It stops at the first error of w, and returns it.
func Write(w io.Writer, seq Seq, report func(error)) error {
	var line []byte
	for r, err := range seq {
		if err != nil {
			report(err)
			continue
		}
		line = append(append(line[:0], r.raw...), '\n')
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}
