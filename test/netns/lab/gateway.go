//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/netlab"
)

// readyWord is what the gateway logs once it admits packets, and "already" is
// not.
var readyWord = regexp.MustCompile(`\bready\b`)

const (
	// readyTime is how long it may take to; a race-checked binary on a busy
	// machine is slow to start.
	readyTime = 20 * time.Second
	// stopTime is how long an orderly stop may take, the drain of live flows
	// included.
	stopTime = 30 * time.Second
	// scrapeTime bounds one read of the metrics.
	scrapeTime = 5 * time.Second

	metricsAddress = "127.0.0.1:9091"
)

// A Site is one gateway's home: its configuration and what it keeps across
// restarts.
type Site struct {
	// Config is the configuration's path, State the directory in which it keeps
	// what outlives it.
	Config, State string

	lab   *Lab
	build *Build
}

// NewSite writes a configuration for the lab's gateway: the given text
// (clients, services, knock) under a head with everything that is the lab's own
// (version, tun, state, control, metrics).
func (l *Lab) NewSite(tb testing.TB, build *Build, text string) *Site {
	tb.Helper()
	// Not tb.TempDir: it has the test's name in it, and a socket's path may
	// have about a hundred bytes.
	dir, err := os.MkdirTemp("", "knockgw-site-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})

	s := &Site{Config: filepath.Join(dir, "knockgw.yaml"), State: filepath.Join(dir, "state"), lab: l, build: build}
	head := fmt.Sprintf(`version: 1
tun:
  name: %s
  mtu: 1500
  routes: [%s, %s]
%sstate: {dir: %q}
control: {socket: %q}
metrics: {listen: %q}
`, Tunnel, Protected4, Protected6, l.TUN, s.State, filepath.Join(dir, "control.sock"), metricsAddress)

	if err := os.Mkdir(s.State, 0o700); err != nil {
		tb.Fatal(err)
	}
	for _, path := range []string{dir, s.State} {
		s.give(tb, path)
	}
	s.Write(tb, head+text)
	return s
}

// Write replaces the whole configuration.
func (s *Site) Write(tb testing.TB, text string) {
	tb.Helper()
	if err := os.WriteFile(s.Config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	s.give(tb, s.Config)
}

// give lets the gateway's account have a file or directory.
func (s *Site) give(tb testing.TB, path string) {
	tb.Helper()
	if err := os.Chown(path, account, account); err != nil {
		tb.Fatal(err)
	}
}

// account is the number of the user and of the group that gateways become; it
// need have no name.
const account = 65534

// PrivilegedVariable in the environment has gateways keep their privileges, to
// compare.
const PrivilegedVariable = "KNOCKGW_TEST_PRIVILEGED"

// Run is the command that runs the gateway: as in production it gives up root
// and most system calls, so that every test is one of what is left.
func (s *Site) Run() []string {
	command := []string{s.build.Path, "run", "--config", s.Config}
	if os.Getenv(PrivilegedVariable) != "" {
		return append(command, "--insecure-keep-privileges")
	}
	return append(command, "--user", strconv.Itoa(account), "--group", strconv.Itoa(account))
}

// A Gateway is a running knockgw.
type Gateway struct {
	*Process

	site *Site
}

// Start runs the gateway and waits until it is ready; it ends with the test.
func (s *Site) Start(tb testing.TB) *Gateway {
	tb.Helper()
	h := s.lab.Gateway
	run := s.Run()
	cmd := h.Command(context.Background(), run[0], run[1:]...)
	g := &Gateway{Process: h.StartCommand(tb, cmd), site: s}
	tb.Cleanup(g.sane)
	ctx, cancel := context.WithTimeout(tb.Context(), readyTime)
	defer cancel()
	if err := g.WaitLog(ctx, readyWord.MatchString); err != nil {
		tb.Fatalf("start the gateway: %v\n%s", err, g.Log())
	}
	return g
}

// sane fails the test if the gateway has crashed, or has been caught at a data
// race.
func (g *Gateway) sane() {
	g.tb.Helper()
	for _, sign := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
		if at := strings.Index(g.Log(), sign); at >= 0 {
			text := g.Log()[at:]
			g.tb.Errorf("the gateway's log has:\n%s", text[:min(len(text), logShown)])
		}
	}
}

// Knockgw runs one of the program's commands on the gateway to its end, with
// the site's configuration.
func (s *Site) Knockgw(ctx context.Context, command string, args ...string) (string, error) {
	args = append([]string{command, "--config", s.Config}, args...)
	return s.lab.Gateway.Run(ctx, s.build.Path, args...)
}

// Down removes what `run` leaves behind on the gateway.
func (s *Site) Down(tb testing.TB) {
	tb.Helper()
	if out, err := s.Knockgw(tb.Context(), "down"); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
}

// Stop asks the gateway to end, as an operator does, and fails the test unless
// it ends well.
func (g *Gateway) Stop() {
	g.tb.Helper()
	g.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(g.tb.Context(), stopTime)
	defer cancel()
	code, err := g.Wait(ctx)
	if err != nil || code != 0 {
		g.tb.Fatalf("an orderly stop ended with code %d, %v", code, err)
	}
}

// Down removes what the gateway has left behind.
func (g *Gateway) Down(tb testing.TB) {
	tb.Helper()
	g.site.Down(tb)
}

// Metrics reads the gateway's metrics: every sample by its name and labels, as
// written.
func (g *Gateway) Metrics() map[string]float64 {
	g.tb.Helper()
	samples, err := g.scrape()
	if err != nil {
		g.tb.Fatal(err)
	}
	return samples
}

func (g *Gateway) scrape() (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(g.tb.Context(), scrapeTime)
	defer cancel()
	read, err := netlab.Scrape(ctx, metricsAddress, g.site.lab.Gateway.Dial)
	if err != nil {
		return nil, err
	}
	samples := make(map[string]float64)
	for _, s := range read {
		samples[s.Series] = s.Value
	}
	return samples, nil
}
