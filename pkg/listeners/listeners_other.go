//go:build !linux && !windows

package listeners

import (
	"context"
	"errors"

	"github.com/killport/killport/pkg/process"
)

func sockets(context.Context, []Query) ([]Socket, error)    { return nil, errors.ErrUnsupported }
func holders(context.Context, []Socket) ([]Listener, error) { return nil, errors.ErrUnsupported }
func holds(*process.Pin, Listener) (bool, error)            { return false, errors.ErrUnsupported }
func among([]int, []Socket) []Listener                      { return nil }
func heldBy(*process.Pin, []Socket) ([]Socket, error)       { return nil, errors.ErrUnsupported }
func closeSocket(context.Context, Socket) error             { return errors.ErrUnsupported }
func unhide(_ HiddenBy, command string) string              { return "run it as root: sudo " + command }
func showsBound(context.Context) bool                       { return false }
