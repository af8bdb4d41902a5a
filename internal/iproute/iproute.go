// Package iproute reads what ip(8) of iproute2, and wg(8), print of the kernel's
// own sockets: tunnels, and the endpoints of MPTCP.
package iproute

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tunnel is a network link whose UDP socket the kernel has opened for itself.
type Tunnel struct {
	Link string // its name
	Kind string // vxlan, geneve …
}

// ParseTunnels finds those at a UDP port in what "ip -json -details link show"
// prints (ip-link(8)): only a link that is up has its socket. Of those that
// are mute, because they are WireGuard's, ip does not know the port.
func ParseTunnels(b []byte, port uint16) (found []Tunnel, mute []string, err error) {
	var links []struct {
		Name  string   `json:"ifname"`
		Flags []string `json:"flags"`
		Info  struct {
			Kind string          `json:"info_kind"`
			Data json.RawMessage `json:"info_data"`
		} `json:"linkinfo"`
	}
	if err := json.Unmarshal(b, &links); err != nil {
		return nil, nil, fmt.Errorf("ip: %w", err)
	}
	for _, l := range links {
		switch {
		case !slices.Contains(l.Flags, "UP"):
		case l.Info.Kind == "wireguard":
			mute = append(mute, l.Name)
		case portOf(l.Info.Kind, l.Info.Data) == port:
			found = append(found, Tunnel{l.Name, l.Info.Kind})
		}
	}
	return found, mute, nil
}

// portOf is 0 for a link that has none. Its member is named in
// ip/iplink_{vxlan,geneve,bareudp}.c of iproute2.
func portOf(kind string, data json.RawMessage) uint16 {
	var info struct {
		Port    uint16 `json:"port"`
		DstPort uint16 `json:"dstport"`
	}
	switch kind {
	case "vxlan", "geneve", "bareudp":
		if json.Unmarshal(data, &info) == nil {
			return max(info.Port, info.DstPort)
		}
	}
	return 0
}

// ParseListenPorts finds those among links in what "wg show all listen-port"
// prints (wg(8)): a line "wg0\t51820" of each.
func ParseListenPorts(b []byte, links []string, port uint16) (found []Tunnel) {
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) == 2 && slices.Contains(links, words[0]) && words[1] == strconv.Itoa(int(port)) {
			found = append(found, Tunnel{words[0], "wireguard"})
		}
	}
	return found
}

// Endpoint is an address that the kernel offers to the peers of MPTCP
// connections.
type Endpoint struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	ID      int    `json:"id"`
}

// ParseEndpoints finds those with a port in what "ip -json mptcp endpoint show"
// prints (ip/ipmptcp.c of iproute2).
func ParseEndpoints(b []byte, port uint16) ([]Endpoint, error) {
	var all []Endpoint
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("ip: %w", err)
	}
	return slices.DeleteFunc(all, func(e Endpoint) bool { return e.Port != port }), nil
}
