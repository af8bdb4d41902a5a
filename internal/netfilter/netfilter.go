// Package netfilter reads what the tools of the packet filter print: the rules
// of iptables-save(8), and those of nft(8) as JSON. Of each it finds what sends
// a port elsewhere. A protocol is "tcp" or "udp".
package netfilter

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/internal/portlist"
)

// Redirect is a rule of the packet filter that sends a port elsewhere.
type Redirect struct {
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

// Merge adds rules to those that are known. One of iptables-nft is in the
// listing of nft as well.
func Merge(known, rules []Redirect) []Redirect {
	return append(known, slices.DeleteFunc(rules, func(r Redirect) bool {
		return slices.ContainsFunc(known, func(k Redirect) bool { return k.place == r.place && k.To == r.To })
	})...)
}

// ParseSave finds the redirections of a port in what iptables-save(8) prints,
// or ip6tables-save, of the table nat:
//
//	-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
//	-A PREROUTING -p tcp -m multiport --dports 80,8000:8010 -j REDIRECT --to-ports 3000
//	-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-7ZQ
func ParseSave(b []byte, program string, proto string, port uint16) []Redirect {
	family := map[string]string{"iptables": "ip", "ip6tables": "ip6"}[program]
	rules := savedRules{of: map[string][]savedRule{}, proto: proto, port: port}
	var all []savedRule
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		words := savedWords(line)
		if len(words) < 2 || words[0] != "-A" {
			continue
		}
		rule := savedRule{line, words}
		all = append(all, rule)
		rules.of[words[1]] = append(rules.of[words[1]], rule)
	}
	var found []Redirect
	for _, rule := range all {
		if rule.after("-p") != rules.proto || !rule.has(port) {
			continue
		}
		chain := rule.words[1]
		r := Redirect{Rule: rule.line, place: family + " nat " + chain}
		r.Wide = rule.after("--dport") != strconv.Itoa(int(port))
		if !owned("", chain) {
			r.Remove = append([]string{program, "-t", "nat", "-D"}, rule.words[1:]...)
		}
		for _, r.To = range rules.targets(rule, map[string]bool{chain: true}) {
			found = append(found, r)
		}
	}
	return found
}

// savedRules are the rules of a table, by chain, and what they are asked for.
type savedRules struct {
	of    map[string][]savedRule
	proto string
	port  uint16
}

// targets are where a rule that matches sends the port, by way of other chains
// too; each of those is entered once.
func (rs savedRules) targets(rule savedRule, seen map[string]bool) []string {
	target := cmp.Or(rule.after("-j"), rule.after("-g"))
	switch target {
	case "DNAT":
		return []string{rule.after("--to-destination")}
	case "REDIRECT":
		if ports := rule.after("--to-ports"); ports != "" {
			return []string{":" + ports}
		}
		return []string{""}
	}
	if seen[target] {
		return nil
	}
	seen[target] = true
	var to []string
	for _, next := range rs.of[target] {
		if proto := next.after("-p"); (proto == "" || proto == rs.proto) && (!next.asksForPorts() || next.has(rs.port)) {
			to = append(to, rs.targets(next, seen)...)
		}
	}
	return to
}

// savedRule is a line of iptables-save.
type savedRule struct {
	line  string
	words []string
}

func (r savedRule) asksForPorts() bool {
	return slices.Contains(r.words, "--dport") || slices.Contains(r.words, "--dports")
}

func (r savedRule) has(port uint16) bool {
	return portlist.Has(r.after("--dport"), port) || portlist.Has(r.after("--dports"), port)
}

// after is the word after a flag that is not negated.
func (r savedRule) after(flag string) string {
	at := slices.Index(r.words, flag)
	if at < 0 || at+1 >= len(r.words) || at > 0 && r.words[at-1] == "!" {
		return ""
	}
	return r.words[at+1]
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
