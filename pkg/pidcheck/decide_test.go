package pidcheck_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/killport/killport/pkg/manager"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/process"
)

// The columns of the table of ways are protections, its rows are controls.
var (
	protections = map[string][]process.Protection{
		"no protection": {""},
		"ancestor":      {process.ProtectedAncestor},
		"shared":        {process.ProtectedShared},
		"init":          {process.ProtectedInit},
		"the others": {
			process.ProtectedKernel, process.ProtectedSystem, process.ProtectedSelf,
			process.ProtectedPipeline, process.ProtectedNamespace,
		},
	}
	controls = []manager.Control{
		manager.Unmanaged, manager.Stoppable, manager.Fronted, manager.StopsOthers, manager.Unstoppable, manager.Nameless,
	}
)

// Decide is the table of the design, for every protection, every control, and
// all that the user may lift. A cell has the way, and in brackets the one with
// --override where that differs.
func TestDecideIsTheTable(t *testing.T) {
	rows := table(t, "| manager ")
	head, unmanaged, tried := rows[0], []string(nil), 0
	for _, row := range rows[1:] {
		if row[0] == string(manager.Unmanaged) {
			unmanaged = row
		}
	}
	for _, row := range rows[1:] {
		by := manager.Control(row[0])
		if !slices.Contains(controls, by) {
			t.Fatalf("%q is no control", row[0])
		}
		for i := 1; i < len(head); i++ {
			for _, protected := range protections[head[i]] {
				for _, user := range []pidcheck.Leave{{}, {Override: true}, {Direct: true}, {Override: true, Direct: true}} {
					cell := row[i]
					if user.Direct { // then nothing manages it
						cell = unmanaged[i]
					}
					if got, want := pidcheck.Decide(protected, by, user), wayIn(cell, user.Override); got != want {
						t.Errorf("Decide(%q, %q, %+v) = %q; want %q", protected, by, user, got, want)
					}
					tried++
				}
			}
		}
	}
	if want := len(controls) * 9 * 4; tried != want {
		t.Errorf("tried %d cases, want %d: the table lacks some", tried, want)
	}
}

// wayIn reads a cell: "managed (lever)".
func wayIn(cell string, override bool) pidcheck.Way {
	plain, lifted, found := strings.Cut(strings.TrimSuffix(cell, ")"), " (")
	if found && override {
		return pidcheck.Way(lifted)
	}
	return pidcheck.Way(plain)
}

// table reads a table of the design, of which the first row begins so.
func table(t *testing.T, head string) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\n"+head)
	if !found {
		t.Fatalf("the design has no table that begins with %q", head)
	}
	for line := range strings.Lines(head + rest) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) < 2 {
			return rows
		}
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		if strings.Trim(cells[0], "-") != "" {
			rows = append(rows, cells)
		}
	}
	return rows
}
