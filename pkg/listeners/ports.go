package listeners

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// DefaultAll are the ports that the word "all" means.
const DefaultAll = "8000 8080 3000"

// MaxPorts bounds how many ports can be asked for at once: all of them, on two
// addresses.
const MaxPorts = 1 << 17

// ParsePorts reads the ports that a person names: 8000, :8000, 8000-8010,
// 127.0.0.1:8000, [::1]:8000, [fe80::1%eth0]:8000, localhost:8000 (the port, on every address) and
// "all", which stands for the ports that all names. Several may stand in one
// argument, with commas or blanks between them. Each is asked for once, in the
// order in which it was first named.
func ParsePorts(proto Proto, all string, args ...string) ([]Query, error) {
	var queries []Query
	for _, arg := range args {
		for part := range strings.SplitSeq(arg, ",") {
			words := strings.FieldsFunc(part, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' })
			if len(words) == 0 {
				return nil, errors.New("a port is empty")
			}
			for _, word := range words {
				got, err := parsePorts(proto, all, word)
				if err != nil {
					return nil, err
				}
				if queries = append(queries, got...); len(queries) > MaxPorts {
					return nil, fmt.Errorf("more than %d ports, those that are named again among them", MaxPorts)
				}
			}
		}
	}
	return unique(queries), nil
}

func unique(queries []Query) []Query {
	seen := map[Query]bool{}
	return slices.DeleteFunc(queries, func(q Query) bool {
		known := seen[q]
		seen[q] = true
		return known
	})
}

// parsePorts reads one word.
func parsePorts(proto Proto, all, word string) ([]Query, error) {
	if word == "all" {
		queries, err := ParsePorts(proto, "", all)
		if err != nil {
			return nil, fmt.Errorf("the ports of \"all\" (%q): %w", all, err)
		}
		return queries, nil
	}
	addr, ports, err := splitAddr(word)
	if err != nil {
		return nil, err
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err := parsePort(first)
	if err != nil {
		return nil, err
	}
	to, err := parsePort(last)
	if err != nil {
		return nil, err
	}
	if to < from {
		return nil, fmt.Errorf("%q ends before it begins", word)
	}
	var queries []Query
	for port := from; port <= to; port++ {
		queries = append(queries, Query{Proto: proto, Addr: addr, Port: uint16(port)})
	}
	return queries, nil
}

// splitAddr takes the address off a word; no valid address stands for all.
func splitAddr(word string) (netip.Addr, string, error) {
	colon := strings.LastIndexByte(word, ':')
	if colon < 0 {
		return netip.Addr{}, word, nil
	}
	host, ports := word[:colon], word[colon+1:]
	switch strings.ToLower(host) {
	case "", "*", "localhost":
		return netip.Addr{}, ports, nil
	}
	bare, bracketed := host, strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if bracketed {
		bare = host[1 : len(host)-1]
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil || addr.Is6() != bracketed {
		return netip.Addr{}, "", fmt.Errorf("%q: %q is no address such as 127.0.0.1 or [::1]", word, host)
	}
	return addr, ports, checkZone(addr, ports)
}

func parsePort(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port from 1 to 65535", s)
	}
	return n, nil
}
