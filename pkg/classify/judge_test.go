package classify

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/killport/killport/internal/shell"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
	"github.com/killport/killport/pkg/process"
)

// row is a row of the table of statuses: "yes", "no" or "any", and the status.
type row struct {
	listed, failed, ghost, taken string
	want                         Status
}

// table is that of the design.
func table(t *testing.T) (rows []row) {
	t.Helper()
	b, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n| held before ")
	lines := strings.Split(rest, "\n")
	for _, line := range lines[min(2, len(lines)):] { // below the head
		cells := strings.Split(line, "|")
		if len(cells) < 6 {
			break
		}
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		rows = append(rows, row{cells[1], cells[2], cells[3], cells[4], Status(cells[5])})
	}
	return rows
}

func TestJudgeIsTheTable(t *testing.T) {
	rows := table(t)
	eachCombination(func(listed, failed, ghost, taken bool) {
		covering := 0
		for _, row := range rows {
			if !covers(row.listed, listed) || !covers(row.failed, failed) || !covers(row.ghost, ghost) || !covers(row.taken, taken) {
				continue
			}
			covering++
			if got := Judge(listed, failed, ghost, taken); got != row.want {
				t.Errorf("Judge(%v, %v, %v, %v) = %s; want %s", listed, failed, ghost, taken, got, row.want)
			}
		}
		if covering != 1 {
			t.Errorf("rows for %v, %v, %v, %v = %d; want one", listed, failed, ghost, taken, covering)
		}
	})
}

func covers(cell string, is bool) bool {
	return cell == "any" || cell == "yes" && is || cell == "no" && !is
}

func eachCombination(f func(listed, failed, ghost, taken bool)) {
	for i := range 16 {
		f(i&8 != 0, i&4 != 0, i&2 != 0, i&1 != 0)
	}
}

// What a status promises, whatever led to it.
func TestJudgeInvariants(t *testing.T) {
	eachCombination(func(listed, failed, ghost, taken bool) {
		got := Judge(listed, failed, ghost, taken)
		for _, law := range []struct {
			name  string
			holds bool
		}{
			{"it is one of the five", slices.Contains([]Status{Free, Cleaned, Partial, Ghost, Stuck}, got)},
			{"what is taken is not freed", !(taken && got.Freed())},
			{"what was held is not free", !(listed && got == Free)},
			{"nobody had it and nobody does: free", listed || taken || got == Free},
			{"freed is taken by nobody, and nobody of those that had it failed", !got.Freed() || !taken && !(listed && failed)},
			{"partial says that somebody failed", got != Partial || failed},
			{"ghost says that there is one, and nobody failed", got != Ghost || ghost && !failed && taken},
			{"stuck is taken", got != Stuck || taken},
		} {
			if !law.holds {
				t.Errorf("Judge(%v, %v, %v, %v) = %s; want that %s", listed, failed, ghost, taken, got, law.name)
			}
		}
	})
}

// at is a listener with a socket of its own.
func at(pid int, inode uint64) listeners.Listener {
	return listeners.Listener{Proto: listeners.TCP, LocalPort: 8000, PID: pid, Socket: listeners.ID{Inode: inode}}
}

func nobody(inode uint64, owner listeners.Owner) listeners.Listener {
	l := at(0, inode)
	l.Owner = owner
	return l
}

func bound(pid int, inode uint64) listeners.Listener {
	l := at(pid, inode)
	l.State = listeners.Bound
	return l
}

// born is l of a process that was born since the zero Moment.
func born(l listeners.Listener) listeners.Listener {
	l.Birth = "boot:1:2"
	return l
}

// took is what pkill2 says of who took the port, being older than the kill; reborn
// the same of who is younger.
func took(l listeners.Listener) []pkill2.Taker {
	return []pkill2.Taker{{LocalAddr: l.LocalAddr, PID: l.PID, Birth: l.Birth, Socket: l.Socket}}
}

func reborn(l listeners.Listener) []pkill2.Taker {
	takers := took(l)
	takers[0].Newborn = true
	return takers
}

// PIDs from 1<<22 on do not exist, so that who looks at them finds nobody.
const a, b = 1 << 22, 1<<22 + 1

func TestVerdicts(t *testing.T) {
	own := os.Getpid()
	parent := os.Getppid()
	for _, tt := range []struct {
		name    string
		holders []holder
		now     []listeners.Listener
		want    Result
	}{
		{
			"nobody", nil, nil,
			Result{Status: Free},
		},
		{
			"one that ended",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, tookMS: 7}},
			nil,
			Result{Status: Cleaned, Killed: []int{a}, TookMS: 7},
		},
		{
			"two that ended, one of them with two sockets",
			[]holder{
				{Listener: at(b, 1), outcome: pkill2.Killed, tookMS: 7},
				{Listener: at(a, 2), outcome: pkill2.Terminated, tookMS: 9},
				{Listener: at(b, 3), outcome: pkill2.Killed, tookMS: 7},
			},
			nil,
			Result{Status: Cleaned, Killed: []int{a, b}, Forced: []int{b}, TookMS: 9},
		},
		{
			"one that gave the port up",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Released}},
			nil,
			Result{Status: Cleaned, Released: []int{a}},
		},
		{
			"one that was gone before",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Gone}},
			nil,
			Result{Status: Cleaned, Ghost: []int{a}},
		},
		{
			"a ghost that went by itself",
			[]holder{{Listener: nobody(1, listeners.OwnerNone), outcome: pkill2.Ghost}},
			nil,
			Result{Status: Cleaned, Ghost: []int{0}},
		},
		{
			"a ghost that was closed",
			[]holder{{Listener: nobody(1, listeners.OwnerNone), outcome: pkill2.Closed}},
			nil,
			Result{Status: Cleaned, Ghost: []int{0}},
		},
		{
			"a ghost that stays",
			[]holder{{Listener: nobody(1, listeners.OwnerNone), outcome: pkill2.Ghost, hint: "h"}},
			[]listeners.Listener{nobody(1, listeners.OwnerNone)},
			Result{Status: Ghost, Ghost: []int{0}, RemainingPIDs: []int{0}, Reason: "ghost", Hint: "h"},
		},
		{
			"a ghost that got a holder",
			[]holder{{Listener: nobody(1, listeners.OwnerNone), outcome: pkill2.Ghost}},
			[]listeners.Listener{at(a, 1)},
			Result{Status: Stuck, RemainingPIDs: []int{a}, Reason: "held", Hint: "look again: killport 8000"},
		},
		{
			"a hidden holder",
			[]holder{{Listener: nobody(1, listeners.OwnerHidden), outcome: pkill2.Hidden, hint: "h"}},
			[]listeners.Listener{nobody(1, listeners.OwnerHidden)},
			Result{Status: Partial, Failed: []int{0}, RemainingPIDs: []int{0}, Reason: "hidden", Hint: "h"},
		},
		{
			"a hidden holder that left",
			[]holder{{Listener: nobody(1, listeners.OwnerHidden), outcome: pkill2.Hidden}},
			nil,
			Result{Status: Partial, Failed: []int{0}, Reason: "hidden"},
		},
		{
			"a protected one beside one that ended",
			[]holder{
				{Listener: at(a, 1), outcome: pkill2.Terminated},
				{Listener: at(b, 2), outcome: pkill2.Protected, reason: "ancestor", hint: "h"},
			},
			[]listeners.Listener{at(b, 2)},
			Result{Status: Partial, Killed: []int{a}, Failed: []int{b}, RemainingPIDs: []int{b}, Reason: "ancestor", Hint: "h"},
		},
		{
			"one that cannot be stopped, and why",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Refused, reason: "managed", detail: "container web (docker): no answer", hint: "h"}},
			[]listeners.Listener{at(a, 1)},
			Result{Status: Partial, Failed: []int{a}, RemainingPIDs: []int{a}, Reason: "managed", Detail: "container web (docker): no answer", Hint: "h"},
		},
		{
			"one that outlived its unit",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Survived, reason: pkill2.Outlived, detail: "unit a.service", hint: "h"}},
			[]listeners.Listener{at(a, 1)},
			Result{
				Status: Partial, Failed: []int{a}, RemainingPIDs: []int{a}, Stopped: []string{"unit a.service"},
				Reason: "outlived", Detail: "unit a.service", Hint: "h",
			},
		},
		{
			"a denied one and a ghost",
			[]holder{
				{Listener: at(a, 1), outcome: pkill2.Denied},
				{Listener: nobody(2, listeners.OwnerNone), outcome: pkill2.Ghost},
			},
			[]listeners.Listener{at(a, 1), nobody(2, listeners.OwnerNone)},
			Result{Status: Stuck, Failed: []int{a}, Ghost: []int{0}, RemainingPIDs: []int{0, a}, Reason: "denied"},
		},
		{
			"taken by another",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, done: true, takenBy: took(at(b, 2))}},
			[]listeners.Listener{at(b, 2)},
			Result{Status: Stuck, Killed: []int{a}, RemainingPIDs: []int{b}, Reason: "taken", Hint: "who has it now: portdiag 8000"},
		},
		{
			"beside another, which no record names",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, done: true, ppid: parent}},
			[]listeners.Listener{at(own, 2)},
			Result{
				Status: Stuck, Killed: []int{a}, RemainingPIDs: []int{own},
				Reason: "not_asked", Detail: fmt.Sprintf("%s (PID %d)", process.Glance(own).Name, own), Hint: "who has it: portdiag 8000",
			},
		},
		{
			"beside one that we may not see",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, done: true}},
			[]listeners.Listener{nobody(2, listeners.OwnerHidden)},
			Result{Status: Stuck, Killed: []int{a}, RemainingPIDs: []int{0}, Reason: "not_asked", Detail: "somebody unseen", Hint: "who has it: portdiag 8000"},
		},
		{
			"taken by one of the same parent, which is older than the kill",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, done: true, ppid: parent, takenBy: took(at(own, 2))}},
			[]listeners.Listener{at(own, 2)},
			Result{Status: Stuck, Killed: []int{a}, RemainingPIDs: []int{own}, Reason: "taken", Hint: "who has it now: portdiag 8000"},
		},
		{
			"taken by one that was born after pkill2 had looked",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, done: true}},
			[]listeners.Listener{born(at(b, 2))},
			Result{Status: Stuck, Killed: []int{a}, RemainingPIDs: []int{b}, Reason: "taken", Hint: "who has it now: portdiag 8000"},
		},
		{
			"one that was killed",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Killed}, {Listener: at(b, 2), outcome: pkill2.Terminated}},
			nil,
			Result{Status: Cleaned, Killed: []int{a, b}, Forced: []int{a}},
		},
		{
			"taken while we looked",
			nil,
			[]listeners.Listener{at(b, 2)},
			Result{Status: Stuck, RemainingPIDs: []int{b}, Reason: "taken", Hint: "who has it now: portdiag 8000"},
		},
		{
			"nothing was done",
			[]holder{{Listener: at(a, 1)}},
			[]listeners.Listener{at(a, 1)},
			Result{Status: Stuck, RemainingPIDs: []int{a}, Reason: "held", Hint: "look again: killport 8000"},
		},
		{
			"a dry run",
			[]holder{{Listener: at(a, 1), outcome: pkill2.WouldTerminate}},
			[]listeners.Listener{at(a, 1)},
			Result{Status: Stuck, RemainingPIDs: []int{a}, Reason: "held", Hint: "look again: killport 8000"},
		},
		{
			"started again by the same parent",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated, done: true, ppid: parent, takenBy: reborn(at(own, 2))}},
			[]listeners.Listener{at(own, 2)},
			Result{
				Status: Stuck, Killed: []int{a}, RemainingPIDs: []int{own},
				Respawned: []Respawn{{PID: own, Name: process.Glance(own).Name, Supervisor: Supervisor{PID: parent, Name: process.Glance(parent).Name}}},
				Reason:    "respawned",
				Hint:      fmt.Sprintf("end what starts it again: %s (PID %d)", process.Glance(parent).Name, parent),
			},
		},
		{
			"one that has it bound",
			[]holder{{Listener: bound(a, 1), outcome: pkill2.Denied}},
			[]listeners.Listener{bound(a, 1)},
			Result{Status: Partial, Failed: []int{a}, RemainingPIDs: []int{a}, Reason: "denied"},
		},
		{
			"one that stopped listening and has it bound",
			[]holder{{Listener: at(a, 1)}},
			[]listeners.Listener{bound(a, 1)},
			Result{Status: Stuck, RemainingPIDs: []int{a}, Reason: "held", Hint: "look again: killport 8000"},
		},
	} {
		if len(tt.want.Respawned) > 0 && parent == 0 {
			continue // Wine: what starts the tests is no process of Windows
		}
		tt.want.Port, tt.want.StillListening = 8000, slices.ContainsFunc(tt.now, func(l listeners.Listener) bool { return l.State == "" })
		tt.want.Isolated = process.Isolated()
		for _, list := range []*[]int{&tt.want.Killed, &tt.want.Failed, &tt.want.Ghost, &tt.want.RemainingPIDs} {
			*list = append([]int{}, *list...) // [] rather than null
		}
		c := &portCase{query: at(0, 0).Query(), holders: tt.holders}
		s := sight{now: tt.now}
		if len(s.now) > 0 {
			s.bindError = "EADDRINUSE"
		}
		if diff := gocmp.Diff(tt.want, c.judge(s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// What bind runs into takes the port, and is nobody's: whoever was there before, it
// is neither freed nor a ghost. A lack of permission takes nothing.
func TestVerdictsOfBind(t *testing.T) {
	for _, tt := range []struct {
		name    string
		holders []holder
		bind    string
		want    Result
	}{
		{"nobody", nil, "EADDRINUSE", Result{Status: Stuck, Reason: "in_use", Hint: "what has it: portdiag 8000"}},
		{"nobody, on Windows", nil, "WSAEADDRINUSE", Result{Status: Stuck, Reason: "in_use", Hint: "what has it: portdiag 8000"}},
		{
			"one that ended",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Terminated}},
			"EADDRINUSE",
			Result{Status: Stuck, Killed: []int{a}, Reason: "in_use", Hint: "what has it: portdiag 8000"},
		},
		{
			"one that was gone",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Gone}},
			"EADDRINUSE",
			Result{Status: Stuck, Reason: "in_use", Hint: "what has it: portdiag 8000"},
		},
		{
			"one that was denied, and left",
			[]holder{{Listener: at(a, 1), outcome: pkill2.Denied}},
			"EADDRINUSE",
			Result{Status: Partial, Failed: []int{a}, Reason: "denied"},
		},
		{"no permission", nil, "EACCES", Result{Status: Free, Hint: "nobody listens, and yet it cannot be had: portdiag 8000"}},
		{"no permission after one that ended", []holder{{Listener: at(a, 1), outcome: pkill2.Killed}}, "EACCES", Result{Status: Cleaned, Killed: []int{a}, Forced: []int{a}, Hint: "nobody listens, and yet it cannot be had: portdiag 8000"}},
		{"no such address", nil, "EADDRNOTAVAIL", Result{Status: Free, Hint: "nobody listens, and yet it cannot be had: portdiag 8000"}},
	} {
		tt.want.Port, tt.want.Isolated = 8000, process.Isolated()
		for _, list := range []*[]int{&tt.want.Killed, &tt.want.Failed, &tt.want.Ghost, &tt.want.RemainingPIDs} {
			*list = append([]int{}, *list...)
		}
		c := &portCase{query: at(0, 0).Query(), holders: tt.holders}
		if diff := gocmp.Diff(tt.want, c.judge(sight{bindError: tt.bind})); diff != "" {
			t.Errorf("%s, and bind says %s (-want +got):\n%s", tt.name, tt.bind, diff)
		}
	}
}

// What is bound, and lets another be bound beside it, takes nothing.
func TestVerdictsOfShared(t *testing.T) {
	for name, tt := range map[string]struct {
		holders []holder
		want    Status
	}{
		"nobody was listed":                         {nil, Free},
		"a ghost was closed, which leaves it bound": {[]holder{{Listener: nobody(1, listeners.OwnerNone), outcome: pkill2.Closed}}, Cleaned},
		"it was denied":                             {[]holder{{Listener: bound(a, 1), outcome: pkill2.Denied}}, Partial},
	} {
		c := &portCase{query: at(0, 0).Query(), holders: tt.holders}
		got := c.judge(sight{now: []listeners.Listener{bound(a, 1)}})
		if got.Status != tt.want || len(got.RemainingPIDs) > 0 || got.StillListening {
			t.Errorf("%s: %+v; want %s", name, got, tt.want)
		}
	}
}

// PID 1 is the parent of all orphans: that it is a holder's says nothing of who
// started that, unless there is a rule by which it is started again.
func TestStarters(t *testing.T) {
	for _, tt := range []struct {
		holder holder
		pid    int
		want   bool
	}{
		{holder{outcome: pkill2.Terminated, ppid: os.Getpid()}, os.Getpid(), true},
		{holder{outcome: pkill2.Terminated, ppid: 1}, 1, false},
		{holder{outcome: pkill2.Terminated, ppid: 1, managed: &manager.Manager{Kind: manager.Unit, Restart: "no"}}, 1, false},
		{holder{outcome: pkill2.Terminated, ppid: 1, managed: &manager.Manager{Kind: manager.Unit, Restart: "always"}}, 1, true},
		{holder{outcome: pkill2.Denied, ppid: os.Getpid()}, os.Getpid(), false},
	} {
		if got := (&portCase{holders: []holder{tt.holder}}).starters().parents[tt.pid]; got != tt.want {
			t.Errorf("%+v was started by its parent: %v; want %v", tt.holder, got, tt.want)
		}
	}
}

// What helps against a ghost, its cause says: --close-ghosts is for one alone.
func TestGhostly(t *testing.T) {
	closing := &portdiag.Remedy{Command: []string{"killport", "--close-ghosts", "8000"}}
	stopping := &portdiag.Remedy{Command: []string{"systemctl", "stop", "nfs-server.service"}}
	for _, tt := range []struct {
		reason   string
		findings []portdiag.Finding
		want     string
	}{
		{"ghost", nil, "look"},
		{"ghost", []portdiag.Finding{{Cause: portdiag.CauseGhost}}, "look"},
		{"ghost", []portdiag.Finding{{Cause: portdiag.CauseListener, Remedy: stopping}, {Cause: portdiag.CauseGhost, Remedy: closing}}, "this helps: killport --close-ghosts 8000"},
		{"ghost", []portdiag.Finding{{Cause: portdiag.CauseKernel, Remedy: stopping}}, "this helps: systemctl stop nfs-server.service"},
		{"not_closable", []portdiag.Finding{{Cause: portdiag.CauseGhost, Remedy: closing}}, "look"},
	} {
		res := Result{Reason: tt.reason, Hint: "look", Diagnostics: &portdiag.Report{Findings: tt.findings}}
		if res.ghostly(); res.Hint != tt.want {
			t.Errorf("%s, %+v: hint %q; want %q", tt.reason, tt.findings, res.Hint, tt.want)
		}
	}
}

// A hint ends with a command that can be pasted.
func TestHintsOfSupervisors(t *testing.T) {
	for _, tt := range []struct {
		s    Supervisor
		want string
	}{
		{Supervisor{PID: 7}, "end what starts it again: PID 7"},
		{Supervisor{PID: 7, Name: "sh", Stop: []string{"kill", "7"}}, "end what starts it again, sh (PID 7): kill 7"},
		{
			Supervisor{Name: "a", Kind: manager.Unit, Restart: "always", Stop: []string{"systemctl", "stop", "my web; reboot.service"}},
			"stop what starts it again, a (restart always): systemctl stop " + shell.Join("my web; reboot.service"),
		},
	} {
		if got := tt.s.hint(); got != tt.want {
			t.Errorf("hint of %+v = %q; want %q", tt.s, got, tt.want)
		}
	}
}

// A free port has a hint at the rule by which it may be taken again.
func TestMayReturn(t *testing.T) {
	unit := &manager.Manager{Kind: manager.Unit, Name: "a.service", Restart: "always", Stop: []string{"systemctl", "stop", "a.service"}}
	const hint = "a.service (restart always) may start it again: systemctl stop a.service"
	gone := &manager.Manager{Kind: manager.Supervisor, Name: "runsv", PID: a, Restart: "always", Stop: []string{"kill", "7"}}
	alive := *gone
	alive.PID = os.Getpid()
	for _, tt := range []struct {
		outcome pkill2.Outcome
		by      *manager.Manager
		want    string
	}{
		{pkill2.Terminated, unit, hint},
		{pkill2.Released, unit, hint},
		{pkill2.Stopped, unit, ""},
		{pkill2.Terminated, nil, ""},
		{pkill2.Terminated, gone, ""},
		{pkill2.Terminated, &alive, "runsv (restart always) may start it again: kill 7"},
		{pkill2.Terminated, &manager.Manager{Kind: manager.Supervisor, Name: "nodemon", PID: os.Getpid(), Restart: "on-change"}, "nodemon (restart on-change) may start it again"},
	} {
		c := &portCase{query: at(0, 0).Query(), holders: []holder{{Listener: at(b, 1), outcome: tt.outcome, managed: tt.by}}}
		if got := c.judge(sight{}); got.Status != Cleaned || got.Hint != tt.want {
			t.Errorf("one that %s, managed by %+v: %s, hint %q; want %q", tt.outcome, tt.by, got.Status, got.Hint, tt.want)
		}
		taken := c.judge(sight{now: []listeners.Listener{at(a, 2)}})
		if want := cmp.Or(tt.want, "who has it now: portdiag 8000"); taken.Status != Stuck || taken.Reason != "taken" || taken.Hint != want {
			t.Errorf("one that %s, managed by %+v, taken again: %s, %s, hint %q; want %q", tt.outcome, tt.by, taken.Status, taken.Reason, taken.Hint, want)
		}
	}
}
