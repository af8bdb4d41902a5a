package process

import (
	"errors"
	"os"

	"github.com/killport/killport/internal/procfs"
)

func protect(p *Pin, info Info) (Protection, error) {
	switch {
	case visible() != nil:
		return ProtectedNamespace, nil
	case p.pid <= 1:
		return ProtectedInit, nil
	case info.Kernel:
		return ProtectedKernel, nil
	case p.pid == os.Getpid():
		return ProtectedSelf, nil
	}
	if neighbour, err := inPipeline(p.pid); err != nil || neighbour {
		return ProtectedPipeline, err
	}
	ancestor, err := isAncestor(p.pid)
	if ancestor || errors.Is(err, ErrCutOff) {
		return ProtectedAncestor, nil
	}
	if err != nil {
		return "", err
	}
	if info.servesMany() {
		return ProtectedShared, nil
	}
	return "", nil
}

func readStat(pid int) (procfs.Stat, error) {
	return (&Pin{pid: pid}).stat()
}
