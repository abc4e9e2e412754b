package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
)

// reloadStatus reports whether the running gateway applies a change of a
// client's file. Its values appear in JSON.
type reloadStatus string

const (
	statusReloaded    reloadStatus = "reloaded"
	statusNotRunning  reloadStatus = "not-running"
	statusUnavailable reloadStatus = "unavailable" // starting or stopping
	statusNotAsked    reloadStatus = "not-asked"   // no control.socket
)

// message returns the status in words, with what to do.
func (s reloadStatus) message() string {
	switch s {
	case statusReloaded:
		return "the running gateway has applied the change"
	case statusNotRunning:
		return "no gateway is running: start knockgw"
	case statusUnavailable:
		return "the gateway is starting or stopping: run knockgw reload"
	default:
		return "send SIGHUP to knockgw, or start it (automatic with control.socket in the configuration)"
	}
}

// reloadTimeout is how long the gateway may be silent. While it works it reports
// that several times in this period.
const reloadTimeout = 30 * time.Second

// reloadGateway makes the running gateway reload its configuration. The error is
// that the gateway rejected it, and continues with the previous one.
func reloadGateway(ctx context.Context, c *config.Config) (reloadStatus, error) {
	if c.Control.Socket == "" {
		return statusNotAsked, nil
	}

	// An interrupt must not leave the gateway with another state than the disk.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	silent := time.AfterFunc(reloadTimeout, func() { cancel(context.DeadlineExceeded) })
	defer silent.Stop()
	gateway := control.Client{Socket: c.Control.Socket, Working: func() { silent.Reset(reloadTimeout) }}

	_, err := gateway.Reload(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return statusNotRunning, nil
	case errors.Is(err, control.ErrUnavailable):
		return statusUnavailable, nil
	case err != nil:
		return "", fmt.Errorf("the running gateway: %w", err)
	}
	return statusReloaded, nil
}
