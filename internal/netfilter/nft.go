package netfilter

import (
	"errors"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// ParseNFT finds the redirections of a port in what "nft --json list ruleset"
// prints (libnftables-json(5)).
func ParseNFT(b []byte, proto string, port uint16) ([]Redirect, error) {
	if !gjson.ValidBytes(b) {
		return nil, errors.New("nft: it prints something else than JSON")
	}
	rs := ruleset{proto: proto, port: port, chains: map[place][]gjson.Result{}, elements: map[place]gjson.Result{}}
	var rules []gjson.Result
	for _, o := range gjson.GetBytes(b, "nftables").Array() {
		o.ForEach(func(kind, of gjson.Result) bool {
			at := place{of.Get("family").Str, of.Get("table").Str, of.Get("name").Str}
			switch kind.Str {
			case "set", "map":
				rs.elements[at] = of.Get("elem")
			case "rule":
				at.name = of.Get("chain").Str
				rs.chains[at] = append(rs.chains[at], of)
				rules = append(rules, of)
			}
			return true
		})
	}
	var found []Redirect
	for _, rule := range rules {
		found = append(found, rs.redirects(rule)...)
	}
	return found, nil
}

// place names a chain, a set or a map.
type place struct{ family, table, name string }

// ruleset is what nft lists, as it is for one port.
type ruleset struct {
	proto    string
	port     uint16
	chains   map[place][]gjson.Result // their rules
	elements map[place]gjson.Result   // of sets and maps that have a name
}

// redirects are what a rule does to the port, if it is about it.
func (rs ruleset) redirects(rule gjson.Result) []Redirect {
	at := place{rule.Get("family").Str, rule.Get("table").Str, rule.Get("chain").Str}
	w := walk{ruleset: rs, seen: map[place]bool{at: true}}
	w.rule(at, rule)
	if !w.about {
		return nil
	}
	words := []string{at.family, at.table, at.name}
	handle := []string{"handle", rule.Get("handle").Raw}
	r := Redirect{Wide: w.wide, place: strings.Join(words, " ")}
	r.Rule = r.place + " " + strings.Join(handle, " ")
	if !owned(at.table, at.name) {
		r.Remove = append(append([]string{"nft", "delete", "rule"}, words...), handle...)
	}
	var all []Redirect
	for _, r.To = range w.targets {
		all = append(all, r)
	}
	return all
}

// walk follows a packet for the port from one rule on.
type walk struct {
	ruleset
	seen    map[place]bool // chains
	about   bool           // something on the way asks for the port
	wide    bool           // and for others
	targets []string
}

// rule does what a rule does, statement by statement, until one does not match.
func (w *walk) rule(at place, rule gjson.Result) {
	for _, e := range rule.Get("expr").Array() {
		if m := e.Get("match"); m.Exists() && !w.match(at, m) {
			return
		}
		for _, statement := range []string{"dnat", "redirect"} {
			if t := e.Get(statement); t.Exists() {
				w.target(at, t)
			}
		}
		w.jump(at, e)
		if m := e.Get("vmap"); isPort(m.Get("key"), w.proto) {
			if verdict := w.lookup(at, m.Get("data")); verdict.Exists() {
				w.about, w.wide = true, true
				w.jump(at, verdict)
			}
		}
	}
}

// jump goes on in another chain, if that is what the statement says.
func (w *walk) jump(at place, statement gjson.Result) {
	for _, verb := range []string{"jump", "goto"} {
		to := place{at.family, at.table, statement.Get(verb + ".target").Str}
		if to.name == "" || w.seen[to] {
			continue
		}
		w.seen[to] = true
		for _, rule := range w.chains[to] {
			w.rule(to, rule)
		}
	}
}

// match reports whether the packet may be one that is asked for: what is not
// about protocols and ports is taken to be so.
func (w *walk) match(at place, m gjson.Result) bool {
	left, right := m.Get("left"), m.Get("right")
	equal := m.Get("op").Str != "!="
	switch {
	case left.Get("meta.key").Str == "l4proto" || left.Get("payload.field").Str == "protocol":
		return right.Type != gjson.String || (right.Str == w.proto) == equal
	case left.Get("payload.field").Str != "dport":
		return true
	case !isPort(left, w.proto):
		return false // that of another protocol
	case !equal:
		return !w.has(at, right)
	case !w.has(at, right):
		return false
	}
	w.about = true
	w.wide = w.wide || right.Type != gjson.Number
	return true
}

// isPort reports whether an expression is the port that a packet goes to.
func isPort(e gjson.Result, proto string) bool {
	of := e.Get("payload.protocol").Str
	return e.Get("payload.field").Str == "dport" && (of == proto || of == "th")
}

// has reads 8000, {"range": [8000, 8010]}, {"set": [those]}, and "@name".
func (w *walk) has(at place, e gjson.Result) bool {
	switch {
	case e.Type == gjson.Number:
		return e.Raw == strconv.Itoa(int(w.port))
	case e.Type == gjson.String:
		return w.has(at, w.named(at, e))
	case e.IsArray():
		for _, one := range e.Array() {
			if w.has(at, one) {
				return true
			}
		}
		return false
	case e.Get("range").Exists():
		return e.Get("range.0").Uint() <= uint64(w.port) && uint64(w.port) <= e.Get("range.1").Uint()
	case e.Get("elem.val").Exists(): // with a counter, or a comment
		return w.has(at, e.Get("elem.val"))
	}
	set := e.Get("set")
	return set.Exists() && w.has(at, set)
}

// named are the elements of the set or map "@name".
func (w *walk) named(at place, e gjson.Result) gjson.Result {
	name, ok := strings.CutPrefix(e.Str, "@")
	if !ok {
		return gjson.Result{}
	}
	return w.elements[place{at.family, at.table, name}]
}

// lookup finds the value for the port in a map: {"set": [[8000, value], …]}, or
// "@name".
func (w *walk) lookup(at place, data gjson.Result) gjson.Result {
	pairs := data.Get("set")
	if data.Type == gjson.String {
		pairs = w.named(at, data)
	}
	for _, pair := range pairs.Array() {
		if w.has(at, pair.Get("0")) {
			return pair.Get("1")
		}
	}
	return gjson.Result{}
}

// target adds where "dnat" or "redirect" sends the packet, which a map of ports
// may decide.
func (w *walk) target(at place, t gjson.Result) {
	addr, ok := w.value(at, t.Get("addr"))
	port, pok := w.value(at, t.Get("port"))
	if !ok || !pok {
		return
	}
	if port != "" {
		addr += ":" + port
	}
	w.targets = append(w.targets, addr)
}

// value says an address or a port; none is "". It is not ok if a map has none
// for this port.
func (w *walk) value(at place, e gjson.Result) (text string, ok bool) {
	switch {
	case e.Get("map").Exists():
		m := e.Get("map")
		found := w.lookup(at, m.Get("data"))
		if !isPort(m.Get("key"), w.proto) || !found.Exists() {
			return "", false
		}
		w.about, w.wide = true, true
		return w.value(at, found)
	case e.Get("range").Exists():
		return e.Get("range.0").String() + "-" + e.Get("range.1").String(), true
	case e.Get("concat").Exists():
		return e.Get("concat.0").String() + ":" + e.Get("concat.1").String(), true
	}
	return e.String(), true
}
