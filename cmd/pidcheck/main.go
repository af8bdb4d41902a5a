// Command pidcheck looks at the holders that its records name.
package main

import (
	"os"

	"github.com/killport/killport/internal/cli"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/pidcheck"
)

const help = `Look at the holders that the records on stdin name: whether each still is the process that was listed,
what it is, and whether it must be left alone. Nothing is signalled.

  listeners 8000 | pidcheck
  listeners 8000 | pidcheck | jq -r .pidcheck.name
`

type command struct {
	cli.Format
}

func main() { os.Exit(cli.Main("pidcheck", help, &command{}, os.Args[1:]...)) }

func (c *command) Run(s *cli.Session) error {
	in, err := s.Records()
	if err != nil {
		return err
	}
	s.Emit(pidcheck.Stage()(s.Context, in), c.Format, text.Checked, nil)
	return nil
}
