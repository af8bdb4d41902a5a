package procfs

import (
	"encoding/binary"
	"testing"
)

// An address is the same bytes in memory on every machine, and another number.
func TestParseNetAddr(t *testing.T) {
	tests := []struct {
		in    string
		order binary.ByteOrder
		want  string
	}{
		{"0100007F:1F40", binary.LittleEndian, "127.0.0.1:8000"},
		{"7F000001:1F40", binary.BigEndian, "127.0.0.1:8000"},
		{"B80D01200000000067452301EFCDAB89:01bb", binary.LittleEndian, "[2001:db8::123:4567:89ab:cdef]:443"},
		{"20010DB8000000000123456789ABCDEF:01BB", binary.BigEndian, "[2001:db8::123:4567:89ab:cdef]:443"},
		{"0000000000000000FFFF00000100007F:FFFF", binary.LittleEndian, "[::ffff:127.0.0.1]:65535"},
		{"00000000000000000000FFFF7F000001:0000", binary.BigEndian, "[::ffff:127.0.0.1]:0"},
	}
	for _, tt := range tests {
		got, err := parseNetAddr([]byte(tt.in), tt.order)
		if err != nil || got.String() != tt.want {
			t.Errorf("parseNetAddr(%q, %v) = %v, %v; want %v", tt.in, tt.order, got, err, tt.want)
		}
	}
}
