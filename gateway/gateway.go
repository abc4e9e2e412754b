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

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/audit"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/filter"
	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/internal/sample"
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
	// Load loads the configuration anew, for Renew and for the control socket.
	// Optional.
	Load func() (*config.Config, error)
	// Source is where Load finds it, in words for people: a file's path.
	Source string
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
	routes    tun.Routes
	local     tun.Local
	guard     *tun.Guard // of local, from open to the end of Run; nil for none
	flows     *flows.Set
	metrics   *metricSet
	own       *ownRegistry // nil where the registry is somebody else's
	refusals  sample.Lines // about refused knocks and authentications
	entries   sample.Lines // about knocks and authentications that were let in
	banLines  sample.Lines
	journal   journal
	audit     *audit.Log // nil where none is kept
	health    health
	intact    intact

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
		routes:  tun.Routes{Prefixes: cfg.TUN.Routes},
		local:   tun.Local{Ports: cfg.TUN.Local, UDP: cfg.LocalUDP()},
		flows:   flows.NewSet(o.Log),
		entries: sample.Lines{PerSecond: audit.DefaultPerSecond},
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
	if g.o.Confine != nil {
		if err := g.o.Confine(); err != nil {
			return err
		}
	}
	return p.open(ctx)
}

// open opens what takes no privilege, and runs the gateway.
func (p *parts) open(ctx context.Context) (err error) {
	g := p.g
	var all servers
	defer func() {
		if err != nil {
			_ = all.close() // what runs has closed itself
		}
	}()
	if all.control, err = g.listenControl(); err != nil {
		return err
	}
	store, err := g.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if all.metrics, err = g.listenMetrics(); err != nil {
		return err
	}
	if err := g.openAudit(); err != nil {
		return err
	}
	if err := p.assemble(ctx, store); err != nil {
		return err
	}
	p.servers = &all
	g.metrics.watch(p)
	return p.run(ctx, &all)
}

// servers are what the gateway listens with besides the stack; either may be nil.
type servers struct {
	metrics *metricsServer
	control *controlServer
}

func (s *servers) close() error { return errors.Join(s.metrics.Close(), s.control.Close()) }

// errPreparedLocal: rules and sockets of tun.local come with a device of our own, and without them the ports are not hidden.
var errPreparedLocal = errors.New("tun.local needs a device that knockgw makes itself, not one that was prepared: remove tun.local, or start without --prepared and --tun-fd")

// open opens the device. The blackholes come first, so that there is no moment
// at which the host would answer for a protected address, or for a port of its own.
func (g *Gateway) open() (tun.Device, error) {
	if g.o.Device != nil {
		if len(g.local.Ports) > 0 {
			return nil, errors.Join(errPreparedLocal, g.o.Device.Close())
		}
		return g.o.Device, nil
	}
	if err := g.routes.Blackhole(); err != nil {
		return nil, err
	}
	var err error
	if g.guard, err = g.local.Hide(); err != nil {
		return nil, err
	}
	t := &g.now.Load().cfg.TUN
	return tun.Open(tun.Options{Name: t.Name, MTU: t.MTU})
}

// attach routes the protected prefixes to the device, in whose queue packets wait
// until the gate stands.
func (g *Gateway) attach(device tun.Device) error {
	if g.o.Device != nil {
		return nil
	}
	cfg := g.now.Load().cfg
	if !tun.RoutesManaged {
		g.log.Warn("routes are set by hand on this system", "device", device.Info().Name, "routes", cfg.TUN.Routes)
	}
	if err := g.routes.Attach(device.Info().Name); err != nil {
		return err
	}
	if err := g.local.Attach(device.Info().Name); err != nil {
		return err
	}
	return checkUpstreams(cfg, device.Info().Name)
}

func (g *Gateway) openStore() (admission.Store, error) {
	o := admission.StoreOptions{Now: g.o.Now, Logger: g.log}
	if dir := g.now.Load().cfg.State.Dir; dir != "" {
		return admission.OpenFileStore(dir, o)
	}
	g.log.Warn("replay protection is in memory only: a captured knock works again after a restart, within its time window; set state.dir")
	return admission.NewMemoryStore(o), nil
}

// Remove takes away the routes and rules that running this configuration leaves behind
// on purpose, the blackholes among them. It reports how many there were.
func Remove(cfg *config.Config) (int, error) {
	local, err := tun.Local{Ports: cfg.TUN.Local, UDP: cfg.LocalUDP()}.Remove()
	if err != nil {
		return local, err
	}
	routes, err := tun.Routes{Prefixes: cfg.TUN.Routes}.Remove()
	return local + routes, err
}

// parts are a gateway in motion.
type parts struct {
	g      *Gateway
	gate   *admission.Gate
	stack  *netstack.Stack
	device tun.Device
	replay guard.Replay
	filter *filter.Filter // nil where packets are refused in user space
	// filtering: the device has the filter.
	filtering bool
	servers   *servers
}

// assemble makes the gate and the stack and joins them. The parts have no stack if it
// fails.
func (p *parts) assemble(ctx context.Context, store admission.Store) (err error) {
	g, now := p.g, p.g.now.Load()
	p.replay = guard.Replay{Store: store, Now: g.o.Now}
	p.gate, err = admission.New(admission.Options{
		Policy: now.policy, Store: store, Now: g.o.Now, Log: g.log,
		Deliver:  func(q *tun.Packet, v admission.Verdict) { p.stack.Inject(q, decision(v)) },
		Unparked: g.unparked,
		Evicted:  func(t tun.Tuple) { g.flows.Kill(key(t)) },
		Revoked:  p.revoked,
		Knocked:  g.knocked,
		Banned:   g.banned,
		Settled:  p.settlement,
		Mirror:   p.mirror(),
		TimeWait: netstack.TimeWaitTime,
		Limits:   limits(&now.cfg.Limits),
		Ban:      admission.Ban(now.cfg.Ban),
	})
	if err != nil {
		return err
	}
	if err := p.attachFilter(); err != nil {
		return err
	}
	for _, s := range now.services {
		s.join(p.gate, p.replay)
	}
	// Flows outlive ctx: the drain decides about them.
	flowctx := context.WithoutCancel(ctx)
	p.stack, err = netstack.New(netstack.Options{
		Device:    p.device,
		Admit:     p.admit,
		Egress:    p.egress,
		Handle:    func(r *netstack.Request) { p.handle(flowctx, r) },
		OpenPorts: now.openPorts(),
	})
	return err
}

// run is the gateway at work. The order in which it stops: refuse new flows,
// drain, close the device, wait for the stack, stop deciding knocks.
func (p *parts) run(ctx context.Context, all *servers) error {
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
	start(p.g.runAudit)
	start(p.runIntact)
	start(all.metrics.run)
	start(all.control.run)
	cfg := p.g.now.Load().cfg
	p.g.running.Store(p)
	p.g.log.Info("ready", "device", p.device.Info().Name, "routes", cfg.TUN.Routes, "services", len(cfg.Services), "metrics", cfg.Metrics.Listen)
	p.g.auditStart(cfg)
	close(p.g.ready)
	select {
	case <-ctx.Done():
		p.endReloads()
		p.drain()
	case <-work.Done():
		p.endReloads()
		p.gate.Drain()
		expired, cancel := context.WithCancel(context.Background())
		cancel()
		p.g.flows.Drain(expired)
	}
	p.g.auditStop(context.Cause(work))
	stop(nil)
	wg.Wait()
	return first
}

// endReloads waits for the reload that is under way, if any, and has no other begin.
func (p *parts) endReloads() {
	p.g.reloading.Lock()
	defer p.g.reloading.Unlock()
	p.g.running.Store(nil)
}

// drain refuses new flows and waits for those there are, until DrainTime is
// over; then it resets the rest. What relays have handed to the stack by then is
// waited for as well: a flow is over when its client has it all.
func (p *parts) drain() {
	p.gate.Drain()
	p.g.log.Info("stopping", "flows", p.g.flows.Len(), "drain", max(p.g.o.DrainTime, 0))
	p.g.now.Load().shut(nil) // nobody is going to accept these
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
	switch p.stack.Closing(t) {
	case netstack.Closed:
		return admission.Gone
	case netstack.TimeWait:
		return admission.InTimeWait
	default:
		return admission.Busy
	}
}

// revoked ends a flow that a reload has taken out of the gate's table. Where its
// relay is done, the stack may have something to send still.
func (p *parts) revoked(t tun.Tuple) {
	if !p.g.flows.Kill(key(t)) {
		p.stack.Abort(t)
	}
}

func decision(v admission.Verdict) netstack.Decision {
	return netstack.Decision{Pass: v.Action == admission.Pass, Open: v.Open, Anew: v.Anew}
}
