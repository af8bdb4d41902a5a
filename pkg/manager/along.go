package manager

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// unitKeys are the properties that say what a stop of a unit means.
const unitKeys = "Id,LoadState,ActiveState,Job,ControlGroup,MainPID,ControlPID,Restart,KillMode,SendSIGKILL," +
	"Triggers,TriggeredBy,UpheldBy,RequiredBy,RequisiteOf,BoundBy,ConsistsOf,PropagatesStopTo," +
	"SuccessAction,FailureAction,OnSuccess,OnSuccessJobMode,OnFailure,OnFailureJobMode"

// dependants are the properties along which systemd hands a stop on: those that
// have UNIT_ATOM_PROPAGATE_STOP in src/core/unit-dependency-atom.c (version 257:
// PropagatesStopTo has one of its own). They are the other sides of Requires=,
// Requisite=, BindsTo=, PartOf= and StopPropagatedFrom=.
var dependants = []string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"}

// maxAlong bounds how many units are looked at that would go along with one.
const maxAlong = 256

// along are the other units that systemd stops when it stops one, and when these
// stop, in order. Through one that is not active it hands nothing on: its job is dropped, and
// with it those that only it is for (transaction_drop_redundant and
// transaction_collect_garbage, src/core/transaction.c).
func (b bus) along(ctx context.Context, stopped properties) (all []properties, err error) {
	known := map[string]bool{stopped.text("Id"): true}
	for next := stopped.dependants(known); len(next) > 0; {
		if len(known) > maxAlong {
			return nil, fmt.Errorf("more than %d units depend on it", maxAlong)
		}
		shown, err := b.show(ctx, unitKeys, next...)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, p := range shown {
			if p.isUp() && isUnitName(p.text("Id")) {
				all = append(all, p)
				next = append(next, p.dependants(known)...)
			}
		}
	}
	slices.SortFunc(all, func(a, b properties) int { return strings.Compare(a.text("Id"), b.text("Id")) })
	return all, nil
}

// dependants are those of a unit that are not known yet, which they are then.
func (p properties) dependants(known map[string]bool) (names []string) {
	for _, key := range dependants {
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
