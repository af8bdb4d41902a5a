package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/process"
)

// Kill are the flags of the commands that end processes.
type Kill struct {
	DryRun   oneWay         `help:"Say what would be done, and send nothing."`
	Grace    *time.Duration `placeholder:"3s" help:"How long all holders together have for ending softly. A few programs have more, unless this or --signal is given."`
	Signal   *string        `placeholder:"\"TERM\"" help:"The soft signal: TERM, INT, HUP, QUIT; or KILL at once. A few programs are asked by another, unless this or --grace is given."`
	Via      string         `enum:"auto,process" default:"auto" help:"auto: stop a container, a unit of systemd, or a service of Windows, through what manages it; process: signal the process all the same."`
	Override bool           `help:"End our ancestors, and what serves many, too."`
	Ghosts   bool           `name:"close-ghosts" help:"On Linux: have the kernel close sockets that nobody has (takes root). A program that has one in flight may run at full CPU afterwards."`
	Heirs    bool           `help:"Windows: of a port that belongs to no process any more, end those that inherited it."`
}

// oneWay is a flag that nothing after it takes back: --dry-run=false is an
// error, so that who allows "killport --dry-run" allows no kill.
type oneWay bool

// Decode implements kong.MapperValue.
func (o *oneWay) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		return errors.New("takes no value")
	}
	*o = true
	return nil
}

// IsBool implements kong.BoolMapperValue.
func (o *oneWay) IsBool() bool { return true }

// Options reads the flags.
func (k Kill) Options(s *Session) (pkill2.Options, error) {
	opts := pkill2.Options{
		Grace: pkill2.DefaultGrace, Signal: syscall.SIGTERM, Manners: pkill2.Manners(k.Grace == nil && k.Signal == nil),
		Via: pkill2.Via(k.Via), Override: k.Override, Ghosts: pkill2.Ghosts(k.Ghosts), Heirs: pkill2.Heirs(k.Heirs), DryRun: bool(k.DryRun),
		Waiting: func(pids []int, left time.Duration) {
			// A terminal that is held (Ctrl-S) must not delay what is due.
			go s.Note("waiting for %s to end, %s in %.1f s", joined(pids), process.KillName(), left.Seconds())
		},
		Stopping: func(what []string) { go s.Note("stopping %s", strings.Join(what, ", ")) },
	}
	if k.Signal != nil {
		var err error
		if opts.Signal, err = process.ParseSignal(*k.Signal); err != nil {
			return pkill2.Options{}, fmt.Errorf("--signal: %w", err)
		}
	}
	if k.Grace != nil {
		if opts.Grace = *k.Grace; opts.Grace < 0 {
			return pkill2.Options{}, errors.New("--grace: is negative")
		}
	}
	return opts, nil
}

// Reached reports whether a record of pkill2 says that its goal is reached. A dry
// run always reaches its goal.
func (k Kill) Reached(r jsonl.Record) bool {
	if k.DryRun {
		return true
	}
	return pkill2.Reached(r)
}

func joined(pids []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(pids), " ", ", "), "[]")
}
