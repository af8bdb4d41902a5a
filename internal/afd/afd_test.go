package afd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

func TestParseAddress(t *testing.T) {
	v6 := netip.MustParseAddr("fe80::1").As16()
	for _, test := range []struct {
		name string
		b    []byte
		want string // "": an error
	}{
		{"SOCKADDR_IN", []byte{2, 0, 0x1F, 0x40, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, "127.0.0.1:8000"},
		{"without its padding", []byte{2, 0, 0x1F, 0x40, 0, 0, 0, 0}, "0.0.0.0:8000"},
		{"SOCKADDR_IN6", append([]byte{23, 0, 0x1F, 0x40, 0, 0, 0, 0}, append(v6[:], 7, 0, 0, 0)...), "[fe80::1]:8000"},
		{"half a SOCKADDR_IN6", append([]byte{23, 0, 0x1F, 0x40, 0, 0, 0, 0}, v6[:8]...), ""},
		{"Bluetooth", append([]byte{32, 0}, make([]byte, 28)...), ""},
		{"short", []byte{2, 0, 0x1F, 0x40}, ""},
		{"nothing", nil, ""},
	} {
		got, err := ParseAddress(test.b)
		if (err != nil) != (test.want == "") || err == nil && got.String() != test.want {
			t.Errorf("ParseAddress(%s) = %v, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// context is a SOCK_SHARED_INFO as a compiler lays it out, up to its flags and a little further.
func context(family, kind uint32, flags uint16) []byte {
	var b bytes.Buffer
	for _, field := range []any{
		uint32(1), family, kind, uint32(6), uint32(16), uint32(16),
		[2]uint16{1, 5},
		uint32(100), uint32(200), uint32(65536), uint32(65536), flags, uint16(0), uint32(0x1001),
	} {
		if err := binary.Write(&b, binary.LittleEndian, field); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func TestParseContext(t *testing.T) {
	for _, test := range []struct {
		name string
		b    []byte
		want Kind
		ok   bool
	}{
		{"listener", context(2, 1, 1), Kind{Listening: true}, true},
		{"listener of IPv6 with SO_REUSEADDR", context(23, 1, 1|1<<4|1<<12), Kind{Listening: true}, true},
		{"connection", context(2, 1, 1<<12), Kind{}, true},
		{"UDP", context(2, 2, 1<<1), Kind{Datagram: true}, true},
		{"UDP cannot listen", context(2, 2, 1), Kind{Datagram: true}, true},
		{"raw", context(2, 3, 0), Kind{}, false},
		{"Bluetooth", context(32, 1, 1), Kind{}, false},
		{"of something else than Winsock", make([]byte, 64), Kind{}, false},
		{"short", context(2, 1, 1)[:45], Kind{}, false},
		{"nothing", nil, Kind{}, false},
	} {
		got, err := ParseContext(test.b)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("ParseContext(%s) = %+v, %v; want %+v", test.name, got, err, test.want)
		}
	}
}

func TestParseWine(t *testing.T) {
	for _, test := range []struct {
		info, accepts []byte
		want          Kind
		ok            bool
	}{
		{[]byte{2, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0}, []byte{1, 0, 0, 0}, Kind{Listening: true}, true},
		{[]byte{23, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0}, []byte{0, 0, 0, 0}, Kind{}, true},
		{[]byte{2, 0, 0, 0, 2, 0, 0, 0, 17, 0, 0, 0}, []byte{0, 0, 0, 0}, Kind{Datagram: true}, true},
		{[]byte{2, 0, 0, 0, 1, 0, 0, 0}, []byte{1, 0, 0, 0}, Kind{}, false},
		{[]byte{2, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0}, nil, Kind{}, false},
	} {
		got, err := ParseWine(test.info, test.accepts)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("ParseWine(%v, %v) = %+v, %v; want %+v", test.info, test.accepts, got, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 0, 0x1F, 0x40, 127, 0, 0, 1})
	f.Add(context(2, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if addr, err := ParseAddress(b); (err == nil) != addr.IsValid() {
			t.Errorf("ParseAddress(%x) = %v, %v", b, addr, err)
		}
		if kind, err := ParseContext(b); err == nil && kind.Datagram && kind.Listening {
			t.Errorf("ParseContext(%x) = %+v", b, kind)
		}
	})
}
