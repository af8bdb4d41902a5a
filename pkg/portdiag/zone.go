package portdiag

import (
	"net"
	"net/netip"
	"strconv"
)

// zoneID is the number of the interface that the zone of a link-local address
// names, by its number or its name; 0 if it names none.
func zoneID(addr netip.Addr) uint32 {
	if n, err := strconv.ParseUint(addr.Zone(), 10, 32); err == nil {
		return uint32(n)
	}
	if addr.Zone() == "" {
		return 0
	}
	dev, err := net.InterfaceByName(addr.Zone())
	if err != nil {
		return 0
	}
	return uint32(dev.Index)
}
