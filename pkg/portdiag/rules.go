package portdiag

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/pkg/listeners"
)

// redirect is a rule of the packet filter that sends a port elsewhere.
type redirect struct {
	Rule   string   // as the tool prints it
	To     string   // "172.17.0.2:80", ":8080"; "" if it does not say
	Wide   bool     // it is about other ports as well
	Remove []string // the command that does; nil if it belongs to a program
	place  string   // family, table and chain, in the words of nftables
}

// owners are the programs that make rules, by how the names of their chains, or
// of their tables, begin: a rule that is removed there is missed, or comes back.
var owners = []string{"docker", "kube-", "cni-", "cni_", "netavark", "firewalld", "lxd", "incus"}

func owned(table, chain string) bool {
	return slices.ContainsFunc(owners, func(owner string) bool {
		return strings.HasPrefix(strings.ToLower(table), owner) || strings.HasPrefix(strings.ToLower(chain), owner)
	})
}

// merge adds rules to those that are known. One of iptables-nft is in the
// listing of nft as well.
func merge(known, rules []redirect) []redirect {
	return append(known, slices.DeleteFunc(rules, func(r redirect) bool {
		return slices.ContainsFunc(known, func(k redirect) bool { return k.place == r.place && k.To == r.To })
	})...)
}

// parseSave finds the redirections of a port in what iptables-save(8) prints,
// or ip6tables-save, of the table nat:
//
//	-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
//	-A PREROUTING -p tcp -m multiport --dports 80,8000:8010 -j REDIRECT --to-ports 3000
func parseSave(b []byte, program string, proto listeners.Proto, port uint16) []redirect {
	family := map[string]string{"iptables": "ip", "ip6tables": "ip6"}[program]
	var found []redirect
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		words := savedWords(line)
		if len(words) < 2 || words[0] != "-A" {
			continue
		}
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
		r := redirect{Rule: line, To: to, place: family + " nat " + words[1]}
		r.Wide = after(words, "--dport") != strconv.Itoa(int(port))
		if !owned("", words[1]) {
			r.Remove = append([]string{program, "-t", "nat", "-D"}, words[1:]...)
		}
		found = append(found, r)
	}
	return found
}

// savedWords are those of a line: one with a space in it is between quotation
// marks, and a backslash takes the meaning from one mark or another backslash
// (xtables_save_string of libxtables).
func savedWords(line string) []string {
	var words []string
	var word strings.Builder
	inWord, quoted, escaped := false, false, false
	for _, c := range []byte(line) {
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			inWord, quoted = true, !quoted
		case c == ' ' && !quoted:
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
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

// withoutPort is a list like "80,8000-8010" less one port.
func withoutPort(list string, port uint16) string {
	var kept []string
	for part := range strings.SplitSeq(list, ",") {
		if !inPorts(part, port) {
			kept = append(kept, part)
			continue
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			continue
		}
		first, _ := strconv.Atoi(low)
		last, _ := strconv.Atoi(high)
		kept = append(kept, span(first, int(port)-1)...)
		kept = append(kept, span(int(port)+1, last)...)
	}
	return strings.Join(kept, ",")
}

// span is a range as the kernel prints it, or nothing.
func span(first, last int) []string {
	switch {
	case first > last:
		return nil
	case first == last:
		return []string{strconv.Itoa(first)}
	}
	return []string{fmt.Sprintf("%d-%d", first, last)}
}

// parseNFT finds them in what "nft --json list ruleset" prints
// (libnftables-json(5)).
func parseNFT(b []byte, proto listeners.Proto, port uint16) ([]redirect, error) {
	var ruleset struct {
		Objects []struct {
			Rule *nftRule `json:"rule"`
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
		if r, ok := o.Rule.redirect(proto, port); ok {
			found = append(found, r)
		}
	}
	return found, nil
}

type nftRule struct {
	Family string            `json:"family"`
	Table  string            `json:"table"`
	Chain  string            `json:"chain"`
	Handle int               `json:"handle"`
	Expr   []json.RawMessage `json:"expr"`
}

// redirect reads what the rule does to a port.
func (n nftRule) redirect(proto listeners.Proto, port uint16) (r redirect, ok bool) {
	matches, redirects := false, false
	for _, raw := range n.Expr {
		var e nftExpr
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		if e.matches(proto, port) {
			matches, r.Wide = true, string(e.Match.Right) != strconv.Itoa(int(port))
		}
		if t := cmp.Or(e.DNAT, e.Redirect); t != nil {
			r.To, redirects = t.String(), true
		}
		redirects = redirects || bareRedirect(raw)
	}
	place, handle := []string{n.Family, n.Table, n.Chain}, []string{"handle", strconv.Itoa(n.Handle)}
	r.place = strings.Join(place, " ")
	r.Rule = r.place + " " + strings.Join(handle, " ")
	if !owned(n.Table, n.Chain) {
		r.Remove = slices.Concat([]string{"nft", "delete", "rule"}, place, handle)
	}
	return r, matches && redirects
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

// bareRedirect: "redirect" without a port is {"redirect": null}.
func bareRedirect(raw json.RawMessage) bool {
	var e map[string]json.RawMessage
	_ = json.Unmarshal(raw, &e)
	_, ok := e["redirect"]
	return ok
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

// redirectFinding has as its remedy to remove the first rule that may go.
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
	at := slices.IndexFunc(found, func(r redirect) bool { return r.Remove != nil })
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
