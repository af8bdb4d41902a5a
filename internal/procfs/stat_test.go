package procfs_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/killport/killport/internal/procfs"
)

const (
	recordedStat = "8865 (a) R 1 1 1) S 8824 8821 1725 0 -1 4194368 276 0 0 0 0 0 0 0 20 0 1 0 116105 17240064 2680 " +
		"18446744073709551615 93913762193408 93913762193749 140734093028736 0 0 0 0 16781312 2 1 0 0 17 1 0 0 0 0 0 " +
		"93913762205104 93913762205720 93914269966336 140734093031639 140734093031686 140734093031686 140734093033423 0\n"

	recordedZombie = "8871 (a)\nUid:\t0) Z 8824 8821 1725 0 -1 4228172 270 0 0 0 0 0 0 0 20 0 1 0 116131 0 0 " +
		"18446744073709551615 0 0 0 0 0 0 0 16781312 2 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9\n"

	recordedKernelThread = "10 (kworker/0:0H-kblockd) I 2 0 0 0 -1 69238880 0 0 0 0 0 2 0 0 0 -20 1 0 24 0 0 " +
		"18446744073709551615 0 0 0 0 0 0 0 2147483647 0 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)

// stat returns a line for a process of that name.
func stat(comm string) string {
	return "7 (" + comm + ") S 1 7 7 34816 7 4194304 0 0 0 0 0 0 0 0 20 0 3 0 99 0\n"
}

func TestParseStat(t *testing.T) {
	named := func(comm string) procfs.Stat {
		return procfs.Stat{
			PID: 7, Comm: comm, State: 'S', PPID: 1, PGRP: 7, Session: 7, TTY: 34816,
			Flags: 0x400000, Threads: 3, StartTicks: 99,
		}
	}
	tests := []struct {
		in   string
		want procfs.Stat
	}{
		{recordedStat, procfs.Stat{
			PID: 8865, Comm: "a) R 1 1 1", State: 'S', PPID: 8824, PGRP: 8821, Session: 1725,
			Flags: 0x400040, Threads: 1, StartTicks: 116105,
		}},
		{recordedZombie, procfs.Stat{
			PID: 8871, Comm: "a)\nUid:\t0", State: 'Z', PPID: 8824, PGRP: 8821, Session: 1725,
			Flags: 0x40844c, Threads: 1, StartTicks: 116131,
		}},
		{recordedKernelThread, procfs.Stat{
			PID: 10, Comm: "kworker/0:0H-kblockd", State: 'I', PPID: 2, Flags: 0x4208060, Threads: 1, StartTicks: 24,
		}},
		{"4194303 (x) X 0 -1 -1 -2147483648 -1 4294967295 0 0 0 0 0 0 0 0 0 0 0 0 9223372036854775807 0", procfs.Stat{
			PID: 4194303, Comm: "x", State: 'X', PGRP: -1, Session: -1, TTY: -1 << 31,
			Flags: 1<<32 - 1, StartTicks: 1<<63 - 1,
		}},
		{stat(""), named("")},
		{stat(" "), named(" ")},
		{stat(")"), named(")")},
		{stat("("), named("(")},
		{stat(") S 1 ("), named(") S 1 (")},
		{stat("\x1b]0;\x07\xff"), named("\x1b]0;\x07\xff")},
		{stat("1 (2) 3"), named("1 (2) 3")},
	}
	for _, tt := range tests {
		got, err := procfs.ParseStat([]byte(tt.in))
		if err != nil {
			t.Errorf("ParseStat(%q) = %v; want <nil>", tt.in, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseStat(%q) (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestStatFlags(t *testing.T) {
	tests := []struct {
		in                    string
		kernelThread, exiting bool
	}{
		{recordedStat, false, false},
		{recordedZombie, false, true},
		{recordedKernelThread, true, false},
	}
	for _, tt := range tests {
		s, err := procfs.ParseStat([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		if s.KernelThread() != tt.kernelThread || s.Exiting() != tt.exiting {
			t.Errorf("%q: KernelThread, Exiting = %v, %v; want %v, %v",
				s.Comm, s.KernelThread(), s.Exiting(), tt.kernelThread, tt.exiting)
		}
	}
}

func TestParseStatGarbage(t *testing.T) {
	good := stat("x")
	tests := []struct {
		in, want string
	}{
		{"", "no name"},
		{"7 x) S", "no name"},
		{"7 )x( S", "no name"},
		{"(x) S 1", "no space before"},
		{"7(x) S 1", "no space before"},
		{" (x) S 1 7 7 0 7 0 0 0 0 0 0 0 0 0 0 0 3 0 99 0", "field 1"},
		{"7 (x)S 1", "no space after"},
		{"7 (x)", "no space after"},
		{"7 (x) ", "field 3"},
		{strings.Replace(good, "7 (x)", "0 (x)", 1), "field 1: 0 is out of range"},
		{strings.Replace(good, "7 (x)", "-7 (x)", 1), "field 1: -7 is out of range"},
		{strings.Replace(good, "7 (x)", "4194305 (x)", 1), "field 1: 4194305 is out of range"},
		{strings.Replace(good, "7 (x)", "+7 (x)", 1), `field 1: "+7" is not a number`},
		{strings.Replace(good, "7 (x)", "7  (x)", 1), `field 1: "7 " is not a number`},
		{strings.Replace(good, " S ", " SS ", 1), `field 3: "SS" is not a state`},
		{strings.Replace(good, " S ", "  S ", 1), `field 3: "" is not a state`},
		{strings.Replace(good, " S ", " 1 ", 1), `field 3: "1" is not a state`},
		{strings.Replace(good, " S 1 ", " S -1 ", 1), "field 4: -1 is out of range"},
		{strings.Replace(good, " S 1 ", " S 1  ", 1), `field 5: "" is not a number`},
		{strings.Replace(good, " 4194304 ", " 4294967296 ", 1), "field 9: 4294967296 is out of range"},
		{strings.Replace(good, " 99 ", " -99 ", 1), "field 22: -99 is out of range"},
		{strings.Replace(good, " 99 ", " 9e9 ", 1), `field 22: "9e9" is not a number`},
		{strings.Replace(good, " 99 ", " 9223372036854775808 ", 1), "field 22"},
		{strings.Replace(good, " 99 ", " "+strings.Repeat("x", 1000)+" ", 1), `xxx"… is not a number`},
		{strings.TrimSuffix(good, " 0\n"), "field 22: cut off"},
		{strings.TrimSuffix(good, "9 0\n"), "field 22: cut off"},
	}
	for _, tt := range tests {
		s, err := procfs.ParseStat([]byte(tt.in))
		if err == nil || !strings.Contains(err.Error(), tt.want) || s != (procfs.Stat{}) {
			t.Errorf("ParseStat(%q) = %+v, %v; want nothing, %q", tt.in, s, err, tt.want)
		}
	}
}

// A line that is cut off anywhere gives the right start time or none.
func TestParseStatCutOff(t *testing.T) {
	want, err := procfs.ParseStat([]byte(recordedStat))
	if err != nil {
		t.Fatal(err)
	}
	for n := range recordedStat {
		if got, err := procfs.ParseStat([]byte(recordedStat[:n])); err == nil && got != want {
			t.Errorf("ParseStat(%q) = %+v; want %+v or an error", recordedStat[:n], got, want)
		}
	}
}

func FuzzStat(f *testing.F) {
	for _, s := range []string{recordedStat, recordedZombie, recordedKernelThread, stat(""), stat(") S 1 ("), "7 (x) "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := procfs.ParseStat(b)
		if err != nil {
			if s != (procfs.Stat{}) {
				t.Fatalf("%+v comes with the error %v", s, err)
			}
			return
		}
		const pids = 1 << 22
		if s.PID < 1 || s.PID > pids || s.PPID < 0 || s.PPID > pids || s.PGRP < -1 || s.PGRP > pids ||
			s.Session < -1 || s.Session > pids || s.Threads < 0 || s.Threads > pids || s.StartTicks > 1<<63-1 {
			t.Fatalf("out of range: %+v", s)
		}
		if !bytes.Contains(b, []byte("("+s.Comm+") "+string(s.State)+" ")) {
			t.Fatalf("name %q, state %c are not in %q", s.Comm, s.State, b)
		}
	})
}
