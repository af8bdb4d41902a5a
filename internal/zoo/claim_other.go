//go:build !windows

package main

import "net"

// The modes that are for Windows.
var heirs, denied, detached, window, service, runService = unsupported, unsupported, unsupported, unsupported, unsupported, unsupported

// claim is for Windows.
func claim(net.Listener) error { return nil }

func (c *call) bindUDP(addr string) (net.Addr, error) {
	s, err := net.ListenPacket(c.network("udp", addr), addr)
	if err != nil {
		return nil, err
	}
	kept = append(kept, s)
	return s.LocalAddr(), nil
}
