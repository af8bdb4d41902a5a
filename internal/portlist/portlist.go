// Package portlist reads and writes lists of ports and ranges of ports, as the
// kernel and its tools print them.
package portlist

import (
	"fmt"
	"strconv"
	"strings"
)

// Has reports whether a port is in a list like "80,8000:8010" or
// "80,8000-8010".
func Has(list string, port uint16) bool {
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

// Without is a list like "80,8000-8010" less one port.
func Without(list string, port uint16) string {
	var kept []string
	for part := range strings.SplitSeq(list, ",") {
		if !Has(part, port) {
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
