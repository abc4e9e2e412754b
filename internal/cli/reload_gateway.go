package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
)

// uptake is what became of a change in the running gateway, in the words of JSON.
type uptake string

const (
	takenUp     uptake = "reloaded"
	notRunning  uptake = "not-running"
	unavailable uptake = "unavailable" // it is starting or stopping
	notAsked    uptake = "not-asked"   // there is no control.socket
)

// words are for people.
func (u uptake) words() string {
	switch u {
	case takenUp:
		return "the running gateway has taken it up"
	case notRunning:
		return "no gateway is running: start knockgw"
	case unavailable:
		return "the gateway is starting or stopping: run knockgw reload"
	default:
		return "send SIGHUP to knockgw, or start it (with control.socket in the configuration it would be asked)"
	}
}

// takeUpTime is how long the gateway may say nothing. While it works it says so, several times in that.
const takeUpTime = 30 * time.Second

// takeUp has the running gateway read its configuration again, and says what came of it. An error is the
// gateway's: it refused, and goes on with what it had.
func takeUp(ctx context.Context, c *config.Config) (uptake, error) {
	if c.Control.Socket == "" {
		return notAsked, nil
	}
	// An interrupt must not part what is on the disk from what the gateway goes by.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	silent := time.AfterFunc(takeUpTime, func() { cancel(context.DeadlineExceeded) })
	defer silent.Stop()
	gateway := control.Client{Socket: c.Control.Socket, Working: func() { silent.Reset(takeUpTime) }}
	_, err := gateway.Reload(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return notRunning, nil
	case errors.Is(err, control.ErrUnavailable):
		return unavailable, nil
	case err != nil:
		return "", fmt.Errorf("the running gateway: %w", err)
	}
	return takenUp, nil
}
