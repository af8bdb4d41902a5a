package cli

import (
	"errors"

	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/portdiag"
)

// DiagnoseHelp is the help of both.
const DiagnoseHelp = `Explain ports: is it free, who holds it, why can it not be had, what helps. Nothing is changed.

  portdiag 8000
  portdiag 8000 > report.json
`

// Diagnose is portdiag, and killport diagnose.
type Diagnose struct {
	Ports
	Format
	Causes bool `help:"Print what there is to say about each cause, in Markdown."`
}

// Run explains the ports.
func (d *Diagnose) Run(s *Session) error {
	if d.Causes {
		return s.Print(portdiag.WriteCauses)
	}
	queries, err := d.Queries()
	if err != nil {
		return err
	}
	if len(queries) == 0 {
		return errors.New("which port?")
	}
	s.Emit(portdiag.Source(queries...)(s.Context), d.Format, text.Report, nil)
	return nil
}
