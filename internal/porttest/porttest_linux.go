// Package porttest gives tests ports.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
)

// last begins somewhere: the tests of other packages look for ports as well.
var last = rand.Uint32N(9000) + 20000

// Free returns an address of 127.0.0.1 whose port nobody has. It is below those
// that the kernel gives away, and no other test of this process gets it.
func Free(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 1000 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(atomic.AddUint32(&last, 1)))
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", at.Port()))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return at
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// Reserve returns an address of 127.0.0.1 that nobody listens on, and whose
// port nobody else can take until the test ends: a socket is bound to it.
func Reserve(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := name.(*syscall.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port))
}
