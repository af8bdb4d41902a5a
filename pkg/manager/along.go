package manager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unitKeys are the properties that say what a stop of a unit means.
const unitKeys = "Id,LoadState,ActiveState,Job,ControlGroup,MainPID,ControlPID,Restart,KillMode,SendSIGKILL," +
	"Triggers,TriggeredBy,UpheldBy,RequiredBy,RequisiteOf,WantedBy,BoundBy,ConsistsOf,PropagatesStopTo," +
	"StopWhenUnneeded,Requires,Requisite,Wants,BindsTo,Upholds," +
	"SuccessAction,FailureAction,OnSuccess,OnSuccessJobMode,OnFailure,OnFailureJobMode"

// dependants are the properties along which systemd hands a stop on: those that
// have UNIT_ATOM_PROPAGATE_STOP in src/core/unit-dependency-atom.c (version 257:
// PropagatesStopTo has one of its own). They are the other sides of Requires=,
// Requisite=, BindsTo=, PartOf= and StopPropagatedFrom=.
var dependants = []string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"}

// needs and needers are the two sides of what keeps a unit up that has
// StopWhenUnneeded=: UNIT_ATOM_ADD_STOP_WHEN_UNNEEDED_QUEUE and
// UNIT_ATOM_PINS_STOP_WHEN_UNNEEDED of the same file.
var (
	needs   = []string{"Requires", "Requisite", "Wants", "BindsTo", "Upholds"}
	needers = []string{"RequiredBy", "RequisiteOf", "WantedBy", "BoundBy", "UpheldBy"}
)

// maxAlong bounds how many units are looked at that would go along with one.
const maxAlong = 256

// along are the other units that systemd stops when it stops one, and when these
// stop, in order. Through one that is not active it hands nothing on: its job is dropped, and
// with it those that only it is for (transaction_drop_redundant and
// transaction_collect_garbage, src/core/transaction.c).
func (b bus) along(ctx context.Context, stopped properties) (all []properties, err error) {
	known := map[string]bool{stopped.text("Id"): true}
	for next := stopped.listed(dependants, known); ; {
		if len(known) > maxAlong {
			return nil, fmt.Errorf("more than %d units depend on it", maxAlong)
		}
		var shown []properties
		if len(next) > 0 {
			shown, err = b.up(ctx, next)
		} else {
			shown, err = b.unneeded(ctx, append([]properties{stopped}, all...))
		}
		switch {
		case err != nil:
			return nil, err
		case len(next)+len(shown) == 0:
			slices.SortFunc(all, func(a, b properties) int { return strings.Compare(a.text("Id"), b.text("Id")) })
			return all, nil
		}
		next = nil
		for _, p := range shown {
			known[p.text("Id")] = true
			next = append(next, p.listed(dependants, known)...)
		}
		all = append(all, shown...)
	}
}

// up are those of the units of which there is something to stop.
func (b bus) up(ctx context.Context, names []string) ([]properties, error) {
	shown, err := b.show(ctx, unitKeys, names...)
	for _, p := range shown {
		if p.isUp() && !isUnitName(p.text("Id")) { // and so could not be named in a command
			return nil, fmt.Errorf("a unit %q depends on it", p.text("Id"))
		}
	}
	return slices.DeleteFunc(shown, func(p properties) bool { return !p.isUp() }), err
}

// unneeded are the units that are to stop when nobody needs them any more
// (StopWhenUnneeded=), and that nobody does without those that are stopped.
func (b bus) unneeded(ctx context.Context, stopped []properties) (all []properties, err error) {
	gone := map[string]bool{}
	for _, p := range stopped {
		gone[p.text("Id")] = true
	}
	asked := maps.Clone(gone)
	var names []string
	for _, p := range stopped {
		names = append(names, p.listed(needs, asked)...)
	}
	if len(names) == 0 {
		return nil, nil
	}
	shown, err := b.show(ctx, unitKeys, names...)
	for _, p := range shown {
		id := p.text("Id")
		if gone[id] || !isUnitName(id) || !p.isUp() || p.text("StopWhenUnneeded") != "yes" { // a user's systemd may answer anything
			continue
		}
		var rest []properties
		if others := p.listed(needers, maps.Clone(gone)); len(others) > 0 {
			if rest, err = b.up(ctx, others); err != nil {
				return nil, err
			}
		}
		if len(rest) == 0 {
			all = append(all, p)
		}
	}
	return all, err
}

// listed are the units that some properties list and that are not known yet, which
// they are then.
func (p properties) listed(keys []string, known map[string]bool) (names []string) {
	for _, key := range keys {
		for _, name := range p.units(key) {
			if !known[name] {
				known[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

// isUp reports whether there is something to stop: it is active, on its way to it
// or from it, or waits for its turn.
func (p properties) isUp() bool {
	job := p.text("Job")
	return !slices.Contains([]string{"inactive", "failed"}, p.text("ActiveState")) || job != "" && job != "0"
}

// others are the names of those that go along with a unit and are not for it: a
// service belongs to the socket by which it is started, and the timer to the
// service that it starts.
func others(stopped properties, along []properties) []string {
	own := slices.Concat(stopped.units("Triggers"), stopped.units("TriggeredBy"))
	return slices.DeleteFunc(ids(along), func(name string) bool { return slices.Contains(own, name) })
}

// ids are the names of units.
func ids(units []properties) (names []string) {
	for _, p := range units {
		names = append(names, p.text("Id"))
	}
	return names
}
