package portlist

import "testing"

func TestWithout(t *testing.T) {
	for list, want := range map[string]string{
		"80": "", "80,90": "90", "70,80": "70", "79-81": "79,81", "80-81": "81", "78-80": "78-79", "1-80,90-99": "1-79,90-99", "70-90": "70-79,81-90",
	} {
		if got := Without(list, 80); got != want {
			t.Errorf("Without(%q, 80) = %q; want %q", list, got, want)
		}
	}
}

func TestHas(t *testing.T) {
	for list, want := range map[string]bool{
		"": false, "80": true, "1,80": true, "79-81": true, "79:81": true, "81-90": false, "x": false, "80-": false,
		"70-60": false, "0-65535": true, "65536": false,
	} {
		if got := Has(list, 80); got != want {
			t.Errorf("Has(%q, 80) = %v; want %v", list, got, want)
		}
	}
}
