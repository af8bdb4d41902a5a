// Command listeners lists the listeners of a port and their holders.
package main

import (
	"os"

	"github.com/killport/killport/internal/cli"
	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
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
	var hidden []listeners.Listener
	s.Emit(listeners.Source(queries...)(s.Context), c.Format, text.Listener, func(r jsonl.Record) bool {
		if l, err := listeners.Parse(r); err == nil && l.Owner == listeners.OwnerHidden {
			hidden = append(hidden, l)
		}
		return true
	})
	if len(hidden) > 0 {
		again := append([]string{"listeners"}, c.Words()...)
		s.Hint("some holders are hidden from us: %s", listeners.Unhide(hidden[0], shell.Join(again...)))
	}
	if words := text.Isolation(process.Isolated()); words != "" && s.Shows(c.Format) {
		s.Note("%s", words)
	}
	return nil
}
