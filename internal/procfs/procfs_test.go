package procfs_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample returns what Linux 6.18 wrote, recorded on a little-endian machine.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// addSamples gives a fuzz target the recorded samples of which the names match.
func addSamples(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) == 0 {
		f.Fatalf("no samples %s: %v", pattern, err)
	}
	for _, name := range names {
		b := sample(f, filepath.Base(name))
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(bytes.ReplaceAll(b, []byte("0"), []byte("9")))
	}
}

// littleEndian skips a test of what was recorded on a little-endian machine.
func littleEndian(t *testing.T) {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the sample is little-endian")
	}
}

// wantError fails unless err has the words, or is nil and there are none.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		if len(words) > 0 {
			t.Errorf("error is <nil>; want %q in it", words)
		}
		return
	}
	if len(words) == 0 {
		t.Errorf("error is %q; want <nil>", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is %q; want %q in it", err, w)
		}
	}
}
