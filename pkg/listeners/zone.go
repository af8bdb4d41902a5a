package listeners

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ZoneIndex is the number of the interface that the zone of a link-local address
// names, by its number or its name; 0 if it names none.
func ZoneIndex(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	dev, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(dev.Index)
}

// isIn reports whether an address in zone is in the one that is asked for, if
// one is: %2 and %eth0 may be the same. In which zone a socket is, /proc/net
// does not say; then it may be another's, and is not taken for the one.
func isIn(zone, asked string) bool {
	switch asked {
	case "", zone:
		return true
	}
	index := ZoneIndex(asked)
	return index != 0 && index == ZoneIndex(zone)
}

// checkZone says what is wrong with the zone of an address, or with its having
// none: a link-local address is of one interface, and may be there on each.
func checkZone(addr netip.Addr, ports string) error {
	switch zone := addr.Zone(); {
	case !addr.Is6() || addr.Is4In6() || !addr.IsLinkLocalUnicast():
		if zone != "" {
			return fmt.Errorf("%q: only a link-local address is of an interface", addr)
		}
	case zone == "":
		return fmt.Errorf("a link-local address needs its interface: %s", strings.Join(zonedForms(addr, ports), " or "))
	default:
		if !isInterface(zone) {
			return fmt.Errorf("%q: there is no interface %q", addr, zone)
		}
	}
	return nil
}

func isInterface(zone string) bool {
	_, err := net.InterfaceByIndex(int(ZoneIndex(zone)))
	return err == nil
}

// zonedForms are how the address is asked for on the interfaces that have it;
// or how it is asked for at all.
func zonedForms(addr netip.Addr, ports string) []string {
	const few = 4
	var forms []string
	form := func(zone string) string { return "[" + addr.WithZone(zone).String() + "]:" + ports }
	all, _ := net.Interfaces()
	for _, dev := range all {
		if has(dev, addr) {
			forms = append(forms, form(dev.Name))
		}
	}
	if len(forms) == 0 || len(forms) > few {
		return []string{form("INTERFACE")}
	}
	return forms
}

func has(dev net.Interface, addr netip.Addr) bool {
	addrs, _ := dev.Addrs()
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == addr {
			return true
		}
	}
	return false
}
