package admission

import (
	"iter"

	"github.com/knockgw/knockgw/packet"
)

// A Offload is told what the gate lets in, so that somebody in front of it can
// refuse what the gate would refuse for sure. What a packet needs to get in, the
// Mirror has been told before the packet can come, and until after it is over.
// Flow, Source, Site and Flooded are called with the gate's lock held: they must
// return at once, and not call the gate.
type Offload interface {
	// Flow tells that a flow is in the table from now on, or no longer.
	Flow(t packet.Tuple, in bool)
	// Source tells that there is something about an address: grants, knocks in the
	// queue, parked SYNs or flows; or nothing any more. SYNs of others to hidden
	// services are dropped, unless they are knocks.
	Source(a packet.Addr, in bool)
	// Subnet tells that there are flows from an IPv4 address, or from an IPv6 /64, or
	// none any more. Fragments of others are dropped; of these, the gate takes them
	// once a handshake is done, which it may learn after the fragments have come.
	Subnet(a packet.Addr, in bool)
	// Expect tells the n SYN knocks and udp-v2 hints that are expected now, by
	// their 80 bits; what was expected before is no longer. It is called by New,
	// by Run and by SetPolicy, one at a time, without the lock.
	Expect(n int, fields iter.Seq2[uint64, uint16])
	// CookieMode tells that for FloodMemory from now an open service may take an ACK
	// without a flow for the answer to a SYN cookie.
	CookieMode()
}

// noOffload is the Mirror where there is none.
type noOffload struct{}

func (noOffload) Flow(packet.Tuple, bool)               {}
func (noOffload) Source(packet.Addr, bool)              {}
func (noOffload) Subnet(packet.Addr, bool)              {}
func (noOffload) Expect(int, iter.Seq2[uint64, uint16]) {}
func (noOffload) CookieMode()                           {}
