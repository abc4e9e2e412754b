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
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/filter"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/netstack"
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
}

// A Gateway is one configuration, ready to run once.
type Gateway struct {
	cfg       *config.Config
	o         Options
	log       *slog.Logger
	policy    *admission.Policy
	services  map[string]*service
	routes    tun.Routes
	flows     *flows.Set
	metrics   *metrics
	refusals  sample // lines about refused knocks
	listeners map[string]*listener
	ready     chan struct{}
	ran       atomic.Bool
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
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	g := &Gateway{
		cfg: cfg, o: o, log: o.Log,
		services:  make(map[string]*service),
		routes:    tun.Routes{Prefixes: cfg.TUN.Routes},
		flows:     flows.NewSet(o.Log),
		listeners: make(map[string]*listener),
		ready:     make(chan struct{}),
	}
	var err error
	if g.policy, err = policy(cfg); err != nil {
		return nil, err
	}
	for i := range cfg.Services {
		s, err := g.newService(&cfg.Services[i])
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", cfg.Services[i].Name, err)
		}
		g.services[s.Name] = s
		if s.Upstream.IsZero() {
			g.listeners[s.Name] = newListener(s.Service)
		}
	}
	if g.metrics, err = newMetrics(o.Registry); err != nil {
		return nil, err
	}
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
	return g.run(ctx)
}

func (g *Gateway) run(ctx context.Context) (err error) {
	for _, l := range g.listeners {
		defer l.shut() // their Accept ends when the gateway does, however it does
	}
	store, err := g.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	server, err := g.listenMetrics()
	if err != nil {
		return err
	}
	device, err := g.open()
	if err != nil {
		return errors.Join(err, server.Close())
	}
	p, err := g.assemble(ctx, store, device)
	if err != nil {
		return errors.Join(err, p.closeFilter(), device.Close(), server.Close())
	}
	defer func() { err = errors.Join(err, p.closeFilter()) }()
	g.metrics.watch(p)
	return p.run(ctx, server)
}

// open opens the device. The blackholes come first, so that there is no moment
// at which the host would answer for a protected address.
func (g *Gateway) open() (tun.Device, error) {
	if g.o.Device != nil {
		return g.o.Device, nil
	}
	if err := g.routes.Blackhole(); err != nil {
		return nil, err
	}
	return tun.Open(tun.Options{Name: g.cfg.TUN.Name, MTU: g.cfg.TUN.MTU})
}

// attach routes the protected prefixes to the device, once the gate stands.
func (g *Gateway) attach(device tun.Device) error {
	if g.o.Device != nil {
		return nil
	}
	if !tun.RoutesManaged {
		g.log.Warn("routes are set by hand on this system", "device", device.Info().Name, "routes", g.cfg.TUN.Routes)
	}
	if err := g.routes.Attach(device.Info().Name); err != nil {
		return err
	}
	return g.checkUpstreams(device.Info().Name)
}

func (g *Gateway) openStore() (admission.Store, error) {
	o := admission.StoreOptions{Now: g.o.Now, Logger: g.log}
	if dir := g.cfg.State.Dir; dir != "" {
		return admission.OpenFileStore(dir, o)
	}
	g.log.Warn("replay protection is in memory only: a captured knock works again after a restart, within its time window; set state.dir")
	return admission.NewMemoryStore(o), nil
}

// Remove takes away the routes that running this configuration leaves behind
// on purpose, the blackholes among them. It reports how many there were.
func Remove(cfg *config.Config) (int, error) {
	return tun.Routes{Prefixes: cfg.TUN.Routes}.Remove()
}

// parts are a gateway in motion.
type parts struct {
	g      *Gateway
	gate   *admission.Gate
	stack  *netstack.Stack
	device tun.Device
	filter *filter.Filter // nil where packets are refused in user space
	// filtering: the device has the filter.
	filtering bool
}

// assemble makes the filter, the gate and the stack and joins them. The parts are
// not nil if it fails: a filter may be among them that is to be closed.
func (g *Gateway) assemble(ctx context.Context, store admission.Store, device tun.Device) (*parts, error) {
	p := &parts{g: g, device: device}
	var err error
	if p.filter, err = g.openFilter(device); err != nil {
		return p, err
	}
	p.gate, err = admission.New(admission.Options{
		Policy: g.policy, Store: store, Now: g.o.Now, Log: g.log,
		Deliver:  func(q *tun.Packet, v admission.Verdict) { p.stack.Inject(q, decision(v)) },
		Evicted:  func(t tun.Tuple) { g.flows.Kill(key(t)) },
		Knocked:  g.knocked,
		Settled:  p.settlement,
		Mirror:   p.mirror(),
		TimeWait: netstack.TimeWaitTime,
		Limits:   limits(&g.cfg.Limits),
		Ban:      admission.Ban(g.cfg.Ban),
	})
	if err != nil {
		return p, err
	}
	if err := p.attachFilter(); err != nil {
		return p, err
	}
	replay := replay{store: store, now: g.o.Now}
	for _, s := range g.services {
		s.join(p.gate, replay)
	}
	// Flows outlive ctx: the drain decides about them.
	flowctx := context.WithoutCancel(ctx)
	p.stack, err = netstack.New(netstack.Options{
		Device:    device,
		Admit:     func(q *tun.Packet) netstack.Decision { return decision(p.gate.Admit(q)) },
		Egress:    p.gate.Egress,
		Handle:    func(r *netstack.Request) { p.handle(flowctx, r) },
		OpenPorts: g.openPorts(),
	})
	return p, err
}

// run is the gateway at work. The order in which it stops: refuse new flows,
// drain, close the device, wait for the stack, stop deciding knocks.
func (p *parts) run(ctx context.Context, server *metricsServer) error {
	work, stop := context.WithCancelCause(context.Background())
	var (
		wg    sync.WaitGroup
		first error
		once  sync.Once
	)
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(work); err != nil {
				once.Do(func() { first = err })
				stop(err)
			}
		})
	}
	start(p.gate.Run)
	start(p.stack.Run)
	start(p.runFilter)
	start(server.run)
	if err := p.g.attach(p.device); err != nil {
		once.Do(func() { first = err })
		stop(err)
	} else {
		p.g.log.Info("ready", "device", p.device.Info().Name, "routes", p.g.cfg.TUN.Routes, "services", len(p.g.services), "metrics", p.g.cfg.Metrics.Listen)
		close(p.g.ready)
	}
	select {
	case <-ctx.Done():
		p.drain()
	case <-work.Done():
		p.gate.Drain()
		expired, cancel := context.WithCancel(context.Background())
		cancel()
		p.g.flows.Drain(expired)
	}
	stop(nil)
	wg.Wait()
	return first
}

// drain refuses new flows and waits for those there are, until DrainTime is
// over; then it resets the rest. What relays have handed to the stack by then is
// waited for as well: a flow is over when its client has it all.
func (p *parts) drain() {
	p.gate.Drain()
	p.g.log.Info("stopping", "flows", p.g.flows.Len(), "drain", max(p.g.o.DrainTime, 0))
	for _, l := range p.g.listeners {
		l.shut() // nobody is going to accept these
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(p.g.o.DrainTime, 0))
	defer cancel()
	if left := p.g.flows.Drain(ctx); left > 0 {
		p.g.log.Info("flows reset", "count", left)
	}
	for p.gate.Unsettled() > 0 {
		select {
		case <-time.After(settlePoll):
		case <-ctx.Done():
			return
		}
	}
}

// settlePoll is how often the end of a drain asks whether everything was sent.
const settlePoll = 10 * time.Millisecond

// settlement translates for the gate how far the stack is with a flow.
func (p *parts) settlement(t tun.Tuple) admission.Settlement {
	svc := p.gate.Policy().Service(t.Destination())
	switch p.stack.Closing(t, svc != nil && svc.Open()) {
	case netstack.Closed:
		return admission.Gone
	case netstack.TimeWait:
		return admission.InTimeWait
	default:
		return admission.Busy
	}
}

func decision(v admission.Verdict) netstack.Decision {
	return netstack.Decision{Pass: v.Action == admission.Pass, Open: v.Open, Anew: v.Anew}
}
