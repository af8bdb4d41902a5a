package classify_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/killport/killport/internal/porttest"
	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/portdiag"
	"github.com/killport/killport/pkg/process"
)

// listen returns a listener of this process, as it is listed.
func listen(t *testing.T, network, addr string) listeners.Listener {
	t.Helper()
	proto, port := listeners.TCP, uint16(0)
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		proto, port = listeners.UDP, c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	} else {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	found, err := listeners.List(t.Context(), listeners.Query{Proto: proto, Port: port})
	if err != nil || len(found) != 1 {
		t.Fatalf("List(%d) = %+v, %v; want one", port, found, err)
	}
	return found[0]
}

// free is a record of a holder of a port on which nobody listens.
func free(port uint16, pid int, members string) string {
	return fmt.Sprintf(`{"proto":"TCP","local_addr":"127.0.0.1","local_port":%d,"pid":%d,"birth":"b:1:2","socket":{"inode":1}%s}`, port, pid, members)
}

// held is a record of l.
func held(t *testing.T, l listeners.Listener, members string) string {
	t.Helper()
	r, err := jsonl.New(l)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(r.String(), "}") + members + "}"
}

const (
	terminated = `,"pkill2":{"outcome":"terminated","signals":["SIGTERM"],"took_ms":7}`
	denied     = `,"pkill2":{"outcome":"denied","hint":"run it as root"}`
)

// run gives the stage lines, and returns what it makes of them: records, and
// errors as they are. Every record is as its schema says.
func run(t *testing.T, lines string, queries ...listeners.Query) (results []classify.Result, errs []error) {
	t.Helper()
	for r, err := range classify.Stage(queries...)(t.Context(), jsonl.Read(strings.NewReader(lines))(t.Context())) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		schematest.Validate(t, "classify", []byte(r.String()))
		var res classify.Result
		if err := r.Decode(&res); err != nil {
			t.Fatal(err)
		}
		if reached := res.Status == classify.Free || res.Status == classify.Cleaned; classify.Reached(r) != reached {
			t.Errorf("Reached(%s) = %v; want %v", r, classify.Reached(r), reached)
		}
		results = append(results, res)
	}
	return results, errs
}

// one is run, for one port and no errors.
func one(t *testing.T, lines string, queries ...listeners.Query) classify.Result {
	t.Helper()
	results, errs := run(t, lines, queries...)
	if len(results) != 1 || errs != nil {
		t.Fatalf("results of %s = %+v, %v; want one", lines, results, errs)
	}
	return results[0]
}

func TestStatuses(t *testing.T) {
	port, here := porttest.Free(t).Port(), listen(t, "tcp4", "127.0.0.1:0")
	gone := `,"pidcheck":{"exists":false,"state":"gone"}`
	for _, tt := range []struct {
		name  string
		lines string
		query listeners.Query
		want  classify.Status
	}{
		{"asked for, nobody", "", listeners.Query{Proto: listeners.TCP, Port: port}, classify.Free},
		{"asked for, taken", "", here.Query(), classify.Stuck},
		{"ended", free(port, 4242, terminated), listeners.Query{}, classify.Cleaned},
		{"ended, taken again", free(here.LocalPort, 4242, terminated), listeners.Query{}, classify.Stuck},
		{"released", free(port, 4242, `,"pkill2":{"outcome":"released"}`), listeners.Query{}, classify.Cleaned},
		{"denied", held(t, here, denied), listeners.Query{}, classify.Partial},
		{"denied, and gone since", free(port, 4242, denied), listeners.Query{}, classify.Partial},
		{"checked only: gone", free(port, 4242, gone), listeners.Query{}, classify.Cleaned},
		{"checked only: alive", held(t, here, `,"pidcheck":{"exists":true,"state":"alive"}`), listeners.Query{}, classify.Stuck},
		{"listed only", held(t, here, ""), listeners.Query{}, classify.Stuck},
		{"listed only, closed since", free(port, 4242, ""), listeners.Query{}, classify.Cleaned},
		{"dry run", held(t, here, `,"pkill2":{"outcome":"would_terminate"}`), listeners.Query{}, classify.Stuck},
		{"dry run, refused", held(t, here, `,"pkill2":{"outcome":"would_refuse","reason":"self"}`), listeners.Query{}, classify.Partial},
	} {
		var queries []listeners.Query
		if tt.query.Port != 0 {
			queries = append(queries, tt.query)
		}
		got := one(t, tt.lines, queries...)
		if got.Status != tt.want {
			t.Errorf("%s: status %s; want %s", tt.name, got.Status, tt.want)
		}
		var remaining []int
		if got.Port == here.LocalPort {
			remaining = []int{os.Getpid()}
		}
		if !slices.Equal(got.RemainingPIDs, remaining) || got.StillListening != (remaining != nil) {
			t.Errorf("%s: still listening %v, by %v; want %v", tt.name, got.StillListening, got.RemainingPIDs, remaining)
		}
		if (got.Diagnostics != nil) != (tt.want == classify.Stuck) {
			t.Errorf("%s: diagnostics %+v", tt.name, got.Diagnostics)
		}
		if got.Diagnostics != nil && (got.Diagnostics.Verdict != portdiag.Held || got.Diagnostics.Port != got.Port) {
			t.Errorf("%s: diagnostics say %s of port %d", tt.name, got.Diagnostics.Verdict, got.Diagnostics.Port)
		}
	}
}

// A hidden holder is never called a ghost, nor its port free.
func TestNobodyNamed(t *testing.T) {
	port, here := porttest.Free(t).Port(), listen(t, "tcp4", "127.0.0.1:0")
	unnamed := func(port uint16, owner string) string {
		return strings.Replace(free(port, 0, ""), `"birth":"b:1:2"`, `"owner":"`+owner+`"`, 1)
	}
	for _, tt := range []struct {
		port       uint16
		owner      string
		want       classify.Status
		fail, lost []int
	}{
		{port, "hidden", classify.Partial, []int{0}, []int{}},
		{here.LocalPort, "hidden", classify.Partial, []int{0}, []int{}},
		{port, "none", classify.Cleaned, []int{}, []int{0}},
		{here.LocalPort, "none", classify.Stuck, []int{}, []int{}}, // it is not that socket that listens
	} {
		got := one(t, unnamed(tt.port, tt.owner))
		if got.Status != tt.want || !slices.Equal(got.Failed, tt.fail) || !slices.Equal(got.Ghost, tt.lost) {
			t.Errorf("owner %s, listening %v: %s, failed %v, ghost %v; want %s, %v, %v",
				tt.owner, got.StillListening, got.Status, got.Failed, got.Ghost, tt.want, tt.fail, tt.lost)
		}
	}
}

func TestUDP(t *testing.T) {
	here := listen(t, "udp4", "127.0.0.1:0")
	if got := one(t, held(t, here, terminated)); got.Proto != listeners.UDP || got.Status != classify.Stuck {
		t.Errorf("UDP: %+v; want it stuck", got)
	}
	if got := one(t, "", listeners.Query{Proto: listeners.TCP, Port: here.LocalPort}); got.Proto != "" || got.Status != classify.Free {
		t.Errorf("TCP beside UDP: %+v; want it free", got)
	}
}

// Who asks for one address does not hear of another.
func TestAddress(t *testing.T) {
	here := listen(t, "tcp4", "127.0.0.1:0")
	for addr, want := range map[string]classify.Status{"127.0.0.1": classify.Stuck, "127.0.0.2": classify.Free} {
		got := one(t, "", listeners.Query{Proto: listeners.TCP, Addr: netip.MustParseAddr(addr), Port: here.LocalPort})
		if got.Status != want {
			t.Errorf("%s: status %s; want %s", addr, got.Status, want)
		}
	}
}

// Where only those listen that have another address than all the records, the
// verdict is about the address of the records. One who asked for the port hears
// of them.
func TestAddressOfRecords(t *testing.T) {
	here := listen(t, "tcp4", "127.0.0.1:0")
	ended := func(addr string) string {
		return strings.Replace(free(here.LocalPort, 4242, terminated), `"127.0.0.1"`, strconv.Quote(addr), 1)
	}
	port := listeners.Query{Proto: listeners.TCP, Port: here.LocalPort}
	for _, tt := range []struct {
		name    string
		lines   string
		queries []listeners.Query
		want    classify.Status
		addr    string
		reason  string
	}{
		{"another address", ended("127.0.0.2"), nil, classify.Cleaned, "127.0.0.2", ""},
		{"another address, IPv6", ended("[::1]"), nil, classify.Cleaned, "[::1]", ""},
		{"the same address", ended("127.0.0.1"), nil, classify.Stuck, "", "not_asked"},
		{"every address", ended("0.0.0.0"), nil, classify.Stuck, "", "not_asked"},
		{"two addresses", ended("127.0.0.2") + "\n" + ended("127.0.0.3"), nil, classify.Stuck, "", "not_asked"},
		{"asked for the port", ended("127.0.0.2"), []listeners.Query{port}, classify.Stuck, "", "not_asked"},
	} {
		got := one(t, tt.lines, tt.queries...)
		if got.Status != tt.want || got.Addr != tt.addr || got.Reason != tt.reason || len(got.Respawned) > 0 {
			t.Errorf("%s: %+v; want %s, addr %q, reason %q", tt.name, got, tt.want, tt.addr, tt.reason)
		}
		if tt.reason == "not_asked" && !strings.HasSuffix(got.Detail, fmt.Sprintf("(PID %d)", os.Getpid())) {
			t.Errorf("%s: detail %q; want us", tt.name, got.Detail)
		}
	}
}

// Ports come in the order in which they were asked for, and then in that in
// which the records name them; several holders of a port are one result.
func TestOrder(t *testing.T) {
	ports := []uint16{porttest.Free(t).Port(), porttest.Free(t).Port(), porttest.Free(t).Port()}
	lines := strings.Join([]string{
		free(ports[0], 4244, terminated), free(ports[1], 4242, terminated), free(ports[0], 4243, terminated), free(ports[0], 4244, terminated),
	}, "\n")
	got, errs := run(t, lines, listeners.Query{Proto: listeners.TCP, Port: ports[2]}, listeners.Query{Proto: listeners.TCP, Port: ports[1]})
	want := []classify.Result{
		{Port: ports[2], Status: classify.Free},
		{Port: ports[1], Status: classify.Cleaned, Killed: []int{4242}, TookMS: 7},
		{Port: ports[0], Status: classify.Cleaned, Killed: []int{4243, 4244}, TookMS: 7},
	}
	for i := range want {
		want[i].Isolated = process.Isolated()
	}
	text := gocmp.Transformer("text", func(pids []int) string { return fmt.Sprint(pids) })
	if diff := gocmp.Diff(want, got, text); diff != "" || errs != nil {
		t.Errorf("results (-want +got):\n%s%v", diff, errs)
	}
}

// A bad record is an error that names its line, and changes nothing for others.
func TestBadRecords(t *testing.T) {
	port := porttest.Free(t).Port()
	bad := []string{
		`{"pid":4242}`,
		`{"pid":true,"local_port":8000}`,
		`not JSON`,
		free(port, 4242, `,"pidcheck":null`),
		free(port, 4242, `,"pidcheck":{}`),
		free(port, 4242, `,"pidcheck":{"state":7}`),
		free(port, 4242, `,"pidcheck":{"state":"alive","ppid":"1"}`),
		free(port, 4242, `,"pkill2":"terminated"`),
		free(port, 4242, `,"pkill2":{}`),
		free(port, 4242, `,"pkill2":{"outcome":"vanished"}`),
		free(port, 4242, `,"pkill2":{"outcome":"Terminated"}`),
		free(port, 4242, `,"pkill2":{"outcome":"terminated","outcome":"denied"}`),
		free(port, 4242, `,"pkill2":{"outcome":"terminated","reason":1}`),
		free(port, 4242, `,"pkill2":{"outcome":"terminated","took_ms":-1}`),
	}
	lines := strings.Join(append(bad, free(port, 4243, terminated)), "\n")
	got, errs := run(t, lines)
	if len(got) != 1 || !slices.Equal(got[0].Killed, []int{4243}) {
		t.Errorf("results = %+v; want that of the good record alone", got)
	}
	var at []int
	for _, err := range errs {
		if line, ok := errors.AsType[*jsonl.LineError](err); ok {
			at = append(at, line.Line)
		}
	}
	var want []int
	for i := range bad {
		want = append(want, i+1)
	}
	if !slices.Equal(at, want) {
		t.Errorf("errors = %v; want one for each of the lines %v", errs, want)
	}
}

// A run that was interrupted has a verdict all the same.
func TestCancelled(t *testing.T) {
	here := listen(t, "tcp4", "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var got []string
	for r, err := range classify.Stage(here.Query())(ctx, jsonl.From()) {
		status, terr := r.Text("status")
		got = append(got, fmt.Sprint(status, cmp.Or(err, terr)))
	}
	if want := []string{"stuck<nil>"}; !slices.Equal(got, want) {
		t.Errorf("Stage = %q; want %q", got, want)
	}
}

func TestLaws(t *testing.T) {
	here, port := listen(t, "tcp4", "127.0.0.1:0"), porttest.Free(t).Port()
	var records []jsonl.Record
	for _, line := range []string{held(t, here, denied), free(port, 4242, terminated), free(port, 4243, denied), held(t, here, "")} {
		r, err := jsonl.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	if err := jsonltest.TestStage(classify.Stage(), jsonltest.Records(records...), jsonltest.Reducing()); err != nil {
		t.Error(err)
	}
	asked := classify.Stage(listeners.Query{Proto: listeners.TCP, Port: porttest.Free(t).Port()}, here.Query())
	if err := jsonltest.TestStage(asked, jsonltest.Records(records...), jsonltest.Reducing()); err != nil {
		t.Errorf("with ports asked for: %v", err)
	}
}
