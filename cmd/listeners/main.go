// Command listeners lists the listeners of a port and their holders.
package main

import (
	"os"

	"github.com/killport/killport/internal/cli"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
)

const help = `List the listeners of ports, one line for each socket and each of its holders.

  listeners                               all
  listeners 8000                          those of port 8000
  listeners 8000 | pidcheck | pkill2      end them
`

type command struct {
	cli.Ports
	cli.Format
}

func main() { os.Exit(cli.Main("listeners", help, &command{}, os.Args[1:]...)) }

func (c *command) Run(s *cli.Session) error {
	queries, err := c.Queries()
	if err != nil {
		return err
	}
	if len(queries) == 0 {
		queries = []listeners.Query{{Proto: c.Proto()}}
	}
	hidden := false
	s.Emit(listeners.Source(queries...)(s.Context), c.Format, text.Listener, func(r jsonl.Record) bool {
		owner, _ := r.OptionalText("owner")
		hidden = hidden || owner == string(listeners.OwnerHidden)
		return true
	})
	if hidden {
		s.Hint("some holders are hidden from us: %s", listeners.Unhide("listeners"))
	}
	return nil
}
