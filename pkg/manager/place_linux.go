package manager

import (
	"context"
	"strconv"

	"github.com/killport/killport/pkg/listeners"
)

func unitOf(pid int) string {
	groups, err := readCgroups(strconv.Itoa(pid))
	u, ok := groups.unit()
	if err != nil || !ok {
		return ""
	}
	return u.name
}

func socketUnitOf(ctx context.Context, l listeners.Listener) *Manager {
	b, err := busOf(unit{})
	if err != nil {
		return nil
	}
	return b.socketUnit(ctx, l)
}
