//go:build !linux

package process

import (
	"context"
	"errors"
	"syscall"
)

// MaxPID is the highest PID that there can be.
const MaxPID = 1<<31 - 1

type sys struct{}

func open(int) (*Pin, error)                  { return nil, errors.ErrUnsupported }
func (p *Pin) close() error                   { return nil }
func (p *Pin) exited() bool                   { return false }
func (p *Pin) exiting() bool                  { return false }
func (p *Pin) wait(context.Context) error     { return errors.ErrUnsupported }
func (p *Pin) birth() (Birth, error)          { return "", errors.ErrUnsupported }
func (p *Pin) inspect() (Info, error)         { return Info{}, errors.ErrUnsupported }
func (p *Pin) terminate(syscall.Signal) error { return errors.ErrUnsupported }
func (p *Pin) mayTerminate() error            { return errors.ErrUnsupported }
func (p *Pin) kill() error                    { return errors.ErrUnsupported }
func (p *Pin) obstacle() Obstacle             { return Obstacle{} }
func protect(*Pin, Info) (Protection, error)  { return "", errors.ErrUnsupported }
func visible() error                          { return errors.ErrUnsupported }

func all() ([]int, error)          { return nil, errors.ErrUnsupported }
func mayTraceAll() bool            { return false }
func isAncestor(int) (bool, error) { return false, errors.ErrUnsupported }
