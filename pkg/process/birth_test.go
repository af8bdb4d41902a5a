package process_test

import (
	"testing"

	"github.com/killport/killport/pkg/process"
)

// FuzzBirth: births come from records, and may be anything. Two that are equal
// are comparable, and a weak one is not comparable with a strong one.
func FuzzBirth(f *testing.F) {
	const boot = "0603a8e3-7a70-4a86-afe1-eb8c7d4bf3e3"
	f.Add(boot+":211874:69630", boot+":211874:69630")
	f.Add(boot+":211874:69630", boot+":211874")
	f.Add(boot+":211874:69630", "00000000-0000-0000-0000-000000000000:211874:69630")
	f.Add(":211874:69630", "")
	f.Add("filetime:133", "filetime:134")
	f.Add("::::", "\x00")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := process.Birth(a), process.Birth(b)
		if !x.Comparable(x) || x == y && !x.Comparable(y) {
			t.Errorf("Birth(%q).Comparable(%q) = false; want true of equal ones", a, b)
		}
		if x.Same(y) != y.Same(x) || x == y && !x.Same(y) || x.Same(y) && !x.Comparable(y) {
			t.Errorf("Birth(%q).Same(%q) = %v, %v the other way, comparable %v", a, b, x.Same(y), y.Same(x), x.Comparable(y))
		}
		if x.Comparable(y) != y.Comparable(x) {
			t.Errorf("Birth(%q).Comparable(%q) = %v; want it both ways", a, b, x.Comparable(y))
		}
		if a != "" && b != "" && x.Weak() != y.Weak() && x.Comparable(y) {
			t.Errorf("Birth(%q).Comparable(%q) = true; want false of a weak and a strong one", a, b)
		}
	})
}
