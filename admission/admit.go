package admission

import (
	"math"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// The life of a packet, in the order of this file:
//
//	Admit
//	  1. a fragment of the source of a flow     held; the whole goes on     admitFragment
//	  2. headers or checksums invalid           drop
//	  TCP, admitTCP and admitToService
//	  3. a SYN that matches a precomputed knock queued; source is pending   package knock
//	  4. a segment of a flow in the table       pass, if its client can     admitSegment
//	                                            have sent it
//	  5. a SYN to an open service               pass within quota, added    admitSYN, addFlow
//	  6. a SYN of a source with a grant         pass within quota, added    admitOnGrant, addFlow
//	  7. a SYN of a pending source              deferred                    deferredQueue
//	  8. an ACK to an open service under flood  pass, added                 admitCookie
//	  UDP
//	  9. a datagram that could be a knock       queued; source is pending   package knock
//	  ICMP
//	 10. an error with a path MTU for a flow    pass                        admitICMP
//	 11. everything else                        drop, counted
//	Egress
//	 12. TCP of a flow in the table             leaves; drop all else
//
// How a knock goes on from there is in package knock, and its end in knock.go; a
// deferred SYN goes on in defer.go. What a flow may do is in conntrack.go and
// segment.go.

// Admit decides about a packet that came from outside, after its Parse. It
// never blocks, logs or does I/O, and does not keep p. It allocates only to add
// a flow. Where p was the last missing fragment of an admitted flow's packet,
// it becomes that packet.
func (g *Gate) Admit(p *packet.Packet) (v Verdict) {
	switch {
	case p.Reassemblable():
		v = g.admitFragment(p)
	case p.DropReason != packet.NotDropped:
		v = Verdict{Reason: ReasonMalformed}
	case p.Proto == packet.TCP:
		v = g.admitTCP(p)
	case p.Proto == packet.UDP:
		v = knockVerdicts[g.knocks.Datagram(p, g.policy.Load())]
	default:
		v = g.admitICMP(p)
	}
	g.stats.count(p, v)
	return v
}

// knockVerdicts are the gate's verdicts by the answers of package knock.
var knockVerdicts = [...]Verdict{
	knock.NotService:   {Reason: ReasonNotService},
	knock.NotKnock:     {Reason: ReasonNotKnock},
	knock.OverBudget:   {Reason: ReasonBudget},
	knock.QueueFull:    {Reason: ReasonQueueFull},
	knock.PartReceived: {Action: Hold, Reason: ReasonKnockPart},
	knock.Queued:       {Action: Hold, Reason: ReasonKnock},
}

// admitTCP decides about a segment. Where there is no service, it does not take
// the lock.
func (g *Gate) admitTCP(p *packet.Packet) Verdict {
	pol := g.policy.Load()
	svc := pol.Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	syn := p.Flags&(packet.SYN|packet.ACK|packet.RST|packet.FIN) == packet.SYN
	if svc == nil && (!syn || !pol.Legacy()) {
		return Verdict{Reason: ReasonNotService}
	}
	return g.admitToService(p, pol, svc, syn)
}

// admitToService decides about a segment to svc, or about a SYN that may be a
// part of a sequence in the legacy form where svc is nil. Both are of pol, and
// looked up again if another policy is in force by now.
func (g *Gate) admitToService(p *packet.Packet, pol *policy.Policy, svc *policy.Service, syn bool) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cur := g.policy.Load(); cur != pol {
		pol = cur
		svc = pol.Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	}
	if svc == nil {
		if syn {
			if m, ok := g.knocks.MatchSYN(p, nil, pol); ok {
				return knockVerdicts[g.knocks.SYN(p.Tuple, &m)]
			}
		}
		return Verdict{Reason: ReasonNotService}
	}

	f := g.flows.byTuple[p.Tuple]
	if syn && (f == nil || p.Seq != f.isn) {
		// First of all: a knock's port is chosen at random, and may be a flow's.
		if m, ok := g.knocks.MatchSYN(p, svc, pol); ok {
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

// admitSegment decides about a segment of a flow in the table. The caller holds
// g.mu.
func (g *Gate) admitSegment(f *flow, p *packet.Packet) Verdict {
	unstamped := f.unstamped(p)
	if !f.accepts(p) && !g.inboundOnly {
		return Verdict{Reason: ReasonOutOfWindow, Open: f.open}
	}
	if !g.flows.chargeBytes(f, p) {
		return Verdict{Reason: ReasonUnauthenticated, Open: f.open}
	}
	f.lastHeard = g.flows.tick
	return Verdict{
		Action: Pass, Reason: ReasonFlow, Open: f.open,
		Handling: Handling{Reset: f.revoked, Unstamped: unstamped, Timestamp: f.echo},
	}
}

// admitSYN decides about a SYN that begins a flow; old is the flow in TIME_WAIT
// whose tuple it takes over, if any. The caller holds g.mu.
func (g *Gate) admitSYN(p *packet.Packet, at *serviceState, old *flow) Verdict {
	svc := at.service
	s := g.sources.byAddr[p.Tuple.Src]
	if svc.Open() {
		if !g.bans.isBanned(p.Tuple.Src) || s != nil && s.grantForSYN(at, p.Tuple.SrcPort, g.mono()) != nil {
			return g.addFlow(p, at, old, nil, ReasonOpen)
		}
		if svc.Methods == 0 || s == nil || s.queued == 0 {
			return Verdict{Reason: ReasonBanned}
		}
		return g.deferred.add(p, s, g.mono(), g.limits.DeferredSYNsPerSource) // one of its knocks may make a grant
	}

	if s == nil {
		return Verdict{Reason: ReasonNoGrant}
	}
	if v := g.admitOnGrant(p, at, s, old, s.queued == 0); v.Action != Hold {
		return v
	}
	return g.deferred.add(p, s, g.mono(), g.limits.DeferredSYNsPerSource)
}

// admitOnGrant decides about a SYN by the grants of its source: a SYN to a
// hidden service, or from a banned source. final says that no knock that came
// before the SYN is waiting; while one is, the SYN is held rather than take a
// place that another needs: of connections that begin at once, each with its
// knock, none must evict another. The caller holds g.mu.
func (g *Gate) admitOnGrant(p *packet.Packet, at *serviceState, s *source, old *flow, final bool) Verdict {
	gr := s.grantForSYN(at, p.Tuple.SrcPort, g.mono())
	switch {
	case gr != nil && at.service.Open(): // its source is banned, and the grant admits it
		return g.addFlow(p, at, old, nil, ReasonOpen)
	case gr != nil && (final || gr.available() > 0):
		return g.addFlow(p, at, old, gr, ReasonGrant)
	case final:
		return Verdict{Reason: ReasonNoGrant}
	default:
		return Verdict{Action: Hold, Reason: ReasonDeferred}
	}
}

// addFlow adds a flow to the table, on a grant or, in open services, without.
// The caller holds g.mu.
func (g *Gate) addFlow(p *packet.Packet, at *serviceState, old *flow, gr *grant, why Reason) Verdict {
	if g.draining.Load() {
		return Verdict{Reason: ReasonDraining}
	}
	s := g.sources.get(p.Tuple.Src)
	if !g.sources.subnetOf(s).admits(gr != nil, g.limits.FlowsPerSource) {
		g.sources.removeIfUnused(s)
		return Verdict{Reason: ReasonSourceLimit}
	}

	s.flows++ // before others are dropped, which may be the last to hold the source
	if old != nil {
		g.flows.drop(old)
	}
	if gr == nil && !g.flows.roomOpen(at) || gr != nil && !g.flows.roomHidden(gr, s) {
		s.flows--
		g.sources.removeIfUnused(s)
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
	g.flows.add(f)
	return Verdict{Action: Pass, Reason: why, Open: f.open, Handling: Handling{TupleReused: old != nil}}
}

// CookieWindow is for how long after its quota last overflowed an open
// service's stray ACKs are taken for answers to SYN cookies. The stack's own
// cookies live a little longer.
const CookieWindow = 60 * time.Second

// admitCookie decides about an ACK to an open service that belongs to no flow:
// under a SYN flood it may complete a handshake that was evicted here but that
// the stack can verify from the acknowledgment number alone. The caller holds
// g.mu.
func (g *Gate) admitCookie(p *packet.Packet, at *serviceState) Verdict {
	if !at.flooded || g.mono()-at.floodedAt > CookieWindow {
		return Verdict{Reason: ReasonNoFlow}
	}
	v := g.addFlow(p, at, nil, nil, ReasonCookie)
	if v.Action == Pass {
		g.flows.byTuple[p.Tuple].bearsCookie(p)
	}
	return v
}

// admitICMP decides about an ICMP packet. Only a path MTU is of interest, and
// only as a claim (see pathmtu.go): all other errors are soft for flows that
// are in the table (RFC 5927, 5). No ICMP reaches the stack.
func (g *Gate) admitICMP(p *packet.Packet) Verdict {
	sent, seq, ok := p.OriginalDatagram()
	if !ok || sent.Src != p.Tuple.Dst {
		return Verdict{Reason: ReasonICMP}
	}

	v := Verdict{Reason: ReasonICMP}
	g.mu.Lock()
	f := g.flows.byTuple[sent.Reverse()]
	if f != nil && f.inFlight(seq) && f.claimMTU(p.PathMTU(), seq, g.mtu) {
		v = Verdict{Action: Pass, Reason: ReasonICMPError, Open: f.open}
	}
	g.mu.Unlock()
	return v
}

// admitFragment decides about a fragment. When it completes a packet of an
// admitted flow, *p becomes that packet, borrowed until the next fragment.
// Fragments of sources without a flow are dropped unread. A complete packet
// counts only as a segment of a flow: a knock or a SYN is never accepted in
// fragments.
func (g *Gate) admitFragment(p *packet.Packet) Verdict {
	g.mu.Lock()
	s := g.sources.byAddr[p.Tuple.Src]
	unknown := s == nil || s.subnet == nil || s.subnet.flows+s.subnet.unauthenticated == 0 // a SYN can be forged
	g.mu.Unlock()
	if unknown {
		return Verdict{Reason: ReasonMalformed}
	}

	g.fragments.mu.Lock()
	defer g.fragments.mu.Unlock()
	whole, fault := g.fragments.r.Add(p)
	if fault != packet.NotDropped {
		p.DropReason = fault
		return Verdict{Reason: ReasonMalformed}
	}
	if whole == nil {
		return Verdict{Action: Hold, Reason: ReasonFragment}
	}
	// Verified again: what the kernel said of a part says nothing of the whole.
	*p = packet.Packet{Data: whole}
	if !p.Parse() {
		return Verdict{Reason: ReasonMalformed}
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows.byTuple[p.Tuple]
	if p.Proto != packet.TCP || p.Flags&packet.SYN != 0 || f == nil {
		return Verdict{Reason: ReasonNoFlow}
	}
	return g.admitSegment(f, p)
}

// Egress decides whether a packet of the stack may leave: only TCP of a flow in
// the table may, and of these neither what an earlier flow of the same tuple
// has left behind, nor data before the client has proved that it receives what
// is sent to its address. p needs only what DecodeTCP sets, and
// Offload.SegmentSize where it is a super-packet, which Egress lowers, or sets,
// where the path to the client carries only smaller segments; size is its
// payload in bytes.
func (g *Gate) Egress(p *packet.Packet, size int) bool {
	g.mu.Lock()
	g.inboundOnly = false
	f := g.flows.byTuple[p.Tuple.Reverse()]
	ok := f != nil && f.maySend(p, size) && (!f.revoked || p.Flags&packet.RST != 0)
	if ok {
		f.fitPath(p, size, g.mono)
		f.trackSend(p, size)
	}
	g.mu.Unlock()
	if !ok {
		g.stats.egressDropped.Add(1)
	}
	return ok
}
