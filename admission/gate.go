package admission

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// A Gate decides about packets. All methods are safe for concurrent use.
type Gate struct {
	policy     atomic.Pointer[policy.Policy]
	store      replay.Store
	now        func() time.Time
	mono       func() time.Duration
	deliver    func(*packet.Packet, Verdict)
	onDeferred func(*packet.Packet, Verdict) // may be nil
	onRevoked  func(packet.Tuple)
	onKnock    func(knock.Event)
	onBan      func(BanEvent)
	offload    Offload
	mtu        int
	log        *slog.Logger
	storeLines loglimit.Limiter

	stats     counters
	draining  atomic.Bool
	fragments fragments
	knocks    *knock.Pipeline

	rebuildMu sync.Mutex // held while the table of knocks or the policy is replaced; before mu

	mu             sync.Mutex // guards all below; never held across I/O, crypto or calls out
	limits         Limits
	flows          conntrack
	sources        sourceTable
	services       []*serviceState          // of the policy's services, in its order
	servicesByName map[string]*serviceState // replaced with rebuildMu held as well
	deferred       deferredQueue
	bans           banTable
	retry          retryBuffer   // the worker's
	inboundOnly    bool          // of a Simulator, until it sees a packet of the stack
	decided        chan struct{} // closed and replaced when a knock is decided while a caller waits
	waiting        int           // callers of Authenticate that wait for knocks to be decided
}

// New makes a gate. It decides knocks only while Run runs.
func New(o Options) (*Gate, error) {
	if o.Policy == nil || o.Store == nil || o.Deliver == nil || o.Evicted == nil {
		return nil, errors.New("admission: Policy, Store, Deliver and Evicted are required")
	}
	o.setDefaults()
	g := &Gate{
		store: o.Store, now: o.Now, mono: o.Mono, deliver: o.Deliver, onDeferred: o.Deferred, onRevoked: o.Revoked,
		onKnock: o.Knocked, onBan: o.Banned, offload: o.Offload, mtu: o.MTU, limits: o.Limits, log: o.Log,
		decided: make(chan struct{}),
	}
	g.sources.init(&g.mu, &g.limits, g.mono, o.Offload)
	g.flows.init(&g.sources, &o)
	g.bans.init(&g.mu, g.mono, o.Ban)
	g.deferred.init(o.Limits.DeferredSYNs)
	g.fragments.init(g.mono, &g.stats)
	g.knocks = knock.New(knock.Options{
		Lock: &g.mu, Policy: g.policy.Load, Store: o.Store, Now: g.now, Mono: g.mono, Queue: o.Limits.Knocks,
		Pending: g.sources.markPending, Done: g.knockDone,
	})

	g.commit(stagePolicy(o.Policy, nil))
	first := g.knocks.NewBuilder().Build(o.Policy, g.now(), nil)
	g.knocks.SetTable(first)
	g.offload.Expect(first.Len(), first.Fields())
	return g, nil
}

// setDefaults fills in what the caller has left out.
func (o *Options) setDefaults() {
	o.Limits.setDefaults()
	if o.Now == nil {
		o.Now = time.Now
	}

	if o.Mono == nil {
		start := time.Now()
		o.Mono = func() time.Duration { return time.Since(start) }
	}
	if o.MTU <= 0 {
		o.MTU = packet.MaxPacket
	}

	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CloseState == nil {
		o.CloseState = func(packet.Tuple) CloseState { return EndpointClosed }
	}
	if o.Offload == nil {
		o.Offload = noOffload{}
	}
	if o.Revoked == nil {
		o.Revoked = o.Evicted
	}
	if o.Knocked == nil {
		o.Knocked = func(knock.Event) {}
	}
	if o.Banned == nil {
		o.Banned = newBanLogger(o.Log, o.Now)
	}
}

// setDefaults replaces fields that are not positive.
func (l *Limits) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.Flows, DefaultFlows}, {&l.HalfOpen, DefaultHalfOpen},
		{&l.Grants, DefaultGrants}, {&l.GrantsPerSource, DefaultGrantsPerSource},
		{&l.GrantsPerClient, DefaultGrantsPerClient}, {&l.FlowsPerClient, DefaultFlowsPerClient},
		{&l.FlowsPerSource, DefaultFlowsPerSource},
		{&l.Knocks, DefaultKnocks}, {&l.KnocksPerSource, DefaultKnocksPerSource},
		{&l.DeferredSYNs, DefaultDeferredSYNs}, {&l.DeferredSYNsPerSource, DefaultDeferredSYNsPerSource},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}

// Policy returns the policy in force.
func (g *Gate) Policy() *policy.Policy { return g.policy.Load() }

// Drain makes the gate refuse new flows; those in the table live on.
func (g *Gate) Drain() { g.draining.Store(true) }
