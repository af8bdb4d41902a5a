//go:build !linux && !windows

package manager

import (
	"context"

	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/process"
)

// of knows services of Windows, and the programs by which Docker Desktop and
// its like listen.
func of(ctx context.Context, _ *process.Pin, info process.Info, l listeners.Listener) *Manager {
	if service := process.OwnService(info.PID); service != "" {
		return &Manager{Kind: Service, Name: service, Stop: []string{"sc.exe", "stop", service}}
	}
	if name := front(info); name != "" {
		return published(ctx, engine{name: name}, publicationBy(info, l)).onBehalf()
	}
	return nil
}

func orItsService(_ context.Context, container *Manager, _ listeners.Listener) *Manager {
	return container
}

// runsHere: a container of an engine with no virtual machine around it is none
// of Linux, and its processes cannot be told.
func runsHere(inspection, uint32) bool { return false }

func weAreIn(string) bool { return false }

func isSystemd(int) bool { return false }

func inFirstNetwork(listeners.Socket) bool { return true }

func isOurs(string) bool { return false }

func unitOf(int) string { return "" }

func socketUnitOf(context.Context, listeners.Listener) *Manager { return nil }
