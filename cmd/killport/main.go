// Command killport frees ports.
package main

import (
	"os"
	"slices"

	"github.com/killport/killport/internal/cli"
	"github.com/killport/killport/internal/text"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
)

const help = `Free TCP ports: end what provably holds them, and prove afterwards that they are free.

  killport                    frees 8000, and says so
  killport 8000 3000          frees those
  killport all                frees 8000, 8080 and 3000
  killport --dry-run 8000     says what would be done
  killport diagnose 8000      explains, and changes nothing

Exit code: 0 freed, or free already; 1 not freed; 2 usage; 3 could not look; 130 interrupted.
`

type free struct {
	cli.Ports
	cli.Kill
	cli.Format
}

func main() {
	args := os.Args[1:]
	if at := slices.Index(args, "diagnose"); at >= 0 {
		os.Exit(cli.Main("killport diagnose", cli.DiagnoseHelp, &cli.Diagnose{}, slices.Delete(args, at, at+1)...))
	}
	os.Exit(cli.Main("killport", help, &free{}, args...))
}

// standard is the port that is freed where none is given.
const standard = "8000"

func (f *free) Run(s *cli.Session) error {
	queries, err := f.Queries(standard)
	if err != nil {
		return err
	}
	opts, err := f.Options(s)
	if err != nil {
		return err
	}
	if len(f.Ports.Ports) == 0 { // an empty variable, or an empty list of xargs, looks the same
		s.Notice("no port given: taking %s", standard)
	}
	opts.Asked = queries
	s.Finish()
	end := jsonl.Chain(pidcheck.Stage(), pkill2.Stage(opts))
	ended := end(s.Context, listeners.Source(queries...)(s.Context))
	if f.DryRun {
		if !s.Emit(ended, f.Format, text.Ended, f.Reached) {
			s.Note("no holder was found: nothing would be done")
		}
		return nil
	}
	s.Emit(classify.After(opts, queries...)(s.Context, ended), f.Format, text.Status, classify.Reached)
	return nil
}
