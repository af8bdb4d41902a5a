package pidcheck

import (
	"slices"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/process"
)

// maxAlso bounds what Also names: a process may have tens of thousands.
const maxAlso = 32

// Also names what else is freed with the pinned holder, or with what manages it
// if its lever is used, in the form "TCP 127.0.0.1:8443", in order, 32 at most:
// those of all TCP listeners that are not among the asked ones.
func Also(p *process.Pin, lever *manager.Manager, all []listeners.Socket, asked []listeners.Listener) []string {
	var names []string
	if lever.Control() != manager.Fronted && p != nil { // what only listens for others keeps the rest
		held, _ := listeners.Held(p, all) // what we may not see, we cannot name
		for _, s := range held {
			names = append(names, named(s.Listener()))
		}
	}
	if lever != nil {
		names = append(names, lever.Listens...)
	}
	known := map[string]bool{}
	for _, l := range asked {
		known[named(l)] = true
	}
	names = slices.DeleteFunc(names, func(name string) bool { return known[name] })
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxAlso)]
}

func named(l listeners.Listener) string { return string(l.Proto) + " " + l.Addr() }
