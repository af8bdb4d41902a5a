package pkill2

import (
	"slices"
	"strings"
	"syscall"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// Flags are those by which killport does again what o says, and no more: what
// lifts a protection is not among them.
func (o Options) Flags() []string {
	var flags []string
	if o.DryRun {
		flags = append(flags, "--dry-run")
	}
	otherSignal := o.Signal != 0 && o.Signal != syscall.SIGTERM
	if (o.Grace != DefaultGrace || o.Manners == OneManner && !otherSignal) && o.Signal != syscall.SIGKILL { // that it was given counts, too
		flags = append(flags, "--grace", o.Grace.String())
	}
	if otherSignal {
		flags = append(flags, "--signal", strings.TrimPrefix(process.SignalName(o.Signal), "SIG"))
	}
	if o.Via == ViaProcess {
		flags = append(flags, "--via", string(o.Via))
	}
	return flags
}

// question is how one asks about l again, no wider than was asked: by what was
// asked for, or, where nobody can tell, by its own address.
func (o Options) question(l listeners.Listener) listeners.Query {
	wide := l.Alone()
	for _, q := range o.Asked {
		switch {
		case !q.Asks(l):
		case q.Addr.IsValid():
			return q
		default:
			wide = q
		}
	}
	return wide
}

// command is how a command is asked about the port, for a person to paste.
func (t *target) command(argv ...string) string {
	if slices.Contains(argv, "killport") {
		argv = append(argv, t.opts.Flags()...)
	}
	return shell.Join(append(argv, t.opts.question(t.holder).Args()...)...)
}
