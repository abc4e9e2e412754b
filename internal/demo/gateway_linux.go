package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	configName = "knockgw.yaml"
	secretName = "laptop.key"
	clientID   = "laptop"
	deviceName = "knock0"

	hiddenPort   = 80
	upstreamPort = 8080
	knockPort    = 62201 // the configuration's default

	// grantTime is how long a knock opens for; short, so that its end can be waited for.
	grantTime = time.Second
	// authTime is how long a connection may stay unauthenticated; short for the same reason.
	authTime = time.Second

	readyWord = "msg=ready"      // of the gateway's log
	readyTime = 10 * time.Second // it takes a tenth of one
	readyPoll = 5 * time.Millisecond
	stopTime  = 8 * time.Second // longer than the gateway drains, for flows that there should not be
	logShown  = 40              // lines of the gateway's log, upon failure
)

// metricsAddress is on the loopback of the gateway's namespace.
func metricsAddress() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:9091") }

// A process is the gateway under demonstration.
type process struct {
	host *host
	dir  string
	cmd  *exec.Cmd
	log  processLog
	done chan struct{}
	err  error // of Wait, once done

	metrics *http.Client
}

// startGateway writes the configuration and starts a gateway with it. It
// removes the files when it is closed.
func startGateway(h *host, command []string, config string, secret []byte) (g *process, err error) {
	g = &process{host: h, done: make(chan struct{})}
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
	g.cmd = exec.Command(command[0], args...) //nolint:gosec // the caller's own program
	g.cmd.Stdout, g.cmd.Stderr = &g.log, &g.log
	if err := h.start(g.cmd); err != nil {
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	go func() {
		defer close(g.done)
		g.err = g.cmd.Wait()
	}()
	g.metrics = &http.Client{Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}}
	return g, nil
}

// ready waits until the gateway admits or refuses packets.
func (g *process) ready(ctx context.Context) error {
	return poll(ctx, wait{readyTime, readyPoll, "the gateway to be ready"}, func() (bool, error) {
		if strings.Contains(g.log.String(), readyWord) {
			return true, nil
		}
		return false, g.alive()
	})
}

// alive fails once the process has ended.
func (g *process) alive() error {
	select {
	case <-g.done:
		return fmt.Errorf("the gateway has ended: %v", g.cmd.ProcessState)
	default:
		return nil
	}
}

// counters asks the gateway for its metrics.
func (g *process) counters(ctx context.Context) (counters, error) {
	url := "http://" + metricsAddress().String() + "/metrics"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := g.metrics.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway for its metrics: %w", err)
	}
	c, err := parseCounters(resp.Body)
	return c, errors.Join(err, resp.Body.Close())
}

// stop ends the gateway as an operator would, and by force if that takes too long.
func (g *process) stop() error {
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the gateway: %w", err)
	}
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-g.done:
		if g.err != nil {
			return fmt.Errorf("the gateway has ended: %w", g.err)
		}
		return nil
	case <-t.C:
		err := g.cmd.Process.Kill()
		<-g.done
		return errors.Join(fmt.Errorf("the gateway has not stopped within %v", stopTime), err)
	}
}

// close stops the gateway, if it has not been, and removes its files.
func (g *process) close() error {
	return errors.Join(g.stop(), os.RemoveAll(g.dir))
}

// lastWords is the end of the gateway's log.
func (g *process) lastWords() string {
	lines := strings.Split(strings.TrimSpace(g.log.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-logShown):], "\n")
}

// configText is the gateway's configuration. Its paths are relative to itself.
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
			quoted(netip.AddrPortFrom(l.upstream.addrs[i], upstreamPort)),
			grantTime, authTime)
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
`, deviceName, strings.Join(routes, ", "), clientID, secretName, services.String(), quoted(metricsAddress()))
}

// quoted writes an address as YAML wants it: an IPv6 one would begin a list.
func quoted(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return a.String()
	}
	return `"` + a.String() + `"`
}

// processLog collects what a process says.
type processLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is the log so far.
func (l *processLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
