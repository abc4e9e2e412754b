package admission

import "github.com/knockgw/knockgw/tun"

// Egress decides whether a packet of the stack may leave: only TCP of a flow in
// the table may, and of resets only those that answer this flow. p needs no
// more than what PeekTCP sets, and Offload.SegmentSize where it is a super-packet,
// which Egress lowers, or sets, where the path to the client carries only smaller
// segments; size is its payload in bytes.
func (g *Gate) Egress(p *tun.Packet, size int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[p.Tuple.Reverse()]
	if f == nil {
		g.stats.muted.Add(1)
		return false
	}
	if f.state == opening && p.Flags&tun.RST != 0 && (p.Flags&tun.ACK == 0 || p.Ack != f.isn+1) {
		// Of whoever had the tuple before, or to an ACK that bore no cookie.
		g.stats.muted.Add(1)
		return false
	}
	g.fitPath(f, p, size)
	length := uint32(size)
	if p.Flags&(tun.SYN|tun.FIN) != 0 {
		length++
	}
	f.sending(p.Seq, length)
	return true
}
