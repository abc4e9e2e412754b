// Package gateway runs a knockgw gateway: it hides the services of a Config, and
// admits the connections of authorized clients to them.
//
// A Go program that wants to hide its own services, without a proxy in between,
// configures services without an upstream and accepts their connections from
// Listener:
//
//	gw, err := gateway.New(cfg, gateway.Options{})
//	ln, err := gw.Listener("api")
//	go http.Serve(ln, handler)
//	err = gw.Run(ctx)
//
// Reload replaces the configuration while the gateway runs. Flows in progress
// continue unless the new configuration revokes them.
//
// The packages of the gateway do not know each other. The file datapath.go
// joins the device, the gate and the TCP/IP stack with functions, and
// internal/observe reports what happens.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/observe"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

var (
	// ErrRoutesLost reports that another process removed routes or rules, and
	// that they could not be added again. A restart of the gateway adds them.
	ErrRoutesLost = observe.ErrRoutesLost
	// ErrBypassed reports that unauthorized hosts would reach protected
	// addresses past the gateway, that the host would answer for them itself,
	// or that the host needs one of them.
	ErrBypassed = observe.ErrBypassed
)

// DrainTime is how long an orderly stop waits for the flows to end before it
// resets them: long enough for a request to get its reply, and well below the
// timeout of service supervisors.
const DrainTime = 5 * time.Second

// Options configure a Gateway beyond its Config. All fields are optional.
type Options struct {
	// Device is used instead of opening the one that the configuration names; no
	// routes are set then. The gateway closes it.
	Device tun.Device
	// Log receives events; the default discards them. No event contains a
	// secret.
	Log *slog.Logger
	// Registry receives the metrics; default: a registry of the gateway's own.
	// Either is served at metrics.listen.
	Registry *prometheus.Registry
	// Now is the wall clock against which messages are validated; default
	// time.Now.
	Now func() time.Time
	// DrainTime overrides the constant of that name; negative means not to wait.
	DrainTime time.Duration
	// Load loads the configuration again, for ReloadFromSource and for the
	// control socket.
	Load func() (*config.Config, error)
	// Source describes where Load reads, for people: the path of a file.
	Source string
	// Restorer may start a process that adds routes and rules again when
	// another process deletes them, with the privileges that DropPrivileges
	// drops. It is called once, before DropPrivileges, with the interface index
	// of the device, unless Device is set. A gateway without DropPrivileges
	// restores them itself.
	Restorer func(routes routing.ProtectedSet, device int) error
	// Impaired is called with what keeps clients out, each time that it changes:
	// routes that were deleted, missing addresses of tun.local.
	Impaired func(problems []string)
	// DropPrivileges may drop all privileges. It is called once, when the
	// device is open and the routes are set, before a packet is read and before
	// the control socket, the state and the metrics are opened, which belong to
	// the unprivileged account.
	DropPrivileges func() error
}

// A Gateway is created from a configuration, which may change while it runs,
// and runs once.
type Gateway struct {
	o         Options
	routes    routing.ProtectedSet
	flows     *flows.Table
	observer  *observe.Observer
	process   *observe.ProcessRegistry // nil if Options.Registry is set
	ready     chan struct{}
	ran       atomic.Bool
	snapshots snapshots
	ports     *routing.PortReservation // of tun.local, until Run returns; may be nil

	reloading      sync.Mutex               // held to change snapshots, running and pendingRestart
	running        atomic.Pointer[instance] // from when it is ready until it stops
	pendingRestart atomic.Pointer[[]string] // keys whose change needs a restart
}

// New creates a Gateway from a valid Config. It has no side effects.
func New(cfg *config.Config, o Options) (*Gateway, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DrainTime == 0 {
		o.DrainTime = DrainTime
	}
	g := &Gateway{o: o, routes: Protected(cfg), flows: flows.NewTable(o.Log), ready: make(chan struct{})}
	if o.Registry == nil {
		g.process = observe.NewProcessRegistry()
		g.o.Registry = g.process.Registry
	}

	first, err := newSnapshot(cfg, nil, o.Now)
	if err != nil {
		return nil, err
	}
	g.snapshots.current.Store(first)
	g.observer, err = observe.New(observe.Options{
		Log: o.Log, Registry: g.o.Registry, Now: o.Now, Flows: g.flows, Source: o.Source,
		Config: func() *config.Config { return g.snapshots.current.Load().cfg },
		Routes: g.routes, Restore: o.DropPrivileges == nil, Impaired: o.Impaired,
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Ready returns a channel that is closed once packets are admitted or dropped.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Run opens the device and serves until ctx ends, then drains: there are no new
// flows, and the others have DrainTime to end. It returns nil after an orderly
// stop, and the first error otherwise; that may wrap tun.ErrNoTUN,
// fs.ErrPermission, ErrBypassed or ErrRoutesLost. Run may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	if g.ran.Swap(true) {
		return errors.New("gateway: Run called more than once")
	}
	defer g.process.Open()()
	err := g.run(ctx)
	if closing := g.ports.Close(); err == nil {
		err = closing
	}
	return err
}

// Remove removes the routes and rules that a run of this configuration leaves
// behind on purpose, including the blackholes, and returns their number.
func Remove(cfg *config.Config) (int, error) { return Protected(cfg).Remove() }

// Protected returns the prefixes, ports and rules that a gateway with this
// configuration installs.
func Protected(cfg *config.Config) routing.ProtectedSet {
	return routing.ProtectedSet{
		Prefixes: cfg.TUN.Routes, Ports: cfg.TUN.Local, UDP: cfg.LocalUDP(),
		UpstreamLinks: bypass.ProtectedBy(cfg).Routes.UpstreamLinks,
	}
}
