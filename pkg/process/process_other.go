//go:build !linux && !windows

package process

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// MaxPID is the highest PID that there can be.
const MaxPID = 1<<31 - 1

type sys struct{}

func open(int) (*Pin, error)                          { return nil, errors.ErrUnsupported }
func (*sys) close() error                             { return nil }
func (*sys) exited() bool                             { return false }
func (*sys) exiting() bool                            { return false }
func (*sys) wait(context.Context) error               { return errors.ErrUnsupported }
func (*sys) birth() (Birth, error)                    { return "", errors.ErrUnsupported }
func (*sys) inspect() (Info, error)                   { return Info{}, errors.ErrUnsupported }
func (*sys) terminate(syscall.Signal) (string, error) { return "", errors.ErrUnsupported }
func (*sys) wouldSend(syscall.Signal) string          { return "" }
func (*sys) mayTerminate() error                      { return errors.ErrUnsupported }
func (*sys) kill() (string, error)                    { return "", errors.ErrUnsupported }
func (*sys) hold(time.Duration) error                 { return errors.ErrUnsupported }
func (*sys) resume() error                            { return nil }
func (*sys) obstacle() Obstacle                       { return Obstacle{} }
func protect(*Pin, Info) (Protection, error)          { return "", errors.ErrUnsupported }
func visible() error                                  { return errors.ErrUnsupported }

func all() ([]int, error)          { return nil, errors.ErrUnsupported }
func mayTraceAll() bool            { return false }
func isAncestor(int) (bool, error) { return false, errors.ErrUnsupported }
func inPipeline(int) (bool, error) { return false, nil }

func kin(int, time.Time) ([]int, error) { return nil, errors.ErrUnsupported }

func born([]int, Moment) []int { return nil }
func newest() int              { return 0 }
func now() Moment              { return 0 }
func bootID() (string, error)  { return "", errors.ErrUnsupported }

func outermost() bool { return true }

func isolated() []string { return nil }
