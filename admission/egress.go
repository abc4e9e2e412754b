package admission

import (
	"github.com/knockgw/knockgw/packet"
)

// Egress decides whether a packet of the stack may leave: only TCP of a flow in
// the table may, and of these none that an earlier flow of the same tuple has
// left behind, nor data before the client has proved that it receives what is
// sent to its address. p needs no more than what DecodeTCP sets, and
// Offload.SegmentSize where it is a super-packet, which Egress lowers, or sets,
// where the path to the client carries only smaller segments; size is its payload
// in bytes.
func (g *Gate) Egress(p *packet.Packet, size int) bool {
	g.mu.Lock()
	ok := g.egress(p, size)
	g.mu.Unlock()
	if !ok {
		g.stats.egressDropped.Add(1)
	}
	return ok
}

// egress is Egress. The caller holds g.mu.
func (g *Gate) egress(p *packet.Packet, size int) bool {
	g.inboundOnly = false
	f := g.flows[p.Tuple.Reverse()]
	if f == nil || !f.maySend(p, size) || f.revoked && p.Flags&packet.RST == 0 {
		return false
	}

	g.fitPath(f, p, size)
	f.trackSend(p, size)
	return true
}
