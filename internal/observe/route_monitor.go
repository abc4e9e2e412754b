package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

const (
	// routeInterval is how often the routes and rules are verified without a
	// change: the kernel does not announce every route that is removed.
	routeInterval = 30 * time.Second
	// routePause is the minimum time between two verifications: on a host that
	// learns routes from its neighbors they change all the time.
	routePause = time.Second
	// restoreTime is how long the routes to the device may be missing before
	// Run ends: several times what restoring them takes, and less than clients
	// retry.
	restoreTime = 10 * time.Second
	// routeRemedy says what happens next.
	routeRemedy = "knockgw adds them again if it can; otherwise the gateway exits after 10s, for the service manager to restart it; " +
		"see knockgw doctor"
)

// ErrRoutesLost reports that another process removed routes or rules, and that
// they could not be added again. A restart of the gateway adds them.
var ErrRoutesLost = errors.New("routes or rules were removed by another process and could not be restored")

// A RouteMonitor watches the gateway's routes and rules. Another process may
// delete them while the gateway runs: a restart of the network, or a network
// manager that removes the routes of others. The gateway usually has no
// privilege left to add them again, but a RouteRestorer in another process may
// have; if that fails, Run returns ErrRoutesLost, so that a service manager
// restarts the gateway. Hidden ports stay hidden: sockets that drop every
// packet reserve them.
type RouteMonitor struct {
	log      *slog.Logger
	routes   routing.ProtectedSet
	restorer bool // this process has the privileges to add routes
	impaired func(problems []string)
	missing  condition
	absent   condition // addresses of tun.local

	// For the goroutine of Run only.
	device tun.Device
	failed bool      // the last verification
	since  time.Time // when the routes to the device were first missing; zero while they are not
	name   string    // of the interface, at the last verification
}

func newRouteMonitor(o Options) *RouteMonitor {
	return &RouteMonitor{
		log: o.Log, routes: o.Routes, restorer: o.Restore, impaired: o.Impaired,
		missing: condition{
			level: slog.LevelError, message: "routes or rules were removed by another process", key: "missing", remedy: routeRemedy,
			cleared: "routes and rules are complete again",
		},
		absent: condition{
			level: slog.LevelWarn, message: "waiting for addresses of tun.local: their ports are hidden, and clients cannot reach them yet", key: "addresses",
			cleared: "all addresses of tun.local are present",
		},
	}
}

// Problems returns the problems that readiness shows.
func (m *RouteMonitor) Problems() []string {
	var all []string
	if missing := m.missing.get(); len(missing) > 0 {
		all = append(all, "routes or rules were removed by another process, "+summarize(missing)+": "+routeRemedy)
	}
	if absent := m.absent.get(); len(absent) > 0 {
		all = append(all, "waiting for addresses of tun.local, and clients cannot reach them: "+summarize(absent))
	}
	return all
}

// Run verifies the routes and rules until ctx ends. It returns ErrRoutesLost
// when they have been missing for restoreTime.
func (m *RouteMonitor) Run(ctx context.Context, t *Target) error {
	if !t.Managed || !routing.RoutesManaged {
		return nil // the operator sets the routes
	}
	m.device = t.Device
	changes := newChangeFeed(m.log, routeInterval)
	defer changes.close()
	for {
		next, err := m.verify()
		if err != nil {
			return err
		}
		if !sleep(ctx, routePause) || !changes.wait(ctx, next) {
			return nil
		}
	}
}

// verify finds out what is missing, and logs it if that has changed. It returns
// when to verify again, or ErrRoutesLost.
func (m *RouteMonitor) verify() (next time.Duration, err error) {
	missing, absent, err := m.query()
	if err != nil {
		if !m.failed { // routes that change all the time would fill the log
			m.log.Warn("cannot verify routes and rules", "err", err)
		}
		m.failed = true
		return routeInterval, nil
	}
	m.failed = false
	if len(missing) > 0 && m.restorer {
		missing, absent = m.restore(missing, absent)
	}

	changed := m.missing.update(m.log, missing)
	changed = m.absent.update(m.log, absent) || changed
	if changed && m.impaired != nil {
		m.impaired(m.Problems())
	}
	return m.deadline(missing, time.Now())
}

// restore adds what is missing, and returns what is still missing.
func (m *RouteMonitor) restore(missing, absent []string) (stillMissing, stillAbsent []string) {
	if err := m.routes.Restore(m.device.Info().Index); err != nil {
		return missing, absent
	}
	stillMissing, stillAbsent, err := m.query()
	if err != nil {
		return missing, absent
	}
	m.log.Warn("restored routes or rules that another process had removed", "missing", summarize(missing))
	return stillMissing, stillAbsent
}

// deadline returns when to verify again, or ErrRoutesLost if the routes to the
// device have been missing for too long.
func (m *RouteMonitor) deadline(missing []string, now time.Time) (time.Duration, error) {
	if !slices.ContainsFunc(missing, routing.AffectsTraffic) {
		m.since = time.Time{}
		return routeInterval, nil
	}
	if m.since.IsZero() {
		m.since = now
	}
	if now.Sub(m.since) >= restoreTime {
		return 0, fmt.Errorf("%w: %s; restart the gateway", ErrRoutesLost, summarize(missing))
	}
	return routePause, nil
}

// query asks the kernel what is missing. A renamed interface is followed.
func (m *RouteMonitor) query() (missing, absent []string, err error) {
	info := m.device.Info()
	link, err := info.Interface()
	if err != nil {
		return []string{fmt.Sprintf("the interface %s is gone", info.Name)}, nil, nil
	}
	if m.name != "" && m.name != link.Name {
		m.log.Info("interface renamed", "from", m.name, "to", link.Name)
	}
	m.name = link.Name
	if missing, err = m.routes.Verify(link.Name); err != nil {
		return nil, nil, err
	}
	absent, err = m.routes.HostPorts().UnavailableAddrs()
	return missing, absent, err
}
