package portdiag

import (
	"slices"
	"strings"

	"github.com/killport/killport/internal/netfilter"
)

// redirectFinding has as its remedy to remove the first rule that may go.
func redirectFinding(found []netfilter.Redirect, bindable bool) Finding {
	rules, targets := []string{}, []string{}
	for _, r := range found {
		if !slices.Contains(rules, r.Rule) {
			rules = append(rules, r.Rule)
		}
		if r.To != "" && !slices.Contains(targets, r.To) {
			targets = append(targets, r.To)
		}
	}
	f := Finding{
		Cause: CauseDNAT, Severity: Warning,
		Evidence: map[string]any{"rules": rules, "targets": targets},
		Summary:  "the packet filter sends connections to this port elsewhere",
	}
	if len(targets) > 0 {
		f.Summary += ": to " + strings.Join(targets, ", ")
	}
	if !bindable {
		f.Severity = Info
	}
	at := slices.IndexFunc(found, func(r netfilter.Redirect) bool { return r.Remove != nil })
	if at < 0 {
		f.Summary += "; the rule belongs to the program that made it"
		return f
	}
	f.Remedy = asRoot(found[at].Remove...)
	if found[at].Wide {
		f.Summary += "; the rule is about other ports as well"
	}
	return f
}
