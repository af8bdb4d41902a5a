package pidcheck

import (
	"slices"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// maxAlso bounds what Also names: a process may have tens of thousands.
const maxAlso = 32

// Names are those of all TCP listeners that the pinned holder has, in order, in the
// form "TCP 127.0.0.1:8443". What we may not see, we cannot name.
func Names(p *process.Pin, all []listeners.Socket) []string {
	if p == nil {
		return nil
	}
	held, _ := listeners.Held(p, all)
	var names []string
	for _, s := range held {
		names = append(names, named(s.Listener()))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Also names what else is freed with the holder that has those [Names], or with
// what manages it if its lever is used: in the same form and order, 32 at most,
// those that are not among the asked ones.
func Also(names []string, lever *manager.Manager, asked []listeners.Listener) []string {
	switch {
	case lever.Control() == manager.Fronted: // what only listens for others keeps the rest
		names = slices.Sorted(slices.Values(lever.Listens))
	case lever != nil && len(lever.Listens) > 0:
		names = slices.Sorted(slices.Values(slices.Concat(names, lever.Listens)))
	}
	known := map[string]bool{}
	for _, l := range asked {
		known[named(l)] = true
	}
	var also []string
	for _, name := range names {
		if !known[name] && len(also) < maxAlso {
			also = append(also, name)
			known[name] = true
		}
	}
	return also
}

// Staying are the names of those sockets that are in both readings of the table.
func Staying(before, now []listeners.Socket) map[string]bool {
	there := map[listeners.ID]bool{}
	for _, s := range now {
		there[s.ID] = true
	}
	names := map[string]bool{}
	for _, s := range before {
		if there[s.ID] {
			names[named(s.Listener())] = true
		}
	}
	return names
}

func named(l listeners.Listener) string { return string(l.Proto) + " " + l.Addr() }
