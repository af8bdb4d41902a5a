package procfs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/killport/killport/internal/procfs"
)

func TestParseStatus(t *testing.T) {
	tests := []struct {
		name, in string
		want     procfs.Status
	}{
		// A process in a PID namespace of its own, traced, after setresuid(1000, 1001, 1002).
		{"traced", string(sample(t, "status-traced")), procfs.Status{
			Name: "a)\nUid:\t0\\n", State: 'S', UID: 1000, EUID: 1001, TracerPID: 25484, NSPID: []int{25529, 1},
		}},
		{"kernel thread", string(sample(t, "status-kthread")), procfs.Status{
			Name: "kthreadd", State: 'S', CapEff: 0x1ffffffffff, NSPID: []int{2},
		}},
		{"empty", "", procfs.Status{}},
		{"nothing known", "Umask:\t0022\nuid:\t1\t1\t1\t1\nUid2:\tx\n", procfs.Status{}},
		{"no name", "Name:\t\nState:\tZ (zombie)\n", procfs.Status{State: 'Z'}},
		{"name", "Name:\t  \\\\n\\\\\\nb\xff \n", procfs.Status{Name: "  \\n\\\nb\xff "}},
		{"state", "State:\tt (tracing stop)\n", procfs.Status{State: 't'}},
		{"ranges", "Uid:\t4294967295\t0\t0\t0\nCapEff:\tffffffffffffffff\nNSpid:\t4194304\t0\n", procfs.Status{
			UID: 1<<32 - 1, CapEff: 1<<64 - 1, NSPID: []int{1 << 22, 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := procfs.ParseStatus([]byte(tt.in))
			wantError(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseStatus (-want +got):\n%s", diff)
			}
		})
	}
}

var statusGarbage = []struct {
	in, want string
}{
	{"State:\t\n", "State"},
	{"State:\tSleeping\n", "State"},
	{"State:\t(running)\n", "State"},
	{"Uid:\n", "Uid: no tab"},
	{"Uid: 0\t0\t0\t0\n", "Uid: no tab"},
	{"Uid:\t0\t0\t0\n", "Uid: 3 user IDs"},
	{"Uid:\t0\t0\t0\t0\t0\n", "Uid: 5 user IDs"},
	{"Uid:\t0\t0\t0\t\n", `Uid: "" is not a number`},
	{"Uid:\t0\t0\t0\t-1\n", "Uid: -1 is out of range"},
	{"Uid:\t4294967296\t0\t0\t0\n", "Uid: 4294967296 is out of range"},
	{"Uid:\t0x0\t0\t0\t0\n", `Uid: "0x0" is not a number`},
	{"Uid:\t1\t1\t1\t1\nUid:\t0\t0\t0\t0\n", "Uid: second time"},
	{"TracerPid:\t\n", "TracerPid"},
	{"TracerPid:\t-1\n", "TracerPid: -1 is out of range"},
	{"TracerPid:\t4194305\n", "TracerPid: 4194305 is out of range"},
	{"CapEff:\t1ff\n", "CapEff"},
	{"CapEff:\t000001ffffffffff0\n", "CapEff"},
	{"CapEff:\t000001ffffffff+f\n", "CapEff"},
	{"NSpid:\t\n", "NSpid"},
	{"NSpid:\t1 2\n", "NSpid"},
	{"NSpid:" + strings.Repeat("\t1", 34) + "\n", "NSpid: too many"},
	{"Name:\tx\nUid:\t0\t0\t0\t0", "cut off"},
}

func TestParseStatusGarbage(t *testing.T) {
	for _, tt := range statusGarbage {
		s, err := procfs.ParseStatus([]byte(tt.in))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !cmp.Equal(s, procfs.Status{}) {
			t.Errorf("ParseStatus(%q) = %+v, %v; want nothing, %q", tt.in, s, err, tt.want)
		}
	}
}

func FuzzStatus(f *testing.F) {
	addSamples(f, "status-*")
	f.Add([]byte("Name:\t\\n\nState:\tR\nUid:\t1\t2\t3\t4\nNSpid:\t1\t2\n"))
	for _, tt := range statusGarbage {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := procfs.ParseStatus(b)
		if err != nil {
			if !cmp.Equal(s, procfs.Status{}) {
				t.Fatalf("%+v comes with the error %v", s, err)
			}
			return
		}
		const pids = 1 << 22
		if s.TracerPID < 0 || s.TracerPID > pids || len(s.NSPID) > 33 || len(s.Name) > len(b) {
			t.Fatalf("out of range: %+v", s)
		}
		for _, pid := range s.NSPID {
			if pid < 0 || pid > pids {
				t.Fatalf("out of range: %+v", s)
			}
		}
	})
}
