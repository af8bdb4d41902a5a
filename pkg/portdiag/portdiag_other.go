//go:build !linux && !windows

package portdiag

import (
	"context"
	"errors"

	"github.com/killport/killport/pkg/listeners"
)

func bindable(listeners.Query) (bool, string) { return false, "unsupported" }

func why(Listener) []Link { return nil }

func (r *Report) explain(context.Context, *Survey, listeners.Query) error {
	return errors.ErrUnsupported
}

// host: there is nothing to know about one.
type host struct{}

var _ host
