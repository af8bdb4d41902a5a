// Package netsh reads what Windows keeps about ports, as bytes: what netsh
// prints, in the language and code page of the system, is read by its digits,
// URLs and indents, never by its words. A protocol is "tcp" or "udp".
package netsh

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Queue is a request queue of http.sys.
type Queue struct {
	Name string   // "" if it is not in ASCII: we cannot tell the code page
	URLs []string // that are registered with it: HTTP://+:8000/
	PIDs []int    // of the processes that serve it
}

var (
	// newerPID is "ID: 2688, image: C:\…", older Windows has the number alone.
	newerPID = regexp.MustCompile(`^[^:]*:\s*([0-9]+),\s`)
	urlPort  = regexp.MustCompile(`(?i)^https?://(?:\[[^\]]*\]|[^/:]+):([0-9]{1,5})[/:]`)
)

// ParseServiceState reads the queues that serve a port from the output of
// "netsh http show servicestate view=requestq": each lasts until a line that is
// indented no deeper than its first one.
func ParseServiceState(output []byte, port uint16) []Queue {
	var found []Queue
	var q Queue
	done := func() {
		if slices.ContainsFunc(q.URLs, func(url string) bool { return urlOf(url, port) }) {
			q.URLs = slices.DeleteFunc(q.URLs, func(url string) bool { return !urlOf(url, port) })
			found = append(found, q)
		}
	}
	head := headIndent(output)
	for line := range bytes.Lines(output) {
		words := strings.TrimSpace(string(line))
		switch pid, isPID := parsePID(words); {
		case words == "":
		case indent(line) <= head:
			done()
			q = Queue{Name: queueName(words)}
		case isPID:
			q.PIDs = append(q.PIDs, pid)
		case urlPort.MatchString(words):
			q.URLs = append(q.URLs, words)
		}
	}
	done()
	return found
}

// headIndent is how far the first line of each queue is indented: not at all,
// or a level if netsh puts a heading above them. It is two levels less than
// what the PIDs are.
func headIndent(output []byte) int {
	const level = 4
	for line := range bytes.Lines(output) {
		if _, isPID := parsePID(strings.TrimSpace(string(line))); isPID {
			return max(0, indent(line)-2*level)
		}
	}
	return 0
}

func indent(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " \t")) }

func urlOf(url string, port uint16) bool {
	m := urlPort.FindStringSubmatch(url)
	return m != nil && m[1] == strconv.Itoa(int(port))
}

func parsePID(words string) (int, bool) {
	if m := newerPID.FindStringSubmatch(words); m != nil {
		words = m[1]
	}
	pid, err := strconv.ParseUint(words, 10, 32)
	return int(pid), err == nil
}

func queueName(words string) string {
	_, name, _ := strings.Cut(words, ":")
	name = strings.TrimSpace(name)
	if strings.ContainsFunc(name, func(c rune) bool { return c > unicode.MaxASCII || !unicode.IsPrint(c) }) {
		return ""
	}
	return name
}

// Range are ports that only those can have who reserved them.
type Range struct {
	First, Last  uint16
	Administered bool // by a person; Windows itself reserves the others, for Hyper-V and its like
}

var excludedLine = regexp.MustCompile(`^\s*([0-9]{1,5})\s+([0-9]{1,5})(\s+\*)?\s*$`)

// ShowExcluded are the arguments with which netsh shows the ranges of ipv4 or
// ipv6: each protocol has its own.
func ShowExcluded(family string, proto string) []string {
	return []string{"interface", family, "show", "excludedportrange", "protocol=" + proto}
}

// Remove is the command that removes a range, as a whole.
func (r Range) Remove(family string, proto string) []string {
	return []string{
		"netsh", "interface", family, "delete", "excludedportrange", "protocol=" + proto,
		fmt.Sprintf("startport=%d", r.First), fmt.Sprintf("numberofports=%d", int(r.Last)-int(r.First)+1),
	}
}

// ParseExcluded reads the output of "netsh interface ipv4 show
// excludedportrange protocol=tcp".
func ParseExcluded(output []byte) []Range {
	var found []Range
	for line := range bytes.Lines(output) {
		m := excludedLine.FindSubmatch(line)
		if m == nil {
			continue
		}
		first, ferr := strconv.ParseUint(string(m[1]), 10, 16)
		last, lerr := strconv.ParseUint(string(m[2]), 10, 16)
		if ferr == nil && lerr == nil && first <= last {
			found = append(found, Range{uint16(first), uint16(last), len(m[3]) > 0})
		}
	}
	return found
}

// Forward is a rule of portproxy: the service iphlpsvc listens, and passes on.
type Forward struct {
	Kind        string // v4tov4, v4tov6, v6tov4, v6tov6
	Listen      string // an address, the name of a host, or "*" for all
	Port        uint16
	Connect     string
	ConnectPort uint16
	ListenAddr  netip.Addr // not valid: all, or whatever the name stands for
}

// Kinds are the keys below …\Services\PortProxy.
var Kinds = []string{"v4tov4", "v4tov6", "v6tov4", "v6tov6"}

// ParseForward reads a value of …\Services\PortProxy\v4tov4\tcp: its name is
// "0.0.0.0/8000", or "*/8000", and its text "127.0.0.1/3000". Both may have the
// name of a host in place of the address: netsh takes
// listenaddress={IPv4Address|HostName}.
// https://learn.microsoft.com/windows-server/networking/technologies/netsh/netsh-interface-portproxy
func ParseForward(kind, name, text string) (Forward, error) {
	f := Forward{Kind: kind}
	var err error
	if f.Listen, f.Port, err = splitSlash(name); err != nil {
		return f, err
	}
	if addr, err := netip.ParseAddr(f.Listen); err == nil {
		f.ListenAddr = addr
	}
	f.Connect, f.ConnectPort, err = splitSlash(text)
	return f, err
}

func splitSlash(s string) (host string, port uint16, err error) {
	host, number, ok := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q is no address/port", s)
	}
	return host, uint16(n), nil
}

// Remove is the command that removes the rule.
func (f Forward) Remove() []string {
	return []string{
		"netsh", "interface", "portproxy", "delete", f.Kind,
		fmt.Sprintf("listenport=%d", f.Port), "listenaddress=" + f.Listen,
	}
}
