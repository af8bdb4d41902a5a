//go:build unix

package command

import (
	"testing"
)

func TestRunIsBounded(t *testing.T) {
	if _, err := Run(t.Context(), "/bin/sh", "-c", "yes | head -c 9000000"); err == nil {
		t.Error("9 MB of answer are no error")
	}
	_, err := Run(t.Context(), "/bin/sh", "-c", "echo first >&2; echo second >&2; exit 4")
	if err == nil || err.Error() != "/bin/sh: first" || ExitCode(err) != 4 {
		t.Errorf("Run() = %v; want its first words", err)
	}
	if _, err := Run(t.Context(), "nobody-has-this-program"); err == nil || err.Error() != "nobody-has-this-program is not here" {
		t.Errorf("Run() = %v", err)
	}
}
