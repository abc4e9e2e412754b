package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

// ErrBypassed reports that unauthorized hosts would reach protected addresses
// past the gateway, that the host would answer for them itself, or that the
// host needs one of them.
var ErrBypassed = errors.New("packets would bypass the gateway")

const (
	// bypassInterval is how often the host is examined without a change: the
	// kernel does not announce every setting.
	bypassInterval = 30 * time.Second
	// bypassPause is the minimum time between two examinations, and bypassShare
	// how many times longer than an examination the pause after it is: on a
	// router with a million routes one takes a second.
	bypassPause = time.Second
	bypassShare = 10
)

// A BypassMonitor examines the host's network. Its configuration may let
// packets bypass the gateway, or keep clients out, whatever the gateway does: a
// rule before ours, a route in our table, forwarding that is off. The host is
// examined at the start, which fails if a protected address would be reachable,
// and on every change that the kernel announces.
type BypassMonitor struct {
	log      *slog.Logger
	config   func() *config.Config
	routes   routing.ProtectedSet
	problems tracked[bypass.Problem]
	failed   bool // the last examination; for the goroutine of Run only
}

func newBypassMonitor(o Options) *BypassMonitor {
	return &BypassMonitor{log: o.Log, config: o.Config, routes: o.Routes}
}

// Problems returns the problems that readiness shows.
func (m *BypassMonitor) Problems() []string {
	var all []string
	for _, p := range m.problems.get() {
		if p.Severity != bypass.Unknown {
			all = append(all, p.String())
		}
	}
	return all
}

// Open reports whether packets bypass the gateway.
func (m *BypassMonitor) Open() bool { return len(bypass.Filter(m.problems.get(), bypass.Open)) > 0 }

// CheckAddresses fails if the host itself uses a protected address, which it
// would lose. It is called before the host is changed.
func (m *BypassMonitor) CheckAddresses() error {
	if !routing.RoutesManaged {
		return nil
	}
	protected := bypass.ProtectedBy(m.config())
	s, err := bypass.Read(protected)
	if err != nil {
		return fmt.Errorf("examine the addresses of this host: %w", err)
	}
	return bypassError(bypass.OwnAddresses(s, protected))
}

// Check fails if a protected address would be reachable past the gateway. It
// logs what keeps clients out, which readiness shows, too.
func (m *BypassMonitor) Check(device tun.Device) error {
	if !routing.RoutesManaged {
		return nil
	}
	problems, err := m.examine(device.Info().Name)
	if err != nil {
		return fmt.Errorf("examine the routes of this host: %w", err)
	}
	if err := bypassError(bypass.Filter(problems, bypass.Open)); err != nil {
		return err
	}
	m.update(problems)
	return nil
}

// bypassError returns ErrBypassed with the problems; nil if there are none.
func bypassError(problems []bypass.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	lines := make([]string, len(problems))
	for i := range problems {
		lines[i] = problems[i].String()
	}
	return fmt.Errorf("%w: %s", ErrBypassed, summarize(lines))
}

// Run examines the host at every change, until ctx ends.
func (m *BypassMonitor) Run(ctx context.Context, t *Target) error {
	if _, ok := t.Device.(tun.FilterAttacher); !ok || !routing.RoutesManaged {
		return nil // a device without an interface, or a system that cannot be examined
	}
	changes := newChangeFeed(m.log, bypassInterval)
	defer changes.close()
	for {
		began := time.Now()
		retry := m.reexamine(t)
		if !sleep(ctx, max(bypassPause, bypassShare*time.Since(began))) {
			return nil
		}
		if !retry && !changes.wait(ctx, bypassInterval) {
			return nil
		}
	}
}

// reexamine examines the host. It reports whether to retry without waiting for
// a change: while routes of the gateway are missing, which the RouteMonitor
// reports and another process restores.
func (m *BypassMonitor) reexamine(t *Target) (retry bool) {
	name := deviceName(t.Device)
	if t.Managed {
		if missing, err := m.routes.Verify(name); err != nil || len(missing) > 0 {
			return true
		}
	}
	problems, err := m.examine(name)
	if err != nil {
		if !m.failed {
			m.log.Warn("cannot examine the host's network", "err", err)
		}
		m.failed = true
		return false
	}
	m.failed = false
	m.update(problems)
	return false
}

// examine evaluates the host for a device with this name.
func (m *BypassMonitor) examine(name string) ([]bypass.Problem, error) {
	protected := bypass.ProtectedBy(m.config())
	protected.Device, protected.Routes, protected.HostPorts = name, m.routes.Routes(), m.routes.HostPorts()
	s, err := bypass.Read(protected)
	if err != nil {
		return nil, err
	}
	return bypass.Evaluate(s, protected), nil
}

// update replaces the list of problems, and logs the new ones.
func (m *BypassMonitor) update(problems []bypass.Problem) {
	prev, _ := m.problems.set(problems)
	logged := 0
	for _, p := range problems {
		if slices.Contains(prev, p) {
			continue
		}
		if logged++; logged > maxSummary {
			m.log.Error("more problems of this kind: knockgw doctor lists all", "count", len(problems))
			break
		}

		attrs := []any{"protected", p.Subject, "problem", p.Message, "remedy", p.Remedy}
		switch p.Severity {
		case bypass.Open:
			m.log.Error("packets bypass the gateway", attrs...)
		case bypass.Unusable:
			m.log.Error("clients cannot reach the gateway", attrs...)
		default:
			m.log.Warn("cannot examine the host completely", attrs...)
		}
	}
	if len(prev) > 0 && len(problems) == 0 {
		m.log.Info("packets no longer bypass the gateway, and clients can reach it")
	}
}
