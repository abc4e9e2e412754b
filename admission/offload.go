package admission

import (
	"iter"

	"github.com/knockgw/knockgw/packet"
)

// An Offload is told what the gate admits, so that a filter in front of it can
// drop what the gate would drop for certain. It learns what a packet needs to be
// admitted before the packet can come, and that it has ended only afterwards.
// Flow, Source, Subnet and CookieMode are called with the gate's lock held: they
// must return at once, and not call the gate.
type Offload interface {
	// Flow reports that a flow is in the table from now on, or no longer.
	Flow(t packet.Tuple, in bool)
	// Source reports that an address has grants, knocks in the queue, deferred
	// SYNs or flows; or none of them any more. SYNs of other addresses to
	// hidden services are dropped, unless they are knocks.
	Source(a packet.Addr, in bool)
	// Subnet reports that there are flows from an IPv4 address, or from an IPv6
	// /64, or none any more. Fragments of others are dropped; of these, the
	// gate takes them once a handshake is done, which it may learn after the
	// fragments came.
	Subnet(a packet.Addr, in bool)
	// Expect replaces the n SYN knocks and udp-v2 hints that are expected now,
	// by their 80 bits. It is called by New, by Run and by SetPolicy, one at a
	// time, without the lock.
	Expect(n int, fields iter.Seq2[uint64, uint16])
	// CookieMode reports that for CookieWindow from now an open service may
	// take an ACK without a flow for the answer to a SYN cookie.
	CookieMode()
}

// noOffload is the default of Options.Offload.
type noOffload struct{}

func (noOffload) Flow(packet.Tuple, bool)               {}
func (noOffload) Source(packet.Addr, bool)              {}
func (noOffload) Subnet(packet.Addr, bool)              {}
func (noOffload) Expect(int, iter.Seq2[uint64, uint16]) {}
func (noOffload) CookieMode()                           {}
