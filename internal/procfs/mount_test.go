package procfs_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/killport/killport/internal/procfs"
)

func TestParseProcMountRecorded(t *testing.T) {
	tests := []struct {
		name string
		want procfs.ProcMount
	}{
		{"mountinfo-invisible", procfs.ProcMount{Found: true, HidePID: procfs.HidePIDInvisible}},
		// The plain one was mounted elsewhere first and then moved over the other.
		{"mountinfo-moved", procfs.ProcMount{Found: true}},
		{"mountinfo-subset", procfs.ProcMount{Found: true, HidePID: procfs.HidePIDPtraceable, SubsetPID: true}},
		// A tmpfs over it all, with a proc inside.
		{"mountinfo-covered", procfs.ProcMount{}},
	}
	for _, tt := range tests {
		got, err := procfs.ParseProcMount(bytes.NewReader(sample(t, tt.name)))
		if got != tt.want || err != nil {
			t.Errorf("%s: ParseProcMount = %+v, %v; want %+v, <nil>", tt.name, got, err, tt.want)
		}
	}
}

func TestParseProcMount(t *testing.T) {
	const root = "1 1 8:1 / / rw - ext4 /dev/sda rw\n"
	found := procfs.ProcMount{Found: true}
	hidden := func(level int) procfs.ProcMount { return procfs.ProcMount{Found: true, HidePID: level} }
	options := func(o string) string { return root + "2 1 0:5 / /proc rw,nosuid shared:3 - proc proc " + o + "\n" }
	tests := []struct {
		name, in string
		want     procfs.ProcMount
		words    []string
	}{
		{"empty", "", procfs.ProcMount{}, nil},
		{"no proc", root, procfs.ProcMount{}, nil},
		{"plain", options("rw"), found, nil},
		{"no options", options(""), found, nil},
		{"0", options("rw,hidepid=0"), found, nil},
		{"1", options("rw,hidepid=1"), hidden(1), nil},
		{"2", options("rw,gid=5,hidepid=2"), hidden(2), nil},
		{"4", options("hidepid=4,rw"), hidden(4), nil},
		{"off", options("rw,hidepid=off"), found, nil},
		{"noaccess", options("rw,hidepid=noaccess"), hidden(1), nil},
		{"invisible", options("rw,hidepid=invisible"), hidden(2), nil},
		{"ptraceable", options("rw,hidepid=ptraceable"), hidden(4), nil},
		{"unknown level", options("rw,hidepid=3"), found, []string{"line 2", `unknown hidepid "3"`}},
		{"cut off level", options("rw,hidepid=invis"), found, []string{"line 2", `unknown hidepid "invis"`}},
		{"no level", options("rw,hidepid"), found, []string{"line 2", `unknown hidepid ""`}},
		{"subset", options("rw,subset=pid"), procfs.ProcMount{Found: true, SubsetPID: true}, nil},
		{"unknown subset", options("rw,subset=net"), found, []string{"line 2", `unknown subset "net"`}},
		{"options of the mount itself", root + "2 1 0:5 / /proc rw,hidepid=2 - proc hidepid=2 rw\n", found, nil},
		{"no optional field", root + "2 1 0:5 / /proc rw - proc proc rw\n", found, nil},
		{"three optional fields", root + "2 1 0:5 / /proc rw shared:1 master:2 unbindable - proc proc rw\n", found, nil},
		{"empty source", root + "2 1 0:5 / /proc rw - proc  rw,hidepid=2\n", hidden(2), nil},
		{"source is a dash", root + "2 1 0:5 / /proc rw - proc - rw,hidepid=2\n", hidden(2), nil},
		{"escaped", root + `2 1 0:5 / /\160roc rw - proc proc rw` + "\n", found, nil},
		{"elsewhere", root + `2 1 0:5 / /proc\040 rw - proc proc rw` + "\n", procfs.ProcMount{}, nil},
		{"half an escape", root + `2 1 0:5 / /proc\04 rw - proc proc rw` + "\n", procfs.ProcMount{}, nil},
		{"no octal escape", root + `2 1 0:5 / \999\477\189/proc\ rw - proc proc rw` + "\n", procfs.ProcMount{}, nil},
		{"a part of proc", root + "2 1 0:5 /sys /proc rw - proc proc rw\n", procfs.ProcMount{}, nil},
		{"not proc", root + "2 1 0:5 / /proc rw - tmpfs proc rw\n", procfs.ProcMount{}, nil},
		{"below proc", options("rw") + "3 2 0:6 / /proc/sys ro - proc proc rw,hidepid=2\n", found, nil},
		{"bad line elsewhere", "garbage\n" + options("rw"), found, []string{"line 1"}},
		{"no type", root + "2 1 0:5 / /proc rw shared:1 proc proc rw\n", procfs.ProcMount{}, []string{"line 2", "no file system type"}},
		{"too short", root + "2 1 0:5 / /proc rw - proc rw\n", procfs.ProcMount{}, []string{"line 2"}},
		{"too long", root + "2 1 0:5 / /proc rw - proc proc rw rw\n", procfs.ProcMount{}, []string{"line 2"}},
		{"bad ID", root + "x 1 0:5 / /proc rw - proc proc rw\n", found, []string{"line 2"}},
		{"cut off", strings.TrimSuffix(options("rw,hidepid=2"), ",hidepid=2\n"), procfs.ProcMount{}, []string{"line 2", "cut off"}},
		{"one over itself", root + "2 2 0:5 / /proc rw - proc proc rw\n", procfs.ProcMount{}, nil},
		{"the last one in a strange order", root +
			"4 3 0:5 / /proc rw - proc proc rw,hidepid=2\n" +
			"2 1 0:6 / /proc rw - proc proc rw\n" +
			"3 2 0:7 / /proc rw - tmpfs x rw\n", hidden(2), nil},
		{"two that do not cover each other", options("rw,hidepid=1") + "3 1 0:6 / /proc rw - proc proc rw,hidepid=2\n", hidden(2), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := procfs.ParseProcMount(strings.NewReader(tt.in))
			wantError(t, err, tt.words...)
			if got != tt.want {
				t.Errorf("ParseProcMount(%q) = %+v; want %+v", tt.in, got, tt.want)
			}
		})
	}
}

func TestParseProcMountBound(t *testing.T) {
	var in strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&in, "%d %d 0:5 / /proc rw - proc proc rw\n", i+2, i+1)
	}
	_, err := procfs.ParseProcMount(strings.NewReader(in.String()))
	wantError(t, err, "line 4097: too many mounts")
}

func FuzzMount(f *testing.F) {
	addSamples(f, "mountinfo-*")
	f.Add([]byte("2 1 0:5 / /proc rw - proc  hidepid=noaccess,subset=pid\n"))
	f.Add([]byte(`2 1 0:5 / \057proc\ rw - proc x y` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := procfs.ParseProcMount(bytes.NewReader(b))
		if !m.Found && m != (procfs.ProcMount{}) {
			t.Fatalf("%+v, %v", m, err)
		}
		switch m.HidePID {
		case procfs.HidePIDOff, procfs.HidePIDNoAccess, procfs.HidePIDInvisible, procfs.HidePIDPtraceable:
		default:
			t.Fatalf("%+v, %v", m, err)
		}
	})
}
