// Command pkill2 ends the holders that its records name.
package main

import (
	"os"

	"github.com/killport/killport/internal/cli"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/pkill2"
)

const help = `End the holders that the records on stdin name, softly first, until their sockets are gone.
All records are read before anything is done. A record without a birth, as listeners gives it, is refused.

  listeners 8000 | pidcheck | pkill2
  listeners 8000 | pkill2 --dry-run
`

type command struct {
	cli.Kill
	cli.Format
}

func main() { os.Exit(cli.Main("pkill2", help, &command{}, os.Args[1:]...)) }

func (c *command) Run(s *cli.Session) error {
	opts, err := c.Options(s)
	if err != nil {
		return err
	}
	in, err := s.Records()
	if err != nil {
		return err
	}
	s.Finish()
	s.Emit(pkill2.Stage(opts)(s.Context, in), c.Format, text.Ended, c.Reached)
	return nil
}
