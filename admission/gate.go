package admission

import (
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/ratelimit"
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
	onDeferred func(*packet.Packet, Verdict) // a packet that was parked; may be nil
	onEvicted  func(packet.Tuple)
	onRevoked  func(packet.Tuple)
	onKnock    func(knock.Event)
	onBan      func(BanEvent)
	closeState func(packet.Tuple) CloseState
	offload    Offload
	timeWait   time.Duration
	mtu        int
	log        *slog.Logger

	banLines, storeLines loglimit.Limiter

	stats counters

	fragments fragments

	draining atomic.Bool
	knocks   *knock.Pipeline
	// Flows to be forgotten by the stack, of hidden services and of open ones: a
	// flood of the latter must not hold up the former.
	evicted     chan packet.Tuple
	evictedOpen chan packet.Tuple

	rebuildMu sync.Mutex // held while the table of knocks or the policy is replaced; before mu

	mu             sync.Mutex    // guards all below; never held across I/O, crypto or calls out
	tick           time.Duration // when the gate last swept
	limits         Limits
	ban            Ban
	flows          map[packet.Tuple]*flow
	pendingOpen    pendingFlows             // of all open services
	pendingHidden  pendingFlows             // of all hidden services
	sweptTo        [4]int                   // how far sweepUnproven came in each of their sets
	pendingBytes   int                      // bytes that all of them have sent, with overhead
	closing        queue                    // flows in state ending, those asked about longest ago first
	inTimeWait     queue                    // flows in state closing, oldest first
	services       []*serviceState          // of the policy's services, in its order
	servicesByName map[string]*serviceState // the same by name; replaced with turning held as well
	sources        map[packet.Addr]*source
	freeSources    []*source
	grants         int
	subnets        map[packet.Addr]*subnet // by IPv6 /64
	clients        map[string]*clientUsage // by client id
	deferred       deferredQueue
	bans           *ratelimit.Bans[packet.Addr]
	retry          retryBuffer   // the worker's
	inboundOnly    bool          // of a Judge, until it sees a packet of the stack
	decided        chan struct{} // closed and renewed when a knock is decided while a caller waits
	waiting        int           // in Authenticate, for knocks to be decided
}

// New makes a gate. It decides knocks only while Run runs.
func New(o Options) (*Gate, error) {
	if o.Policy == nil || o.Store == nil || o.Deliver == nil || o.Evicted == nil {
		return nil, errors.New("admission: Policy, Store, Deliver and Evicted are required")
	}
	l := &o.Limits
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
	g := &Gate{
		store: o.Store, now: o.Now, mono: o.Mono,
		deliver: o.Deliver, onDeferred: o.Deferred, onEvicted: o.Evicted, onRevoked: o.Revoked, onKnock: o.Knocked, onBan: o.Banned,
		closeState: o.CloseState, offload: o.Offload, timeWait: o.TimeWait, mtu: o.MTU, limits: *l, ban: o.Ban, log: o.Log,
		evicted:     make(chan packet.Tuple, evictedBacklog),
		evictedOpen: make(chan packet.Tuple, evictedBacklog),
		flows:       make(map[packet.Tuple]*flow),
		sources:     make(map[packet.Addr]*source, l.Knocks),
		freeSources: make([]*source, 0, freeSources),
		subnets:     make(map[packet.Addr]*subnet),
		clients:     make(map[string]*clientUsage),
		bans:        ratelimit.NewBans[packet.Addr](ratelimit.BanPolicy(o.Ban), maxFailing),
		decided:     make(chan struct{}),
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.mtu <= 0 {
		g.mtu = packet.MaxPacket
	}
	if g.mono == nil {
		start := time.Now()
		g.mono = func() time.Duration { return time.Since(start) }
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.closeState == nil {
		g.closeState = func(packet.Tuple) CloseState { return EndpointClosed }
	}
	if g.offload == nil {
		g.offload = noOffload{}
	}
	if g.onRevoked == nil {
		g.onRevoked = g.onEvicted
	}
	if g.onKnock == nil {
		g.onKnock = func(knock.Event) {}
	}
	if g.onBan == nil {
		g.onBan = g.logBan
	}
	g.knocks = knock.New(knock.Options{
		Lock: &g.mu, Policy: g.policy.Load, Store: o.Store, Now: g.now, Mono: g.mono, Queue: l.Knocks,
		Pending: g.markPending, Done: g.knockDone,
	})
	g.deferred.init(l.DeferredSYNs)
	g.fragments.init(g.mono, &g.stats)
	g.commit(g.stage(o.Policy))
	first := g.knocks.NewBuilder().Build(o.Policy, g.now(), nil)
	g.knocks.SetTable(first)
	g.offload.Expect(first.Len(), first.Fields())
	return g, nil
}

// freeSources is how many records of addresses are kept for the next: what a
// flood of forged SYNs to an open service goes through in some milliseconds.
const freeSources = 4096

// evictedBacklog is how many evictions may wait to be told to the stack.
const evictedBacklog = 1024

// Policy returns the policy in force.
func (g *Gate) Policy() *policy.Policy { return g.policy.Load() }

// Drain makes the gate refuse new flows; those in the table live on.
func (g *Gate) Drain() { g.draining.Store(true) }

// Admit judges a packet that came from outside, after its Parse. It never
// blocks, logs or does I/O, and does not keep p. It allocates only to record a
// flow that it lets in. Where p was the last missing fragment of an admitted
// flow's packet, it becomes that packet.
func (g *Gate) Admit(p *packet.Packet) Verdict {
	v := g.admit(p)
	g.stats.count(p, v)
	return v
}

func (g *Gate) admit(p *packet.Packet) Verdict {
	if p.Reassemblable() {
		return g.admitFragment(p)
	}
	if p.DropReason != packet.NotDropped {
		return Verdict{Reason: ReasonMalformed}
	}
	switch p.Proto {
	case packet.TCP:
		return g.admitTCP(p)
	case packet.UDP:
		return knockVerdicts[g.knocks.Datagram(p)]
	default:
		return g.admitICMP(p)
	}
}

func (g *Gate) admitTCP(p *packet.Packet) Verdict {
	policy := g.policy.Load()
	svc := policy.Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	syn := p.Flags&(packet.SYN|packet.ACK|packet.RST|packet.FIN) == packet.SYN
	switch {
	case svc != nil:
		return g.admitToService(p, policy, svc, syn)
	case syn && policy.Legacy():
		return g.admitLegacy(p)
	default:
		return Verdict{Reason: ReasonNotService}
	}
}

// admitToService judges a TCP packet to a service of policy.
func (g *Gate) admitToService(p *packet.Packet, policy *policy.Policy, svc *policy.Service, syn bool) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.policy.Load(); now != policy { // another one meanwhile
		policy = now
		if svc = policy.Lookup(p.Tuple.Dst, p.Tuple.DstPort); svc == nil {
			return Verdict{Reason: ReasonNotService}
		}
	}
	f := g.flows[p.Tuple]
	if syn && (f == nil || p.Seq != f.isn) {
		// First of all: a knock's port is drawn at random, and may be a flow's.
		if m, ok := g.knocks.MatchSYN(p, svc, policy); ok {
			return knockVerdicts[g.knocks.SYN(p.Tuple, &m)]
		}
	}
	if f != nil && (!syn || p.Seq == f.isn || f.state != stateTimeWait) {
		// A SYN in the middle of a flow may be forged. Only TIME_WAIT gives its
		// tuple away (RFC 1122, 4.2.2.13).
		return g.admitSegment(f, p)
	}
	switch {
	case syn:
		return g.admitSYN(p, g.services[svc.Index()], f)
	case svc.Open() && p.Flags&(packet.SYN|packet.ACK|packet.RST) == packet.ACK:
		return g.admitCookie(p, g.services[svc.Index()])
	default:
		return Verdict{Reason: ReasonNoFlow}
	}
}

// admitSegment judges a segment of a flow in the table. The caller holds g.mu.
func (g *Gate) admitSegment(f *flow, p *packet.Packet) Verdict {
	unstamped := f.unstamped(p)
	if !f.accepts(p) && !g.inboundOnly {
		return Verdict{Reason: ReasonOutOfWindow, Open: f.open}
	}
	if !g.chargeBytes(f, p) {
		return Verdict{Reason: ReasonUnauthenticated, Open: f.open}
	}
	f.lastHeard = g.tick
	return Verdict{
		Action: Pass, Reason: ReasonFlow, Open: f.open,
		Handling: Handling{Reset: f.revoked, Unstamped: unstamped, Timestamp: f.echo},
	}
}

// admitSYN judges a SYN that begins a flow; old is the flow whose tuple it
// takes over, if any. The caller holds g.mu.
func (g *Gate) admitSYN(p *packet.Packet, at *serviceState, old *flow) Verdict {
	svc := at.service
	s := g.sources[p.Tuple.Src]
	if svc.Open() {
		if g.isBanned(p.Tuple.Src) && (s == nil || s.grantForSYN(at, p.Tuple.SrcPort, g.mono()) == nil) {
			if svc.Methods != 0 && s != nil && s.queued > 0 {
				return g.deferSYN(p, s) // it may have a knock of its own among them
			}
			return Verdict{Reason: ReasonBanned}
		}
		return g.addFlow(p, at, old, nil, ReasonOpen)
	}
	if s == nil {
		return Verdict{Reason: ReasonNoGrant}
	}
	if v := g.admitOnGrant(p, at, s, old, s.queued == 0); v.Action != Hold {
		return v
	}
	return g.deferSYN(p, s)
}

// admitOnGrant judges a SYN by the grants of its source: one to a hidden service, or
// from a banned source. final says that no knock that came before the SYN is
// waiting; while one is, the SYN is to be held rather than take a place that
// another needs: of connections that begin at once, each with its knock, none
// must drive out another. The caller holds g.mu.
func (g *Gate) admitOnGrant(p *packet.Packet, at *serviceState, s *source, old *flow, final bool) Verdict {
	gr := s.grantForSYN(at, p.Tuple.SrcPort, g.mono())
	switch {
	case gr != nil && at.service.Open(): // its source is banned, and the grant lets it in
		return g.addFlow(p, at, old, nil, ReasonOpen)
	case gr != nil && (final || gr.available() > 0):
		return g.addFlow(p, at, old, gr, ReasonGrant)
	case final:
		return Verdict{Reason: ReasonNoGrant}
	default:
		return Verdict{Action: Hold, Reason: ReasonDeferred}
	}
}

// addFlow lets a flow in, on a grant or, in open services, without. The caller holds g.mu.
func (g *Gate) addFlow(p *packet.Packet, at *serviceState, old *flow, gr *grant, why Reason) Verdict {
	if g.draining.Load() {
		return Verdict{Reason: ReasonDraining}
	}
	s := g.sourceOf(p.Tuple.Src)
	if !g.subnetOf(s).admits(gr != nil, g.limits.FlowsPerSource) {
		g.removeIfUnused(s)
		return Verdict{Reason: ReasonSourceLimit}
	}
	s.flows++ // before others go, which may be the last to hold the source
	if old != nil {
		g.drop(old)
	}
	if gr == nil && !g.roomOpen(at) || gr != nil && !g.roomHidden(gr, s) {
		s.flows--
		g.removeIfUnused(s)
		return Verdict{Reason: ReasonFlowLimit}
	}
	f := &flow{
		tuple: p.Tuple, service: at, grant: gr, source: s,
		mode: at.service.Mode, open: at.service.Open(),
		tcb: tcb{isn: p.Seq}, admittedAt: g.mono(), lastHeard: g.mono(),
	}
	if len(p.Data) == 0 {
		f.lastHeard = math.MaxInt64 // a socket's: no packet of it is seen here
	}
	g.flows[f.tuple] = f
	g.offload.Flow(f.tuple, true)
	if s.subnet.offloaded++; s.subnet.offloaded == 1 {
		g.offload.Subnet(s.addr.Subnet(), true)
	}
	g.list(f)
	return Verdict{Action: Pass, Reason: why, Open: f.open, Handling: Handling{TupleReused: old != nil}}
}

// CookieWindow is how long after its quota last overflowed an open service's
// stray ACKs are taken for answers to SYN cookies. The stack's own cookies
// live a little longer.
const CookieWindow = 60 * time.Second

// admitCookie judges an ACK to an open service that belongs to no flow: under a
// SYN flood it may complete a handshake that was evicted here but that the
// stack can verify from the acknowledgement number alone. The caller holds g.mu.
func (g *Gate) admitCookie(p *packet.Packet, at *serviceState) Verdict {
	if !at.flooded || g.mono()-at.floodedAt > CookieWindow {
		return Verdict{Reason: ReasonNoFlow}
	}
	v := g.addFlow(p, at, nil, nil, ReasonCookie)
	if v.Action == Pass {
		g.flows[p.Tuple].bearsCookie(p)
	}
	return v
}

// admitICMP judges an ICMP packet. Only a path MTU is of interest, and only as a
// claim (see pathmtu.go): all other errors are soft for flows that are in the
// table (RFC 5927, 5). No ICMP reaches the stack.
func (g *Gate) admitICMP(p *packet.Packet) Verdict {
	sent, seq, ok := p.OriginalDatagram()
	if !ok || sent.Src != p.Tuple.Dst {
		return Verdict{Reason: ReasonICMP}
	}
	v := Verdict{Reason: ReasonICMP}
	g.mu.Lock()
	f := g.flows[sent.Reverse()]
	if f != nil && f.inFlight(seq) && g.claim(f, p.PathMTU(), seq) {
		v = Verdict{Action: Pass, Reason: ReasonICMPError, Open: f.open}
	}
	g.mu.Unlock()
	return v
}

// admitLegacy judges a SYN to a port that is no service's.
func (g *Gate) admitLegacy(p *packet.Packet) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m, ok := g.knocks.MatchSYN(p, nil, g.policy.Load()); ok {
		return knockVerdicts[g.knocks.SYN(p.Tuple, &m)]
	}
	return Verdict{Reason: ReasonNotService}
}
