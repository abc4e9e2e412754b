package admission

import (
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/packet"
)

// counters are what the gate has seen. Only the packet path adds to most of
// them, so their cache lines do not move between processors.
type counters struct {
	reasons       [reasonCount]atomic.Uint64
	faults        [packet.NumDropReasons]atomic.Uint64
	egressDropped atomic.Uint64
	knocks        [knock.NumResults]atomic.Uint64
}

func (c *counters) count(p *packet.Packet, v Verdict) {
	if v.Reason == ReasonMalformed {
		c.faults[p.DropReason].Add(1)
		return
	}
	c.reasons[v.Reason].Add(1)
}

// Stats is a snapshot of what the gate has counted since New, and of what its
// tables hold now.
type Stats struct {
	Packets       []PacketCount
	EgressDropped uint64 // packets of our own stack that the egress gate kept back
	Knocks        []KnockCount
	// HMACs computed: ahead, for the tables of knocks that could come, and to
	// find the clients of v1 knocks that came.
	HMACsAhead, HMACsTried uint64

	Flows, HalfOpen, Grants, Sources int
	KnocksQueued                     int
	DeferredSYNs, Bans               int // SYNs that wait for a knock; sources shut out of open services

	Limits Limits // in force
}

// PacketCount counts the packets of one verdict. Reason is Reason.String, or
// for malformed packets "malformed-" and the fault.
type PacketCount struct {
	Action Action
	Reason string
	Count  uint64
}

// KnockCount counts the knocks that ended in one result.
type KnockCount struct {
	Result knock.Result
	Count  uint64
}

// action is the only action that goes with a reason.
func (r Reason) action() Action {
	switch {
	case r < ReasonKnock:
		return Pass
	case r < ReasonMalformed:
		return Hold
	default:
		return Drop
	}
}

// Stats returns the counts. Every reason and result is there, the zero ones too.
func (g *Gate) Stats() Stats {
	var s Stats
	for r := range reasonCount {
		if r != ReasonMalformed {
			s.Packets = append(s.Packets, PacketCount{r.action(), r.String(), g.stats.reasons[r].Load()})
		}
	}
	for f := packet.NotDropped + 1; int(f) < packet.NumDropReasons; f++ {
		s.Packets = append(s.Packets, PacketCount{Drop, "malformed-" + f.String(), g.stats.faults[f].Load()})
	}
	for r := range knock.NumResults {
		s.Knocks = append(s.Knocks, KnockCount{r, g.stats.knocks[r].Load()})
	}
	s.EgressDropped = g.stats.egressDropped.Load()
	s.HMACsAhead, s.HMACsTried = g.knocks.Computed()
	fast, slow, _ := g.knocks.Queued()
	s.KnocksQueued = fast + slow
	g.bans.each(func(packet.Addr, time.Duration) bool {
		s.Bans++
		return true
	})

	g.mu.Lock()
	defer g.mu.Unlock()
	s.Flows, s.Grants, s.Sources = len(g.flows.byTuple), g.sources.grants, len(g.sources.byAddr)
	s.Limits = g.limits
	s.DeferredSYNs = g.deferred.n
	for _, at := range g.services {
		s.HalfOpen += at.pending.n()
	}
	return s
}
