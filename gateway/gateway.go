// Package gateway puts the parts together: a Config becomes a running gateway.
//
// A Go program that wants its own services hidden, without a proxy in between,
// makes one from a Config whose services have no upstream and takes their
// connections from Listener:
//
//	gw, err := gateway.New(cfg, gateway.Options{})
//	ln, err := gw.Listener("api")
//	go http.Serve(ln, handler)
//	err = gw.Run(ctx)
//
// The parts do not know each other. What joins them is in plan.go: functions
// from the stack to the gate, and from the flows to both.
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
	"github.com/knockgw/knockgw/internal/audit"
	"github.com/knockgw/knockgw/internal/bypass"
	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/internal/routing"
	"github.com/knockgw/knockgw/tun"
)

// DrainTime is how long an orderly stop waits for the flows to end by
// themselves before it resets them: long enough for a request to get its
// reply, well within what service supervisors wait for.
const DrainTime = 5 * time.Second

// Options are what a configuration cannot say.
type Options struct {
	// Device is used instead of opening the one that the configuration names;
	// no routes are touched then. The gateway closes it.
	Device tun.Device
	// Log gets events; default: discard. No secret is ever in one.
	Log *slog.Logger
	// Registry gets the metrics; default: one of the gateway's own. Either is
	// served where metrics.listen says.
	Registry *prometheus.Registry
	// Now is the wall clock by which messages are judged; default time.Now.
	Now func() time.Time
	// DrainTime overrides the constant of that name; negative means not to wait.
	DrainTime time.Duration
	// Load loads the configuration anew, for Renew and for the control socket.
	// Optional.
	Load func() (*config.Config, error)
	// Source is where Load finds it, in words for people: a file's path.
	Source string
	// Restorer may start what adds routes and rules again that another program
	// deletes (RestoreRoutes), with the privileges that Confine takes away. It is
	// called once, before Confine, with the interface index of the device, and not
	// with a Device of the caller's. Optional: a gateway without Confine does it itself.
	Restorer func(hold routing.ProtectedSet, device int) error
	// Impaired gets what keeps clients out, each time that it changes: routes that
	// were deleted, addresses of tun.local that are not there. Optional.
	Impaired func(problems []string)
	// Confine may take every privilege away. It is called once, when the device is
	// open and the routes are set, before a packet is read and before the control
	// socket, the state and the metrics are opened: these are the unprivileged
	// account's. Optional.
	Confine func() error
}

// A Gateway is made of a configuration, which may change while it runs, and runs
// once.
type Gateway struct {
	o         Options
	log       *slog.Logger
	now       atomic.Pointer[setup]    // in force
	next      atomic.Pointer[setup]    // while a reload puts it in the place of now
	reloading sync.Mutex               // held by who changes now, next and running
	running   atomic.Pointer[parts]    // from when it is ready until it stops
	waiting   atomic.Pointer[[]string] // keys that wait for a restart
	started   time.Time
	hold      routing.ProtectedSet
	guard     *routing.PortReservation // of local, from open to the end of Run; nil for none
	flows     *flows.Table
	metrics   *metricSet
	own       *ownRegistry     // nil where the registry is somebody else's
	refusals  loglimit.Limiter // about refused knocks and authentications
	entries   loglimit.Limiter // about knocks and authentications that were let in
	banLines  loglimit.Limiter
	journal   journal
	audit     *audit.Log // nil where none is kept
	health    health
	intact    intact
	bypass    bypassMonitor

	authsRefused atomic.Uint64
	watchers     watchers
	ready        chan struct{}
	ran          atomic.Bool
}

// New makes a gateway of a valid Config. It touches nothing outside itself.
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
	var own *ownRegistry
	if o.Registry == nil {
		own = newRegistry()
		o.Registry = own.Registry
	}
	g := &Gateway{
		o: o, log: o.Log, own: own,
		started: o.Now(),
		hold:    Hold(cfg),
		flows:   flows.NewTable(o.Log),
		entries: loglimit.Limiter{PerSecond: audit.DefaultPerSecond},
		ready:   make(chan struct{}),
	}
	first, err := g.newSetup(cfg, nil)
	if err != nil {
		return nil, err
	}
	g.now.Store(first)
	if g.metrics, err = newMetrics(o.Registry); err != nil {
		return nil, err
	}
	g.metrics.reloads.began(g.started)
	return g, nil
}

// Ready is closed once packets are admitted or refused.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Run opens the device and moves packets until ctx ends, then drains: no new
// flows, and those there are have DrainTime to end. It returns nil after an
// orderly stop, and otherwise the first error; tun.ErrNoTUN and
// fs.ErrPermission are among what it may wrap. Run may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	if g.ran.Swap(true) {
		return errors.New("gateway: Run was called before")
	}
	defer g.own.open()()
	err := g.run(ctx)
	if closing := g.guard.Close(); err == nil {
		err = closing
	}
	return err
}

func (g *Gateway) run(ctx context.Context) (err error) {
	defer func() { g.now.Load().shut(nil) }() // their Accept ends when the gateway does, however it does
	if err := g.alone(); err != nil {
		return err // before anything else: its routes would be taken from the other
	}
	device, err := g.open()
	if err != nil {
		return err
	}
	p := &parts{g: g, device: device}
	defer func() {
		err = errors.Join(err, p.closeFilter())
		if p.stack == nil { // which closes the device
			err = errors.Join(err, device.Close())
		}
	}()
	if p.filter, err = g.openFilter(device); err != nil {
		return err
	}
	if err := g.attach(device); err != nil {
		return err
	}
	if g.o.Restorer != nil && g.o.Device == nil && routing.RoutesManaged {
		if err := g.o.Restorer(g.hold, device.Info().Index); err != nil {
			g.log.Warn("routes that another program deletes cannot be restored without a restart", "error", err)
		}
	}
	if g.o.Confine != nil {
		if err := g.o.Confine(); err != nil {
			return err
		}
	}
	return p.open(ctx)
}

// Remove takes away the routes and rules that running this configuration leaves behind
// on purpose, the blackholes among them. It reports how many there were.
func Remove(cfg *config.Config) (int, error) { return Hold(cfg).Remove() }

// Hold returns what a gateway with this configuration installs.
func Hold(cfg *config.Config) routing.ProtectedSet {
	return routing.ProtectedSet{Prefixes: cfg.TUN.Routes, Ports: cfg.TUN.Local, UDP: cfg.LocalUDP(), UpstreamLinks: bypass.ProtectedBy(cfg).Routes.UpstreamLinks}
}
