package jsonltest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/jsonl/jsonltest"
)

// Only Linux tells which files are open.
func TestFilesLeftOpen(t *testing.T) {
	var left []*os.File // which the garbage collector would close
	t.Cleanup(func() {
		for _, f := range left {
			f.Close()
		}
	})
	name := filepath.Join(t.TempDir(), "left open")
	stage := func(_ context.Context, seq jsonl.Seq) jsonl.Seq {
		return func(yield func(jsonl.Record, error) bool) {
			f, err := os.Create(name)
			if err != nil {
				t.Error(err)
			}
			for r, err := range seq {
				if !yield(r, err) {
					left = append(left, f)
					return
				}
			}
			f.Close()
		}
	}
	err := jsonltest.TestStage(stage, records(t), jsonltest.Within(time.Second))
	if want := "stopped early: after 1 of 8: files left open: "; err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), name) {
		t.Errorf("TestStage = %v; want %q and %q", err, want, name)
	}
}
