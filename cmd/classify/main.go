// Command classify gives the verdict on ports.
package main

import (
	"os"

	"github.com/killport/killport/internal/cli"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/jsonl"
)

const help = `Look at the ports again that the records on stdin name, and give each its status: free, cleaned, partial, ghost, stuck.
Ports given and named by no record are looked up.

  listeners 8000 | pidcheck | pkill2 | classify 8000
`

type command struct {
	cli.Ports
	cli.Format
}

func main() { os.Exit(cli.Main("classify", help, &command{}, os.Args[1:]...)) }

func (c *command) Run(s *cli.Session) error {
	queries, err := c.Queries()
	if err != nil {
		return err
	}
	in, err := s.Records()
	if err != nil && len(queries) == 0 {
		return err
	}
	if err != nil { // nothing is piped in: look the ports up
		in = jsonl.From()
	}
	s.Emit(classify.Stage(queries...)(s.Context, in), c.Format, text.Status, classify.Reached)
	return nil
}
