package admission

import (
	"sync"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// Fragments of admitted flows are put together before they are judged, in
// bounded memory; those of strangers are dropped unseen. What comes out is judged
// once more, and only as a packet of a live flow: a knock or a SYN never counts
// when it came in pieces.
type fragments struct {
	mu sync.Mutex // one packet at a time; strangers' fragments never get here
	r  *packet.Reassembler
}

func (f *fragments) init(mono func() time.Duration, stats *counters) {
	f.r = packet.NewReassembler(packet.ReassemblerOptions{
		Clock:  mono,
		OnDrop: func(f packet.DropReason, n int) { stats.faults[f].Add(uint64(n)) },
	})
}

// admitFragment judges a fragment. When it completes a packet of a live flow, *p
// becomes that packet, borrowed until the next fragment.
func (g *Gate) admitFragment(p *packet.Packet) Verdict {
	g.mu.Lock()
	s := g.sources[p.Tuple.Src]
	stranger := s == nil || s.subnet == nil || s.subnet.flows+s.subnet.unauthenticated == 0 // a SYN can be forged
	g.mu.Unlock()
	if stranger {
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
	// Verified anew: the kernel's word about a part is none about the whole.
	*p = packet.Packet{Data: whole}
	if !p.Parse() {
		return Verdict{Reason: ReasonMalformed}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[p.Tuple]
	if p.Proto != packet.TCP || p.Flags&packet.SYN != 0 || f == nil {
		return Verdict{Reason: ReasonNoFlow}
	}
	return g.admitSegment(f, p)
}
