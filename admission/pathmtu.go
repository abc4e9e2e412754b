package admission

import (
	"time"

	"github.com/knockgw/knockgw/packet"
)

// How large a packet may be on its way to a client is known here and not in the
// stack, which never raises a path MTU that it has lowered and takes any value
// down to segments of one byte. Egress has larger segments cut.
//
// An ICMP error is a claim that any host can forge (RFC 5927, 7). It is believed
// when the gateway has to send again, unacknowledged, the very segment that it
// quotes, and that segment is larger than the claimed MTU. If the segment is
// acknowledged instead, the claim was false or does not matter any more. What is
// believed holds for all flows of that address, and for pathMTUTime.
//
// Where no ICMP error comes back, a segment that is sent again and again without
// an acknowledgement is made smaller step by step (in the spirit of RFC 4821).
// That holds for the flow alone: it may be that the client is gone.

const (
	// minPathMTU4 is Linux's net.ipv4.route.min_pmtu: a smaller value is more
	// likely forged than true. In bytes, as all MTUs.
	minPathMTU4 = 552
	// minPathMTU6 is what every IPv6 link carries (RFC 8200, 5).
	minPathMTU6 = 1280
	// pathMTUTime is after how long larger packets are tried again (RFC 1191,
	// 6.3; RFC 8201, 4).
	pathMTUTime = 10 * time.Minute
	// blackHoleRetransmits is how often a segment is sent again at its size
	// before smaller ones are tried: 600 ms after it was first sent, where the
	// path is short.
	blackHoleRetransmits = 2
)

// blackHoleSteps are the MTUs that are tried one after the other. 1400 fits
// through the usual tunnels; 1280 through all that carry IPv6.
var blackHoleSteps = [...]int{1400, minPathMTU6, 1024, minPathMTU4}

// A pathMTU is the size of the largest packet that reaches a client, in bytes,
// and until when that is believed. The zero value is no limit.
type pathMTU struct {
	bytes uint16
	until time.Duration
}

// path is what a flow knows about its path by itself.
type path struct {
	mtu        pathMTU // where ICMP errors do not arrive
	claimedMTU uint16  // MTU that an ICMP error claims, in bytes; 0: no claim
	claimSeq   uint32  // of the segment that the error quotes
	stuckSeq   uint32  // of the segment that was sent again last
	stuck      uint8   // how often it was
}

// minPathMTU returns the smallest path MTU that is believed for a client's
// address.
func minPathMTU(a packet.Addr) int {
	if a.Is4() {
		return minPathMTU4
	}
	return minPathMTU6
}

// claimMTU notes what an ICMP error about the segment at seq, which is in
// flight, claims. It reports whether the claim is credible, on a device with an
// MTU of deviceMTU bytes.
func (f *flow) claimMTU(mtu int, seq uint32, deviceMTU int) bool {
	if mtu < minPathMTU(f.tuple.Src) || mtu >= deviceMTU {
		return false
	}
	p := &f.path
	if p.claimedMTU == 0 || seqAfter(f.una, p.claimSeq) || !seqAfter(seq, p.claimSeq) {
		p.claimedMTU, p.claimSeq = uint16(mtu), seq // below deviceMTU, which is a packet's
	}
	return true
}

// fitPath lowers the segment size of p, which f's stack sends with size bytes
// of payload, to what the path carries. The caller has not noted yet that p is
// sent.
func (f *flow) fitPath(p *packet.Packet, size int, mono func() time.Duration) {
	again := f.phase == synchronized && seqAfter(f.nxt, p.Seq)
	if size == 0 || !again && f.path.mtu.bytes == 0 && f.source.mtu.bytes == 0 {
		return
	}
	length := p.Payload + size
	if s := int(p.Offload.SegmentSize); s > 0 {
		length = p.Payload + min(s, size)
	}

	now := mono()
	fits := min(length, f.source.mtu.limit(now), f.path.mtu.limit(now))
	if again {
		f.resent(p.Seq, size, fits, now)
		fits = min(fits, f.source.mtu.limit(now), f.path.mtu.limit(now))
	}
	if fits < length {
		p.Offload.SegmentSize = uint16(fits - p.Payload) // headers are at most 100 bytes
	}
}

// limit returns the MTU at now, or more than any packet has.
func (m *pathMTU) limit(now time.Duration) int {
	if m.bytes == 0 {
		return packet.MaxPacket
	}
	if now > m.until {
		*m = pathMTU{}
		return packet.MaxPacket
	}
	return int(m.bytes)
}

// resent examines what the stack sends again, size bytes from seq on in packets
// of length bytes: whether it confirms a claim, and whether the path is a black
// hole for packets of that length.
func (f *flow) resent(seq uint32, size, length int, now time.Duration) {
	p := &f.path
	until := now + pathMTUTime
	if p.claimedMTU != 0 {
		quoted := !seqAfter(seq, p.claimSeq) && seqAfter(seq+uint32(size), p.claimSeq)
		switch {
		case seqAfter(f.una, p.claimSeq): // it arrived
			p.claimedMTU = 0
		case quoted && length > int(p.claimedMTU):
			f.source.mtu = pathMTU{p.claimedMTU, until}
			p.claimedMTU, p.stuck = 0, 0
			return
		}
	}

	if seq != f.una || length <= minPathMTU(f.tuple.Src) {
		return
	}
	if p.stuck == 0 || p.stuckSeq != seq {
		p.stuck, p.stuckSeq = 0, seq
	}
	if p.stuck++; p.stuck < blackHoleRetransmits {
		return
	}
	for _, step := range blackHoleSteps {
		if step < length {
			p.mtu = pathMTU{uint16(max(step, minPathMTU(f.tuple.Src))), until}
			return
		}
	}
}
