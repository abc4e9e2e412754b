package demo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/protocol"
)

const (
	configName = "knockgw.yaml"
	secretName = "laptop.key"
	clientID   = "laptop"

	hiddenPort   = 80
	upstreamPort = 8080
	knockPort    = protocol.DefaultKnockPort

	// grantTTL is how long a grant lasts; short, so that its end can be waited
	// for.
	grantTTL = time.Second
	// authDeadline is how long a connection may stay unauthenticated; short for
	// the same reason.
	authDeadline = time.Second

	readyLine    = "msg=ready"      // of the gateway's log
	readyTimeout = 10 * time.Second // it takes a tenth of one
	stopTimeout  = 8 * time.Second  // longer than the gateway drains, for flows that should not exist
	logShown     = 40               // lines of the gateway's log, after a failure
)

// metricsAddress returns an address on the loopback of the gateway's namespace.
func metricsAddress() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:9091") }

// A gatewayProcess is the gateway under demonstration, a process of its own.
type gatewayProcess struct {
	*netlab.Process

	host *netlab.Host
	dir  string
}

// startGateway writes the configuration and starts a gateway with it. The files
// are removed when it is closed.
func startGateway(h *netlab.Host, command []string, config string, secret []byte) (g *gatewayProcess, err error) {
	g = &gatewayProcess{host: h}
	if g.dir, err = os.MkdirTemp("", "knockgw-demo-"); err != nil {
		return nil, fmt.Errorf("make a directory for the configuration: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(g.dir))
		}
	}()

	for name, text := range map[string]string{configName: config, secretName: "hex:" + hex.EncodeToString(secret) + "\n"} {
		path := filepath.Join(g.dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, Account, Account)); err != nil {
			return nil, fmt.Errorf("write the configuration: %w", err)
		}
	}
	if err := os.Chown(g.dir, Account, Account); err != nil {
		return nil, err
	}

	args := append(slices.Clone(command[1:]), filepath.Join(g.dir, configName))
	if g.Process, err = h.Start(exec.Command(command[0], args...)); err != nil { //nolint:gosec // the caller's own program
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	return g, nil
}

// waitReady waits until the gateway processes packets.
func (g *gatewayProcess) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the gateway was not ready within %v", readyTimeout))
	defer cancel()
	err := g.WaitLog(ctx, func(log string) bool { return strings.Contains(log, readyLine) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return g.exited()
	}
}

// exited returns an error with the gateway's exit status, if it has ended.
func (g *gatewayProcess) exited() error {
	select {
	case <-g.Ended():
		return fmt.Errorf("the gateway has ended: %v", g.Status())
	default:
		return nil
	}
}

// metrics reads the gateway's metrics.
func (g *gatewayProcess) metrics(ctx context.Context) (netlab.Metrics, error) {
	return netlab.Scrape(ctx, metricsAddress().String(), g.host.Dial)
}

// stop ends the gateway as an operator would, and with SIGKILL after a timeout.
func (g *gatewayProcess) stop() error {
	if err := g.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the gateway: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if _, err := g.Wait(ctx); err != nil {
		return errors.Join(fmt.Errorf("the gateway has not stopped within %v", stopTimeout), g.Kill())
	}
	if err := g.Err(); err != nil {
		return fmt.Errorf("the gateway has ended: %w", err)
	}
	return nil
}

// close stops the gateway, if it has not been stopped, and removes its files.
func (g *gatewayProcess) close() error {
	return errors.Join(g.stop(), os.RemoveAll(g.dir))
}

// logTail returns the end of the gateway's log.
func (g *gatewayProcess) logTail() string {
	lines := strings.Split(strings.TrimSpace(g.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-logShown):], "\n")
}

// configText returns the gateway's configuration. Its paths are relative to it.
func (l *lab) configText() string {
	var routes []string
	var services strings.Builder
	for i, f := range l.families {
		routes = append(routes, f.protected.String())
		fmt.Fprintf(&services, `  - name: web-%s
    listen: %s
    upstream: %s
    mode: knock-auth
    grant: {ttl: %v, uses: 1}
    auth: {deadline: %v}
`, map[bool]string{true: "ipv4", false: "ipv6"}[f.hidden.Is4()],
			quoted(netip.AddrPortFrom(f.hidden, hiddenPort)),
			quoted(netip.AddrPortFrom(l.Upstream.Addrs()[i], upstreamPort)),
			grantTTL, authDeadline)
	}

	return fmt.Sprintf(`version: 1
tun:
  name: %s
  routes: [%s]
clients:
  - id: %s
    secret_file: %s
services:
%sstate: {dir: state}
metrics: {listen: %s}
`, netlab.Tunnel, strings.Join(routes, ", "), clientID, secretName, services.String(), quoted(metricsAddress()))
}

// quoted writes an address for YAML, where an IPv6 one would begin a list.
func quoted(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return a.String()
	}
	return `"` + a.String() + `"`
}
