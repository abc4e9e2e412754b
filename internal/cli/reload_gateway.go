package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
)

// reloadStatus is what became of a change in the running gateway, in the words of JSON.
type reloadStatus string

const (
	statusReloaded    reloadStatus = "reloaded"
	statusNotRunning  reloadStatus = "not-running"
	statusUnavailable reloadStatus = "unavailable" // it is starting or stopping
	statusNotAsked    reloadStatus = "not-asked"   // there is no control.socket
)

// message are for people.
func (u reloadStatus) message() string {
	switch u {
	case statusReloaded:
		return "the running gateway has taken it up"
	case statusNotRunning:
		return "no gateway is running: start knockgw"
	case statusUnavailable:
		return "the gateway is starting or stopping: run knockgw reload"
	default:
		return "send SIGHUP to knockgw, or start it (with control.socket in the configuration it would be asked)"
	}
}

// reloadTimeout is how long the gateway may say nothing. While it works it says so, several times in that.
const reloadTimeout = 30 * time.Second

// reloadGateway has the running gateway read its configuration again, and says what came of it. An error is the
// gateway's: it refused, and goes on with what it had.
func reloadGateway(ctx context.Context, c *config.Config) (reloadStatus, error) {
	if c.Control.Socket == "" {
		return statusNotAsked, nil
	}
	// An interrupt must not part what is on the disk from what the gateway goes by.
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
