package iproute

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const links = `[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"link_type":"loopback"},
{"ifname":"x0","flags":["BROADCAST","UP","LOWER_UP"],"linkinfo":{"info_kind":"vxlan","info_data":{"id":5,"port_range":{"low":0,"high":0},"port":4789}}},
{"ifname":"x1","flags":["BROADCAST","UP"],"linkinfo":{"info_kind":"vxlan","info_data":{"id":6,"port":4789}}},
{"ifname":"x2","flags":["BROADCAST"],"linkinfo":{"info_kind":"vxlan","info_data":{"id":7,"port":4790}}},
{"ifname":"g0","flags":["UP"],"linkinfo":{"info_kind":"geneve","info_data":{"id":6,"remote":"127.0.0.1","port":6081}}},
{"ifname":"b0","flags":["UP"],"linkinfo":{"info_kind":"bareudp","info_data":{"dstport":6635,"ethertype":"ip"}}},
{"ifname":"o0","flags":["UP"],"linkinfo":{"info_kind":"of_others","info_data":{"port":5000}}},
{"ifname":"wg0","flags":["UP"],"linkinfo":{"info_kind":"wireguard"}},
{"ifname":"wg1","flags":[],"linkinfo":{"info_kind":"wireguard"}}]`

func TestParseTunnels(t *testing.T) {
	for port, want := range map[uint16][]Tunnel{
		4789: {{"x0", "vxlan"}, {"x1", "vxlan"}},
		4790: nil, // it is down
		6081: {{"g0", "geneve"}},
		6635: {{"b0", "bareudp"}},
		5000: nil,
	} {
		got, mute, err := ParseTunnels([]byte(links), port)
		if diff := cmp.Diff(want, got); diff != "" || err != nil || !cmp.Equal(mute, []string{"wg0"}) {
			t.Errorf("ParseTunnels(%d): mute %q, %v (-want +got):\n%s", port, mute, err, diff)
		}
	}
	if _, _, err := ParseTunnels([]byte("nonsense"), 4789); err == nil {
		t.Error("nonsense is no error")
	}
}

func TestParseListenPorts(t *testing.T) {
	got := ParseListenPorts([]byte("wg0\t51820\nwg1\t51820\nwg2\t51821\nnonsense\n"), []string{"wg0", "wg2"}, 51820)
	if diff := cmp.Diff([]Tunnel{{"wg0", "wireguard"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseEndpoints(t *testing.T) {
	const listed = `[{"address":"10.66.0.1","port":30200,"id":1,"signal":true},{"address":"10.66.0.2","id":2,"subflow":true}]`
	got, err := ParseEndpoints([]byte(listed), 30200)
	if diff := cmp.Diff([]Endpoint{{"10.66.0.1", 30200, 1}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := ParseEndpoints([]byte(listed), 30201); len(got) > 0 || err != nil {
		t.Errorf("at 30201: %+v, %v", got, err)
	}
	if _, err := ParseEndpoints([]byte("nonsense"), 30200); err == nil {
		t.Error("nonsense is no error")
	}
}
