package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkGateway reports whether a gateway is running with this configuration.
func checkGateway(ctx context.Context, c *checker) {
	if c.Config.Control.Socket == "" {
		c.report(Warn, "write control: {socket: /run/knockgw/control.sock}",
			"no control.socket: whether a gateway is running is unknown, and reload needs a signal")
		return
	}
	pid, err := c.host.Running(ctx)
	switch {
	case err == nil:
		c.running = true
		c.ok("is running, process %d", pid)
	case errors.Is(err, control.ErrNotRunning):
		c.ok("is not running")
	case !errors.Is(err, fs.ErrPermission):
		c.report(Fail, fmt.Sprintf("ss -lxp src %s # who has it: end that, or write another control: {socket: ...}", termsafe.Shell(c.Config.Control.Socket)),
			"another process listens on the control socket: %v", err)
	default:
		c.failed(err)
	}
}
