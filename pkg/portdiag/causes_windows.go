package portdiag

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/killport/killport/internal/netsh"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// kernelPID is who listens for http.sys.
const kernelPID = 4

// services names those that share the process: to end one is to stop it, by
// its name.
func services(l Listener) (Finding, bool) {
	found, err := process.Services(l.PID)
	if err != nil || len(found) == 0 || process.OwnService(l.PID) != "" {
		return Finding{}, false
	}
	var names []string
	for _, s := range found {
		names = append(names, s.Name)
	}
	return Finding{
		Cause: CauseService, Severity: Info,
		Evidence: map[string]any{"pid": l.PID, "services": names},
		Summary:  fmt.Sprintf("PID %d runs the services %s; to stop the right one is enough: sc.exe stop NAME", l.PID, strings.Join(names, ", ")),
	}, true
}

// denied says whether it takes an administrator to end the holder.
func denied(l Listener) (Finding, bool) {
	if l.Check.Protected.Absolute() {
		return Finding{}, false
	}
	p, err := process.Open(l.PID)
	if err != nil {
		return Finding{}, false
	}
	defer p.Close()
	if !errors.Is(p.MayTerminate(), process.ErrDenied) {
		return Finding{}, false
	}
	elevated := process.MayTraceAll()
	f := Finding{
		Cause: CauseDenied, Severity: Error,
		Evidence: map[string]any{"pid": l.PID, "elevated": elevated},
		Summary:  fmt.Sprintf("PID %d denies itself to us, as administrator too: it may be protected by Windows or by a security product", l.PID),
	}
	if !elevated {
		f.Summary = fmt.Sprintf("to end PID %d takes an administrator", l.PID)
		if f.Remedy = l.remedy(); f.Remedy != nil {
			f.Remedy.NeedsAdmin = true
		}
	}
	return f, true
}

// relay says where the program is on behalf of which l listens.
func relay(l Listener) (Finding, bool) {
	name := strings.TrimSuffix(strings.ToLower(l.Check.Name), ".exe")
	f := Finding{Cause: CauseRelay, Severity: Info, Evidence: map[string]any{"pid": l.PID, "name": l.Check.Name}}
	port := strconv.Itoa(int(l.LocalPort))
	switch {
	case name == "wslrelay" || name == "wslhost":
		f.Evidence["for"] = "wsl"
		f.Summary = "a program inside WSL listens: end it there"
		f.Remedy = &Remedy{Command: []string{"wsl.exe", "--exec", "ss", "-Hltnp", "sport = :" + port}}
	case l.Check.ManagedBy == nil && (strings.HasPrefix(name, "com.docker.") || name == "vpnkit"):
		f.Evidence["for"] = "docker"
		f.Summary = "a container has published the port: stop that"
		f.Remedy = &Remedy{Command: []string{"docker", "ps", "--filter", "publish=" + port}}
	default:
		return f, false
	}
	return f, true
}

// forwards finds the rules of portproxy for the port.
func (r *Report) forwards(q listeners.Query) error {
	var errs []error
	for _, kind := range netsh.Kinds {
		rules, err := readForwards(kind)
		if err != nil && !errors.Is(err, registry.ErrNotExist) {
			errs = append(errs, fmt.Errorf("the rules of portproxy %s: %w", kind, err))
		}
		for _, rule := range rules {
			if rule.Port == q.Port && (!q.Addr.IsValid() || !rule.ListenAddr.IsValid() || rule.ListenAddr == q.Addr || rule.ListenAddr.IsUnspecified()) {
				r.Findings = append(r.Findings, forwardFinding(rule, r.Verdict))
			}
		}
	}
	return errors.Join(errs...)
}

// forwardFinding: iphlpsvc listens for a rule, if it runs; killing it would take down
// more than the rule.
func forwardFinding(f netsh.Forward, v Verdict) Finding {
	found := Finding{
		Cause: CauseForward, Severity: Error,
		Evidence: map[string]any{"kind": f.Kind, "listen": f.Listen, "port": f.Port, "connect": f.Connect, "connect_port": f.ConnectPort},
		Summary:  fmt.Sprintf("portproxy passes %s port %d on to %s port %d", f.Listen, f.Port, f.Connect, f.ConnectPort),
		Remedy:   &Remedy{Command: f.Remove(), NeedsAdmin: true},
	}
	if v == Free {
		found.Severity = Warning
		found.Summary += ", when the service iphlpsvc runs"
	}
	return found
}

func readForwards(kind string) ([]netsh.Forward, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\PortProxy\`+kind+`\tcp`, registry.QUERY_VALUE)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	names, err := key.ReadValueNames(-1)
	if err != nil {
		return nil, err
	}
	var rules []netsh.Forward
	var errs []error
	for _, name := range names {
		text, _, err := key.GetStringValue(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rule, err := netsh.ParseForward(kind, name, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rules = append(rules, rule)
	}
	return rules, errors.Join(errs...)
}

// http explains a port on which the kernel listens by the programs that have
// registered URLs, and by the state of the driver.
func (r *Report) http(ctx context.Context, q listeners.Query, ask runner) {
	state, err := httpDriver()
	if err != nil {
		r.Unseen = append(r.Unseen, "the service HTTP: "+err.Error())
	}
	f := Finding{
		Cause: CauseHTTP, Severity: Info, Evidence: map[string]any{"state": state},
		Summary: "http.sys listens, which is the kernel: end what has registered URLs with it",
		Remedy:  &Remedy{Command: []string{"netsh", "http", "show", "servicestate", "view=requestq"}, NeedsAdmin: true},
	}
	r.Findings = append(r.Findings, f)
	output, err := ask(ctx, "http", "show", "servicestate", "view=requestq")
	if err != nil {
		r.Unseen = append(r.Unseen, "the queues of http.sys: "+err.Error())
	}
	for _, queue := range netsh.ParseServiceState(output, q.Port) {
		r.Findings = append(r.Findings, queueFinding(queue))
	}
}

func queueFinding(q netsh.Queue) Finding {
	f := Finding{
		Cause: CauseHTTPQueue, Severity: Error,
		Evidence: map[string]any{"queue": q.Name, "urls": q.URLs, "pids": append([]int{}, q.PIDs...)},
		Summary:  fmt.Sprintf("%s is served by %s", strings.Join(q.URLs, ", "), people(q.PIDs)),
	}
	if len(q.PIDs) != 1 {
		return f
	}
	if services, err := process.Services(q.PIDs[0]); err == nil && len(services) == 1 {
		f.Remedy = &Remedy{Command: []string{"sc.exe", "stop", services[0].Name}, NeedsAdmin: true}
	}
	return f
}

func people(pids []int) string {
	names := []string{}
	for _, pid := range pids {
		names = append(names, fmt.Sprintf("%s (PID %d)", cmp.Or(process.Glance(pid).Name, "a process"), pid))
	}
	if len(names) == 0 {
		return "nobody that we can see at the moment"
	}
	return strings.Join(names, ", ")
}

// httpDriver asks the service control manager for the state of http.sys.
func httpDriver() (string, error) {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return "unknown", err
	}
	defer windows.CloseServiceHandle(manager)
	service, err := windows.OpenService(manager, windows.StringToUTF16Ptr("HTTP"), windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return "unknown", err
	}
	defer windows.CloseServiceHandle(service)
	var status windows.SERVICE_STATUS
	if err := windows.QueryServiceStatus(service, &status); err != nil {
		return "unknown", err
	}
	states := map[uint32]string{
		windows.SERVICE_STOPPED: "stopped", windows.SERVICE_START_PENDING: "start_pending",
		windows.SERVICE_STOP_PENDING: "stop_pending", windows.SERVICE_RUNNING: "running", windows.SERVICE_PAUSED: "paused",
	}
	return cmp.Or(states[status.CurrentState], "unknown"), nil
}

// excluded finds the reserved ranges that keep a port from being had, though
// nobody listens.
func (r *Report) excluded(ctx context.Context, q listeners.Query, ask runner) {
	proto := strings.ToLower(string(q.Proto))
	for _, family := range []string{"ipv4", "ipv6"} {
		output, err := ask(ctx, netsh.ShowExcluded(family, proto)...)
		if err != nil {
			r.Unseen = append(r.Unseen, "the excluded ranges of "+family+": "+err.Error())
			continue
		}
		ranges := netsh.ParseExcluded(output)
		at := slices.IndexFunc(ranges, func(p netsh.Range) bool { return p.First <= q.Port && q.Port <= p.Last })
		if at >= 0 {
			r.Findings = append(r.Findings, rangeFinding(ranges[at], family, q.Proto))
		}
	}
}

// rangeFinding: a range that a person made is removed as a whole; the others come
// anew, elsewhere as a rule, when the service that asked for them starts again.
func rangeFinding(p netsh.Range, family string, proto listeners.Proto) Finding {
	f := Finding{
		Cause: CauseExcluded, Severity: Error,
		Evidence: map[string]any{"family": family, "first": p.First, "last": p.Last, "administered": p.Administered},
		Summary:  fmt.Sprintf("Windows keeps the %s ports %d to %d of %s from everybody, for Hyper-V, WSL or Docker as a rule: net stop winnat, start your server, net start winnat", proto, p.First, p.Last, family),
		Remedy:   &Remedy{Command: []string{"net", "stop", "winnat"}, NeedsAdmin: true},
	}
	if p.Administered {
		f.Summary = fmt.Sprintf("somebody has reserved the %s ports %d to %d of %s", proto, p.First, p.Last, family)
		f.Remedy.Command = p.Remove(family, strings.ToLower(string(proto)))
	}
	return f
}

// sockets explains a port on which nobody listens by the other sockets that
// have it as their local port.
func (r *Report) sockets(ctx context.Context, q listeners.Query) {
	idle, err := listeners.Idles(ctx, q)
	if err != nil {
		r.Unseen = append(r.Unseen, err.Error())
	}
	rows, err := listeners.Connections(q)
	if err != nil {
		r.Unseen = append(r.Unseen, err.Error())
	}
	connected := map[netip.AddrPort]bool{}
	var connections []int
	for _, row := range rows {
		connected[withoutZone(row.Local)] = true
		connections = append(connections, int(row.PID))
	}
	bound := map[netip.AddrPort][]int{}
	for _, s := range idle {
		if connected[s.Local] {
			connections = append(connections, s.PID)
		} else {
			bound[s.Local] = append(bound[s.Local], s.PID)
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(bound), netip.AddrPort.Compare) {
		r.Findings = append(r.Findings, Finding{
			Cause: CauseBound, Severity: Error,
			Evidence: map[string]any{"addr": at.String(), "pids": bound[at]},
			Summary:  fmt.Sprintf("%s is bound, and nobody listens on it: %s", at, people(bound[at])),
			Remedy:   end(ctx, q, bound[at]),
		})
	}
	if len(rows) > 0 {
		pids := alive(connections)
		r.Findings = append(r.Findings, Finding{
			Cause: CauseConnection, Severity: Error,
			Evidence: map[string]any{"count": len(rows), "pids": pids},
			Summary:  fmt.Sprintf("connections have it as local port: %s", people(pids)),
			Remedy:   end(ctx, q, pids),
		})
	}
}

func withoutZone(at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(at.Addr().WithZone(""), at.Port())
}

// alive are those that exist, each once.
func alive(pids []int) []int {
	slices.Sort(pids)
	return slices.DeleteFunc(slices.Compact(pids), func(pid int) bool { return process.Glance(pid).PID == 0 })
}

// netshTime is how long netsh may take: seconds on a busy machine, for ever if
// the driver hangs.
const netshTime = 10 * time.Second

// runner runs a program with those arguments, and returns what it prints.
type runner func(ctx context.Context, args ...string) ([]byte, error)

// runNetsh runs the one program for which there is no call, by its full path.
func runNetsh(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, netshTime)
	defer cancel()
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, dir+`\netsh.exe`, args...)
	cmd.WaitDelay = time.Second
	output, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("netsh: %w", context.Cause(ctx))
	}
	return output, err
}

// why follows a listener to what started it.
func why(l Listener) []Link {
	const longest = 32
	links := []Link{{Kind: LinkSocket, Name: l.Addr()}}
	for pid := l.PID; pid > 0 && len(links) < longest; {
		info := process.Glance(pid)
		if info.PID == 0 {
			break
		}
		links = append(links, Link{Kind: LinkProcess, Name: info.Name, PID: pid})
		pid = info.PPID
	}
	return links
}
