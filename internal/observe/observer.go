package observe

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/tun"
)

// Options configure an Observer. All fields are required, except as noted.
type Options struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Now      func() time.Time
	// Config returns the configuration in force.
	Config func() *config.Config
	Flows  *flows.Table
	// Source is the name of the configuration file, for the audit; may be empty.
	Source string
	// Routes and Restore are the RouteMonitor's.
	Routes  routing.ProtectedSet
	Restore bool
	// Impaired is called with what keeps clients out, each time that it changes.
	// Optional.
	Impaired func(problems []string)
}

// A Target is the running instance that is observed.
type Target struct {
	Gate   *admission.Gate
	Stack  *netstack.Stack
	Device tun.Device
	Store  replay.Store
	// Managed reports whether the gateway opened the device and set the routes.
	Managed bool
	// Filter is the kernel's packet filter, or nil; FilterAttached reports
	// whether it drops packets.
	Filter         *filter.Filter
	FilterAttached bool
	// AcceptQueue returns the connections waiting for Accept at the service that
	// has the most; ControlConnections those at the control socket.
	AcceptQueue        func() (used, limit int)
	ControlConnections func() (used, limit int)
}

// An Observer delivers the events of a gateway to its sinks, and outlives a run.
type Observer struct {
	Metrics  *Metrics
	LastSeen *LastSeen
	Health   *Health
	Sessions *Sessions
	Audit    *Audit
	Log      *AccessLog
	Routes   *RouteMonitor
	Bypass   *BypassMonitor

	o       Options
	started time.Time
	sinks   []Sink
	server  atomic.Pointer[Server] // of the metrics
	target  atomic.Pointer[Target] // whose counts are collected
	running atomic.Pointer[Target] // from when it is ready until it stops
}

// New returns an Observer with its sinks, and registers the metrics.
func New(o Options) (*Observer, error) {
	ob := &Observer{
		o: o, started: o.Now(),
		LastSeen: &LastSeen{now: o.Now},
		Health:   &Health{now: o.Now},
		Sessions: new(Sessions),
		Audit:    &Audit{o: o},
		Routes:   newRouteMonitor(o),
		Bypass:   newBypassMonitor(o),
	}
	ob.Log = newAccessLog(o.Log, o.Now, ob.Audit)
	var err error
	if ob.Metrics, err = newMetrics(o.Registry, &collector{ob}); err != nil {
		return nil, err
	}
	ob.Metrics.reloads.setSuccess(ob.started)
	ob.sinks = []Sink{ob.Metrics, ob.LastSeen, ob.Health, ob.Sessions, ob.Audit, ob.Log}
	return ob, nil
}

// Attach sets the instance whose counts are collected.
func (ob *Observer) Attach(t *Target) {
	ob.Metrics.gate.Watch(t.Gate)
	ob.target.Store(t)
	ob.Sessions.filter.Store(t.Filter)
}

// SetRunning sets the instance that admits packets, nil for none.
func (ob *Observer) SetRunning(t *Target) { ob.running.Store(t) }

// Started returns when the gateway was created.
func (ob *Observer) Started() time.Time { return ob.started }

// Capturing reports whether a trace or a capture is in progress, and packets
// are to be reported. It costs one atomic load.
func (ob *Observer) Capturing() bool { return ob.Sessions.active() }

// Knock delivers a knock to the sinks.
func (ob *Observer) Knock(e knock.Event) {
	for _, s := range ob.sinks {
		s.Knock(&e)
	}
}

// Auth delivers an authentication to the sinks.
func (ob *Observer) Auth(e AuthEvent) {
	for _, s := range ob.sinks {
		s.Auth(&e)
	}
}

// Flow delivers the end of a flow to the sinks.
func (ob *Observer) Flow(f *flows.Flow, reason flows.CloseReason) {
	for _, s := range ob.sinks {
		s.Flow(f, reason)
	}
}

// Ban delivers a ban to the sinks.
func (ob *Observer) Ban(e admission.BanEvent) {
	for _, s := range ob.sinks {
		s.Ban(&e)
	}
}

// Packet delivers a packet to the sinks.
func (ob *Observer) Packet(e capture.Event) {
	for _, s := range ob.sinks {
		s.Packet(&e)
	}
}
