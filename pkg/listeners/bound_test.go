package listeners

import (
	"net/netip"
	"testing"
)

// What does not listen is nobody's who does not ask for its port.
func TestQueryMatchesBound(t *testing.T) {
	s := Socket{Proto: TCP, Local: netip.MustParseAddrPort("127.0.0.1:8000"), State: Bound}
	for _, tt := range []struct {
		q    Query
		want bool
	}{
		{Query{Proto: TCP, Port: 8000}, true},
		{Query{Proto: TCP, Port: 8000, Addr: netip.MustParseAddr("127.0.0.1")}, true},
		{Query{Proto: TCP, Port: 8000, Addr: netip.MustParseAddr("127.0.0.2")}, false},
		{Query{Proto: TCP}, false},
		{Query{Proto: TCP, Addr: netip.MustParseAddr("127.0.0.1")}, false},
		{Query{Proto: UDP, Port: 8000}, false},
	} {
		if got := tt.q.Matches(s); got != tt.want {
			t.Errorf("%+v matches %+v: %v; want %v", tt.q, s, got, tt.want)
		}
		if got := tt.q.Asks(s.Listener()); got != tt.want {
			t.Errorf("%+v asks for %+v: %v; want %v", tt.q, s, got, tt.want)
		}
	}
}
