package process_test

import (
	"syscall"
	"testing"

	"github.com/killport/killport/pkg/process"
)

func TestWeak(t *testing.T) {
	for birth, want := range map[process.Birth]bool{
		"":                  false, // unknown
		"f3a1-88:12345":     true,
		"f3a1-88:12345:678": false,
		":12345":            true, // of a /proc without boot_id
		":12345:678":        false,
	} {
		if got := birth.Weak(); got != want {
			t.Errorf("%q.Weak() = %v; want %v", birth, got, want)
		}
	}
}

func TestComparable(t *testing.T) {
	const b = process.Birth("f3a1-88:12345:678")
	for other, want := range map[process.Birth]bool{
		b:                   true,
		"f3a1-88:12345:679": true,
		"f3a1-88:777:678":   true,
		"f3a1-88:12345":     false, // of a kernel without pidfs
		"f3a1-89:12345:678": false, // of another boot
		":12345:678":        false,
		"f3a1-88":           false,
		"":                  false,
	} {
		if got := b.Comparable(other); got != want || other.Comparable(b) != want {
			t.Errorf("%q.Comparable(%q) = %v, and %v the other way; want %v", b, other, got, other.Comparable(b), want)
		}
	}
}

// In another time namespace the same process has started at another time.
func TestSame(t *testing.T) {
	for _, tt := range []struct {
		a, b process.Birth
		want bool
	}{
		{"f3a1-88:12345:678", "f3a1-88:12345:678", true},
		{"f3a1-88:12345:678", "f3a1-88:112345:678", true},
		{"f3a1-88:12345:678", "f3a1-88:12345:679", false},
		{"f3a1-88:12345:678", "f3a1-89:12345:678", false}, // of another boot
		{"f3a1-88:12345:678", "f3a1-88:12345", false},     // of a kernel without pidfs
		{"f3a1-88:12345", "f3a1-88:12345", true},
		{"f3a1-88:12345", "f3a1-88:112345", false},
		{"f3a1-88:12345:", "f3a1-88:112345:", false},
		{":12345:678", ":12345:678", true}, // of a /proc without boot_id
		{":12345:678", ":112345:678", false},
		{"filetime:133", "filetime:134", false},
		{"", "", true},
		{"", "f3a1-88:12345:678", false},
	} {
		if got := tt.a.Same(tt.b); got != tt.want || tt.b.Same(tt.a) != tt.want {
			t.Errorf("%q.Same(%q) = %v, and %v the other way; want %v", tt.a, tt.b, got, tt.b.Same(tt.a), tt.want)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "SIGTERM": syscall.SIGTERM, "term": syscall.SIGTERM, "SigTerm": syscall.SIGTERM,
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
	} {
		got, err := process.ParseSignal(name)
		if err != nil || got != want {
			t.Errorf("ParseSignal(%q) = %v, %v; want %v", name, got, err, want)
		}
		if again, err := process.ParseSignal(process.SignalName(want)); err != nil || again != want {
			t.Errorf("ParseSignal(%q) = %v, %v; want %v", process.SignalName(want), again, err, want)
		}
	}
	for _, name := range []string{"", "SIG", "9", "15", "-TERM", "STOP", "CONT", "USR1", "SIGSIGTERM", "TERM ", "ТERM"} {
		if got, err := process.ParseSignal(name); err == nil {
			t.Errorf("ParseSignal(%q) = %v; want an error", name, got)
		}
	}
	if got := process.SignalName(syscall.Signal(64)); got != "signal 64" {
		t.Errorf("SignalName(64) = %q", got)
	}
}
