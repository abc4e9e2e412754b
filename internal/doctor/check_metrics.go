package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
)

// unprivilegedMetricsPort is suggested in place of a privileged port.
const unprivilegedMetricsPort = 9090

// checkMetrics checks that the gateway can listen on metrics.listen, which it
// does after it has given up its privileges.
func checkMetrics(_ context.Context, c *checker) {
	listen := c.Config.Metrics.Listen
	if !listen.IsValid() || c.host.Bind == nil {
		return
	}
	if first, err := firstUnprivileged(c); err == nil && int(listen.Port()) < first {
		c.report(Fail, fmt.Sprintf("write metrics: {listen: \"%s\"}", netip.AddrPortFrom(listen.Addr(), unprivilegedMetricsPort)),
			"%s is a port below %d, which takes a privilege that the gateway has given up by then", listen, first)
		return
	}
	if c.running {
		return // the gateway uses the port
	}
	switch err := c.host.Bind(listen, false); {
	case err == nil:
		c.ok("%s is free", listen)
	case errors.Is(err, fs.ErrPermission):
		c.failed(err)
	default:
		c.report(Fail, fmt.Sprintf("ss -ltnp 'sport = :%d' # who has it: end that, or write another metrics: {listen: ...}", listen.Port()),
			"cannot listen on %s: %v", listen, err)
	}
}

// firstUnprivileged returns the first port that takes no privilege.
func firstUnprivileged(c *checker) (int, error) {
	if c.host.Setting == nil {
		return firstUnprivilegedPort, nil
	}
	first, err := c.setting("ipv4/ip_unprivileged_port_start")
	if errors.Is(err, fs.ErrNotExist) {
		return firstUnprivilegedPort, nil
	}
	return first, err
}
