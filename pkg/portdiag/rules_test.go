package portdiag

import (
	"testing"

	"github.com/killport/killport/internal/netfilter"
)

// The remedy is about the first rule that may go.
func TestRedirectFinding(t *testing.T) {
	owned, mine, other := netfilter.Redirect{Rule: "a"}, netfilter.Redirect{Rule: "b", Remove: []string{"b"}}, netfilter.Redirect{Rule: "c", Remove: []string{"c"}}
	if f := redirectFinding([]netfilter.Redirect{owned, mine, other}, true); f.Remedy == nil || f.Remedy.Command[len(f.Remedy.Command)-1] != "b" || !f.Remedy.NeedsAdmin {
		t.Errorf("the remedy is %+v; want b", f.Remedy)
	}
	f := redirectFinding([]netfilter.Redirect{owned, owned}, true)
	if rules := f.Evidence["rules"].([]string); len(rules) != 1 || f.Remedy != nil {
		t.Errorf("the finding is %+v; want one rule, and no remedy", f)
	}
}

func TestTerminalName(t *testing.T) {
	for device, want := range map[int]string{
		0: "", 136<<8 | 3: "pts/3", 136<<8 | 1<<20 | 4: "pts/260", 4<<8 | 1: "tty1", 4<<8 | 64: "ttyS0", 5<<8 | 1: "5:1",
	} {
		if got := terminalName(device); got != want {
			t.Errorf("terminalName(%#x) = %q; want %q", device, got, want)
		}
	}
}
