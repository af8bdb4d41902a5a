package portdiag

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/pkg/listeners"
)

// redirect is a rule of the packet filter that sends a port elsewhere.
type redirect struct {
	Rule string // as the tool prints it
	To   string // "172.17.0.2:80", ":8080"; "" if it does not say
}

// parseSave finds the redirections of a port in what iptables-save(8) prints:
//
//	-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
//	-A PREROUTING -p tcp -m multiport --dports 80,8000:8010 -j REDIRECT --to-ports 3000
func parseSave(b []byte, proto listeners.Proto, port uint16) []redirect {
	var found []redirect
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		words := strings.Fields(line)
		target := after(words, "-j")
		if target != "DNAT" && target != "REDIRECT" || after(words, "-p") != strings.ToLower(string(proto)) {
			continue
		}
		if !inPorts(after(words, "--dport"), port) && !inPorts(after(words, "--dports"), port) {
			continue
		}
		to := after(words, "--to-destination")
		if ports := after(words, "--to-ports"); ports != "" {
			to = ":" + ports
		}
		found = append(found, redirect{line, to})
	}
	return found
}

// after is the word after a flag that is not negated.
func after(words []string, flag string) string {
	at := slices.Index(words, flag)
	if at < 0 || at+1 >= len(words) || at > 0 && words[at-1] == "!" {
		return ""
	}
	return words[at+1]
}

// inPorts reports whether a port is in a list like "80,8000:8010" or
// "80,8000-8010".
func inPorts(list string, port uint16) bool {
	for part := range strings.SplitSeq(list, ",") {
		low, high, found := strings.Cut(strings.Replace(part, ":", "-", 1), "-")
		if !found {
			high = low
		}
		from, err := strconv.ParseUint(low, 10, 16)
		to, herr := strconv.ParseUint(high, 10, 16)
		if err == nil && herr == nil && from <= uint64(port) && uint64(port) <= to {
			return true
		}
	}
	return false
}

// parseNFT finds them in what "nft --json list ruleset" prints
// (libnftables-json(5)).
func parseNFT(b []byte, proto listeners.Proto, port uint16) ([]redirect, error) {
	var ruleset struct {
		Objects []struct {
			Rule *struct {
				Family string            `json:"family"`
				Table  string            `json:"table"`
				Chain  string            `json:"chain"`
				Handle int               `json:"handle"`
				Expr   []json.RawMessage `json:"expr"`
			} `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(b, &ruleset); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	var found []redirect
	for _, o := range ruleset.Objects {
		if o.Rule == nil {
			continue
		}
		matches, to, redirects := false, "", false
		for _, raw := range o.Rule.Expr {
			var e nftExpr
			if json.Unmarshal(raw, &e) != nil {
				continue
			}
			matches = matches || e.matches(proto, port)
			if t := cmpOr(e.DNAT, e.Redirect); t != nil {
				to, redirects = t.String(), true
			}
			if _, ok := bareRedirect(raw); ok {
				redirects = true
			}
		}
		if matches && redirects {
			r := o.Rule
			found = append(found, redirect{fmt.Sprintf("%s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle), to})
		}
	}
	return found, nil
}

// nftExpr are the expressions that matter.
type nftExpr struct {
	Match *struct {
		Op   string `json:"op"`
		Left struct {
			Payload *struct {
				Protocol string `json:"protocol"`
				Field    string `json:"field"`
			} `json:"payload"`
		} `json:"left"`
		Right json.RawMessage `json:"right"`
	} `json:"match"`
	DNAT     *nftTarget `json:"dnat"`
	Redirect *nftTarget `json:"redirect"`
}

type nftTarget struct {
	Addr json.RawMessage `json:"addr"`
	Port json.RawMessage `json:"port"`
}

func (t nftTarget) String() string {
	addr := strings.Trim(string(t.Addr), `"`)
	if len(t.Port) == 0 {
		return addr
	}
	return addr + ":" + string(t.Port)
}

func cmpOr(a, b *nftTarget) *nftTarget {
	if a != nil {
		return a
	}
	return b
}

// bareRedirect: "redirect" without a port is {"redirect": null}.
func bareRedirect(raw json.RawMessage) (json.RawMessage, bool) {
	var e map[string]json.RawMessage
	if json.Unmarshal(raw, &e) != nil {
		return nil, false
	}
	v, ok := e["redirect"]
	return v, ok
}

func (e nftExpr) matches(proto listeners.Proto, port uint16) bool {
	m := e.Match
	if m == nil || m.Op != "==" && m.Op != "in" || m.Left.Payload == nil || m.Left.Payload.Field != "dport" {
		return false
	}
	of := m.Left.Payload.Protocol
	return (of == strings.ToLower(string(proto)) || of == "th") && nftHas(m.Right, port)
}

// nftHas reads 8000, {"range": [8000, 8010]} and {"set": [those]}.
func nftHas(raw json.RawMessage, port uint16) bool {
	var number uint16
	if json.Unmarshal(raw, &number) == nil {
		return number == port
	}
	var of struct {
		Range []uint16          `json:"range"`
		Set   []json.RawMessage `json:"set"`
	}
	if json.Unmarshal(raw, &of) != nil {
		return false
	}
	if len(of.Range) == 2 {
		return of.Range[0] <= port && port <= of.Range[1]
	}
	return slices.ContainsFunc(of.Set, func(one json.RawMessage) bool { return nftHas(one, port) })
}

// remedyOf names the command that shows the rules: which of them may go, only
// people can tell.
func redirectFinding(found []redirect, bindable bool) Finding {
	rules, targets := []string{}, []string{}
	for _, r := range found {
		rules = append(rules, r.Rule)
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
	return f
}
