package wine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
)

// commands is where the six commands are: where scripts/wine has built them,
// or where go builds them.
var commands = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("KILLPORT_EXES"); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "killport-exes")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+string(os.PathSeparator), "../../cmd/...").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return dir, nil
})

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := commands()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(filepath.Join(dir, name+".exe"), args...)
}

// run runs a command to its end.
func run(t *testing.T, stdin string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		schematest.Validate(t, kind(name, args), []byte(line))
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// kind is the kind of the records that a command gives.
func kind(name string, args []string) string {
	switch {
	case name != "killport":
		return name
	case slices.Contains(args, "--dry-run"):
		return "pkill2"
	}
	return "classify"
}

// record is what the tests look at, of any stage.
type record struct {
	listeners.Listener
	Check  pidcheck.Result `json:"pidcheck"`
	Done   pkill2.Result   `json:"pkill2"`
	Result classify.Result `json:"-"`
}

func decode(t *testing.T, lines string) []record {
	t.Helper()
	var all []record
	for line := range strings.Lines(lines) {
		var r record
		if err := errors.Join(json.Unmarshal([]byte(line), &r), json.Unmarshal([]byte(line), &r.Result)); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// one runs a command that must give one record.
func one(t *testing.T, wantCode int, name string, args ...string) record {
	t.Helper()
	out, errs, code := run(t, "", name, args...)
	all := decode(t, out)
	if len(all) != 1 || code != wantCode {
		t.Fatalf("%s %q = exit %d, want %d, and one record\n%s%s", name, args, code, wantCode, out, errs)
	}
	return all[0]
}

func port(c *cast) string { return strconv.Itoa(c.Port) }

// pipe runs the commands as a shell does, each feeding the next.
func pipe(t *testing.T, commands ...[]string) string {
	t.Helper()
	var last io.Reader
	var out bytes.Buffer
	var started []*exec.Cmd
	for i, c := range commands {
		cmd := command(t, c[0], c[1:]...)
		cmd.Stdin, cmd.Stderr = last, os.Stderr
		if i == len(commands)-1 {
			cmd.Stdout = &out
		} else {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			cmd.Stdout, last = w, r
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if w, ok := cmd.Stdout.(*os.File); ok {
			w.Close()
		}
		started = append(started, cmd)
	}
	for _, cmd := range started {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", cmd.Args, err)
		}
	}
	return out.String()
}

func TestListKillFree(t *testing.T) {
	c := start(t, "serve", 0)
	l := one(t, 0, "listeners", port(c))
	if l.PID != c.PID || l.Addr() != c.Addr || l.Birth == "" || l.Birth.Weak() || l.Socket.IsZero() {
		t.Errorf("listeners = %+v; want PID %d at %s", l.Listener, c.PID, c.Addr)
	}
	if dry := one(t, 0, "killport", "--dry-run", port(c)); dry.Done.Outcome != pkill2.WouldTerminate {
		t.Errorf("killport --dry-run: %+v", dry.Done)
	}
	c.lives(t)
	if r := one(t, 0, "killport", port(c)).Result; r.Status != classify.Cleaned || len(r.Killed) != 1 || r.Killed[0] != c.PID {
		t.Errorf("killport = %+v; want cleaned, killed %d", r, c.PID)
	}
	c.ended(t)
	if out, _, code := run(t, "", "listeners", port(c)); out != "" || code != 0 {
		t.Errorf("listeners afterwards: exit %d, %s", code, out)
	}
	if r := one(t, 0, "killport", port(c)).Result; r.Status != classify.Free {
		t.Errorf("killport again = %+v; want free", r)
	}
}

var changing = regexp.MustCompile(`"took_ms":\d+|\d{2,}`)

func TestPipeEqualsInProcess(t *testing.T) {
	a, b := start(t, "serve", 0), start(t, "serve", 0)
	piped := pipe(t, []string{"listeners", port(a)}, []string{"pidcheck"}, []string{"pkill2"}, []string{"classify"})
	inProcess, _, _ := run(t, "", "killport", port(b))
	got, want := changing.ReplaceAllString(piped, "0"), changing.ReplaceAllString(inProcess, "0")
	if got != want || !strings.Contains(got, `"cleaned"`) {
		t.Errorf("the pipe gives %s; killport gives %s", piped, inProcess)
	}
	a.ended(t)
	b.ended(t)
}

func TestPIDReuseIsRefused(t *testing.T) {
	c, innocent := start(t, "serve", 0), start(t, "serve", 0)
	out, _, _ := run(t, "", "listeners", port(c))
	forged := strings.Replace(out, fmt.Sprintf(`"pid":%d`, c.PID), fmt.Sprintf(`"pid":%d`, innocent.PID), 1)
	got, _, _ := run(t, forged, "pkill2")
	if r := decode(t, got); len(r) == 0 || r[0].Done.Outcome != pkill2.Reused {
		t.Errorf("pkill2 of a reused PID: %s", got)
	}
	innocent.lives(t)
}

// OpenProcess takes the PID of another for 1 more, 2 more and 3 more as well.
func TestPIDsAreNotRounded(t *testing.T) {
	c := start(t, "serve", 0)
	out, _, _ := run(t, "", "listeners", port(c))
	off := strings.Replace(out, fmt.Sprintf(`"pid":%d`, c.PID), fmt.Sprintf(`"pid":%d`, c.PID+1), 1)
	got, _, _ := run(t, off, "pidcheck")
	if r := decode(t, got); len(r) != 1 || r[0].Check.State != pidcheck.Gone {
		t.Errorf("pidcheck of a PID that is none: %s", got)
	}
}

func TestConsoleProgramIsInterrupted(t *testing.T) {
	c := start(t, "polite", windows.CREATE_NEW_CONSOLE)
	dry := one(t, 0, "killport", "--dry-run", port(c))
	if !slices.Equal(dry.Done.Signals, []string{"CTRL_C"}) || c.said(t) != "" {
		t.Errorf("killport --dry-run = %+v; want CTRL_C, not sent", dry.Done)
	}
	ended(t, c.Port, pkill2.Terminated, "CTRL_C")
	c.ended(t)
	if word := c.said(t); word != "interrupted" {
		t.Errorf("the handler wrote %q", word)
	}
}

// ended runs pkill2 on the listener of a port, and checks what it did.
func ended(t *testing.T, port int, outcome pkill2.Outcome, signals ...string) {
	t.Helper()
	out, _, _ := run(t, "", "listeners", strconv.Itoa(port))
	got, errs, code := run(t, out, "pkill2", "--grace", "10s")
	r := decode(t, got)
	if code != 0 || len(r) != 1 || r[0].Done.Outcome != outcome || !slices.Equal(r[0].Done.Signals, signals) {
		t.Fatalf("pkill2 = exit %d, %s%s; want %s by %q", code, got, errs, outcome, signals)
	}
}

func TestWithoutConsole(t *testing.T) {
	c := start(t, "polite", windows.DETACHED_PROCESS)
	ended(t, c.Port, pkill2.Killed, "TerminateProcess")
	if word := c.said(t); word != "" {
		t.Errorf("the handler wrote %q", word)
	}
}

// CTRL_C reaches all that are on a console: a child alone is not asked by it,
// and a parent is, whose children go along.
func TestSharedConsoleIsSpared(t *testing.T) {
	c := start(t, "pair", windows.CREATE_NEW_CONSOLE)
	ended(t, c.Child, pkill2.Killed, "TerminateProcess")
	c.lives(t)
	if word := c.said(t); word != "" {
		t.Errorf("the parent of the target wrote %q", word)
	}
	ended(t, c.Port, pkill2.Terminated, "CTRL_C")
	c.ended(t)
	if word := c.said(t); word != "interrupted" {
		t.Errorf("the handler of the parent wrote %q", word)
	}
}

func TestChildrenGoAlong(t *testing.T) {
	c := start(t, "pair", windows.CREATE_NEW_CONSOLE)
	ended(t, c.Port, pkill2.Terminated, "CTRL_C")
	c.ended(t)
	if b, err := os.ReadFile(c.mark + ".child"); string(b) != "interrupted" {
		t.Errorf("the handler of the child wrote %q, %v", b, err)
	}
}

func TestStubbornIsKilledAfterTheGrace(t *testing.T) {
	c := start(t, "stubborn", windows.CREATE_NEW_CONSOLE)
	out, _, _ := run(t, "", "listeners", port(c))
	got, _, code := run(t, out, "pkill2", "--grace", "500ms")
	r := decode(t, got)
	if code != 0 || len(r) != 1 || r[0].Done.Outcome != pkill2.Killed || !slices.Equal(r[0].Done.Signals, []string{"CTRL_C", "TerminateProcess"}) {
		t.Fatalf("pkill2 = exit %d, %s", code, got)
	}
	c.ended(t)
}

func TestWindowIsClosed(t *testing.T) {
	c := start(t, "window", 0)
	ended(t, c.Port, pkill2.Terminated, "WM_CLOSE")
	c.ended(t)
	if word := c.said(t); word != "closed" {
		t.Errorf("the window's procedure wrote %q", word)
	}
}

func TestAccessDenied(t *testing.T) {
	mayDoAll(t)
	denied := start(t, "denied", 0)
	other := start(t, "serve", 0, addrVar+"=127.0.0.2:"+port(denied))
	out, _, code := run(t, "", "killport", port(denied))
	r := decode(t, out)
	if code != 1 || len(r) != 1 || r[0].Result.Status != classify.Partial || fmt.Sprint(r[0].Result.Failed, r[0].Result.Killed) !=
		fmt.Sprintf("[%d] [%d]", denied.PID, other.PID) {
		t.Errorf("killport = exit %d, %s; want partial, failed %d, killed %d", code, out, denied.PID, other.PID)
	}
	denied.lives(t)
	other.ended(t)
	if f := finding(diagnose(t, port(denied)), portdiag.CauseDenied); f == nil {
		t.Error("portdiag does not say that access is denied")
	}
	l, _, _ := run(t, "", "listeners", port(denied))
	got, _, _ := run(t, l, "pkill2")
	if r := decode(t, got); len(r) != 1 || r[0].Done.Outcome != pkill2.Denied || r[0].PID != denied.PID {
		t.Errorf("pkill2 = %s; want denied", got)
	}
}

func TestGhost(t *testing.T) {
	c := start(t, "parent", 0)
	c.ended(t)
	l := one(t, 0, "listeners", port(c))
	if l.Owner != listeners.OwnerNone || len(l.Heirs) != 1 || l.Heirs[0].PID != c.Heir || l.Heirs[0].Birth == "" {
		t.Fatalf("listeners = %+v; want a ghost with the heir %d", l.Listener, c.Heir)
	}
	r := one(t, 1, "killport", port(c)).Result
	if r.Status != classify.Ghost || len(r.Ghost) != 1 || !r.StillListening || !strings.Contains(r.Hint, "--heirs") {
		t.Errorf("killport = %+v; want ghost, and the hint to use --heirs", r)
	}
	if r.Diagnostics == nil || !mentions(r.Diagnostics.Findings, c.Heir) {
		t.Errorf("the diagnostics do not name the heir %d: %+v", c.Heir, r.Diagnostics)
	}
	r = one(t, 0, "killport", "--heirs", port(c)).Result
	if r.Status != classify.Cleaned || len(r.Killed) != 1 || r.Killed[0] != c.Heir {
		t.Errorf("killport --heirs = %+v; want cleaned, killed %d", r, c.Heir)
	}
}

func mentions(found []portdiag.Finding, heir int) bool {
	for _, f := range found {
		if b, err := json.Marshal(f.Evidence); err == nil && f.Cause == portdiag.CauseGhost && strings.Contains(string(b), strconv.Itoa(heir)) {
			return true
		}
	}
	return false
}

func TestServiceIsStopped(t *testing.T) {
	c := startService(t)
	l := one(t, 0, "listeners", port(c))
	out, _, _ := run(t, "", "listeners", port(c))
	checked, _, _ := run(t, out, "pidcheck")
	if r := decode(t, checked); len(r) != 1 || r[0].Check.ManagedBy == nil || r[0].Check.ManagedBy.Name != serviceName {
		t.Errorf("pidcheck = %s; want managed by %s", checked, serviceName)
	}
	got, errs, code := run(t, checked, "pkill2")
	r := decode(t, got)
	if code != 0 || len(r) != 1 || r[0].PID != l.PID || r[0].Done.Outcome != pkill2.Stopped || strings.Join(r[0].Done.Stop, " ") != "sc.exe stop "+serviceName {
		t.Fatalf("pkill2 = exit %d, %s%s", code, got, errs)
	}
	if word := c.said(t); word != "stopped" {
		t.Errorf("the service wrote %q", word)
	}
}

// diagnose runs portdiag and returns what it says of one cause.
func diagnose(t *testing.T, port string) portdiag.Report {
	t.Helper()
	out, errs, code := run(t, "", "portdiag", port)
	var r portdiag.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("portdiag = exit %d, %s%s: %v", code, out, errs, err)
	}
	return r
}

func finding(r portdiag.Report, cause portdiag.Cause) *portdiag.Finding {
	for _, f := range r.Findings {
		if f.Cause == cause {
			return &f
		}
	}
	return nil
}

func TestDiagnoseHeldAndFree(t *testing.T) {
	c := start(t, "serve", 0)
	r := diagnose(t, port(c))
	if r.Verdict != portdiag.Held || r.Bindable || r.BindError == "" || len(r.Listeners) != 1 || finding(r, portdiag.CauseListener) == nil {
		t.Errorf("portdiag = %+v; want held by %d", r, c.PID)
	}
	if _, _, code := run(t, "", "killport", port(c)); code != 0 {
		t.Fatalf("killport = exit %d", code)
	}
	if r := diagnose(t, port(c)); r.Verdict != portdiag.Free || !r.Bindable {
		t.Errorf("portdiag = %+v; want free", r)
	}
}

func TestDiagnoseBlocked(t *testing.T) {
	s, err := windows.Socket(windows.AF_INET, windows.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.Closesocket(s)
	if err := windows.Bind(s, &windows.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := windows.Getsockname(s)
	if err != nil {
		t.Fatal(err)
	}
	r := diagnose(t, strconv.Itoa(name.(*windows.SockaddrInet4).Port))
	if r.Verdict != portdiag.Blocked || !strings.HasPrefix(r.BindError, "WSAE") {
		t.Errorf("portdiag of a port that is bound = %+v; want blocked, with the name of an error", r)
	}
}

func TestDiagnoseService(t *testing.T) {
	c := startService(t)
	f := finding(diagnose(t, port(c)), portdiag.CauseService)
	if f == nil || f.Remedy == nil || strings.Join(f.Remedy.Command, " ") != "sc.exe stop "+serviceName {
		t.Errorf("portdiag of a service: %+v", f)
	}
}

func TestDiagnosePortproxy(t *testing.T) {
	c := start(t, "serve", 0)
	key, existed, err := registry.CreateKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\PortProxy\v4tov4\tcp`, registry.ALL_ACCESS)
	if err != nil {
		t.Skipf("takes the rights of an administrator: %v", err)
	}
	defer key.Close()
	rule := "127.0.0.1/" + port(c)
	if err := key.SetStringValue(rule, "127.0.0.1/9"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = key.DeleteValue(rule)
		if !existed {
			_ = registry.DeleteKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\PortProxy\v4tov4\tcp`)
		}
	}()
	f := finding(diagnose(t, port(c)), portdiag.CauseForward)
	want := "netsh interface portproxy delete v4tov4 listenport=" + port(c) + " listenaddress=127.0.0.1"
	if f == nil || f.Remedy == nil || strings.Join(f.Remedy.Command, " ") != want {
		t.Errorf("portdiag of a rule of portproxy: %+v; want the remedy %q", f, want)
	}
}

func TestNamesBeyondASCII(t *testing.T) {
	const name = "서버 Müller.exe"
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(tempDir(t), name)
	if err := os.WriteFile(exe, b, 0o700); err != nil {
		t.Fatal(err)
	}
	c := startAs(t, exe, "serve", 0)
	listed, _, _ := run(t, "", "listeners", port(c))
	checked, _, _ := run(t, listed, "pidcheck")
	if i := strings.IndexFunc(checked, func(c rune) bool { return c > 0x7f }); i >= 0 || strings.Contains(checked, "\r") {
		t.Errorf("in a pipe there is more than ASCII: %q", checked)
	}
	if r := decode(t, checked); len(r) != 1 || r[0].Check.Name != name || !strings.HasSuffix(r[0].Check.Exe, name) {
		t.Errorf("pidcheck = %s; want the name %q", checked, name)
	}
	if r := one(t, 0, "killport", port(c)).Result; r.Status != classify.Cleaned {
		t.Errorf("killport = %+v", r)
	}
	c.ended(t) // else the copy cannot be removed
}

// What started the command is left alone, unless the user says otherwise.
func TestAncestorIsProtected(t *testing.T) {
	c := start(t, "runner", 0, runVar+"="+command(t, "pkill2").Path)
	out, _, _ := run(t, "", "listeners", port(c))
	if err := os.WriteFile(c.mark+".in", []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	var r []record
	for end := time.Now().Add(20 * time.Second); len(r) == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r = decode(t, c.said(t))
	}
	if len(r) != 1 || r[0].Done.Outcome != pkill2.Protected || r[0].Done.Reason != "ancestor" {
		t.Errorf("pkill2 of what started it = %s; want protected", c.said(t))
	}
	c.lives(t)
}

func TestUDP(t *testing.T) {
	c := start(t, "udp", 0)
	l := one(t, 0, "listeners", "--udp", port(c))
	if l.Proto != listeners.UDP || l.PID != c.PID {
		t.Errorf("listeners --udp = %+v; want PID %d", l.Listener, c.PID)
	}
	if out, _, _ := run(t, "", "listeners", port(c)); out != "" {
		t.Errorf("listeners, of TCP, gives %s", out)
	}
	if r := one(t, 0, "killport", "--udp", port(c)).Result; r.Status != classify.Cleaned {
		t.Errorf("killport --udp = %+v; want cleaned", r)
	}
	c.ended(t)
}

// One holder that cannot be ended and one that does not exist.
func TestStuck(t *testing.T) {
	mayDoAll(t)
	denied := start(t, "denied", 0)
	ghost := start(t, "parent", 0, addrVar+"=127.0.0.2:"+port(denied))
	ghost.ended(t)
	r := one(t, 1, "killport", port(denied)).Result
	if r.Status != classify.Stuck || len(r.Failed) != 1 || r.Failed[0] != denied.PID || len(r.Ghost) != 1 || r.Diagnostics == nil {
		t.Errorf("killport = %+v; want stuck, failed %d, a ghost, and the diagnostics", r, denied.PID)
	}
	if !strings.Contains(r.Hint, "administrator") || strings.Contains(r.Hint, "sudo") {
		t.Errorf("the hint is %q", r.Hint)
	}
	denied.lives(t)
}
