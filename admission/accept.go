package admission

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The way in without packets: where the host's own TCP/IP stack receives the datagrams and has accepted
// the connections before the gate is asked. What is a SYN to Admit is a connection here:
//
//	(none) -- Connected: recorded, its handshake done at once --> complete, or live in ModeKnock
//	complete -- AuthenticateInTime --> live
//
// There is no egress to guard, nothing is parked, and whoever is refused is for the caller to reset.

// ErrRefused is what Connected fails with where it is not for want of a grant; the error that wraps it
// names the Reason.
var ErrRefused = errors.New("the connection is refused")

// reorderGrace is how long a connection waits for a grant to come. A client sends its knock first, but the
// two take different ways: the network may turn them round, and the host's stack may have accepted the
// one before anybody has read the other. A SYN that is dropped comes again after a second; a connection
// that is reset does not. It is more than a network turns packets round by, and little to hold a stranger for.
const reorderGrace = 250 * time.Millisecond

// AdmitDatagram judges a datagram that a socket has received, as Admit does; payload is borrowed. A socket
// rarely knows which of the host's addresses it was sent to: to may be any that the services cover.
func (g *Gate) AdmitDatagram(from, to netip.AddrPort, payload []byte) Verdict {
	p := packet.Packet{Data: payload, Proto: packet.UDP, Tuple: TupleOf(from, to)}
	return g.Admit(&p)
}

// TupleOf names what goes from one address to another.
func TupleOf(from, to netip.AddrPort) packet.Tuple {
	return packet.Tuple{
		Src: packet.AddrFrom(from.Addr()), SrcPort: from.Port(),
		Dst: packet.AddrFrom(to.Addr()), DstPort: to.Port(),
	}
}

// AdmitConn judges a connection that the host's stack has accepted, and records it as a flow; in
// ModeKnock it is let in with that, and its grant spent. Where there is no grant it waits for knocks
// of its source that are being decided, up to a second, and a moment for one that has not been read
// yet. It fails with ErrNoGrant, ErrTooMany or ErrRefused; v has the reason. The caller tells the end of
// the connection with Forget.
func (g *Gate) AdmitConn(ctx context.Context, t packet.Tuple) (v Verdict, err error) {
	p := packet.Packet{Proto: packet.TCP, Flags: packet.SYN, Tuple: t}
	g.pollUntil(ctx, func() (wait time.Duration) {
		v, wait, err = g.connect(&p)
		return wait
	})
	if v.Action == Hold {
		v = Verdict{Reason: ReasonDeferTimeout}
	}
	g.stats.count(&p, v)
	return v, err
}

// connect is one try of Connected. wait is how long it is worth trying again.
func (g *Gate) connect(p *packet.Packet) (v Verdict, wait time.Duration, err error) {
	v, wait = g.admitConn(p)
	switch {
	case v.Action == Hold, v.Reason == ReasonNoGrant:
		return v, wait, ErrNoGrant
	case v.Action == Drop:
		return v, wait, fmt.Errorf("%w: %s", ErrRefused, v.Reason)
	}
	err = g.HandshakeDone(p.Tuple)
	switch {
	case err == nil:
		return v, 0, nil
	case errors.Is(err, ErrLimitExceeded):
		v = Verdict{Reason: ReasonSourceLimit}
	default: // another connection was quicker with the grant
		v, wait, err = Verdict{Reason: ReasonNoGrant}, reorderGrace, ErrNoGrant
	}
	g.Remove(p.Tuple)
	return v, wait, err
}

// admitConn is admitSYN for what cannot be parked.
func (g *Gate) admitConn(p *packet.Packet) (v Verdict, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	svc := g.policy.Load().Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	if svc == nil {
		return Verdict{Reason: ReasonNotService}, 0
	}
	at := g.services[svc.Index()]
	old, s := g.flows[p.Tuple], g.sources[p.Tuple.Src]
	banned := svc.Open() && g.isBanned(p.Tuple.Src)
	if svc.Open() && !banned {
		return g.addFlow(p, at, old, nil, ReasonOpen), 0
	}
	v = Verdict{Reason: ReasonNoGrant}
	if s != nil {
		v = g.admitOnGrant(p, at, s, old, s.queued == 0 || svc.Methods == 0)
	}
	switch {
	case v.Action == Hold:
		return v, pendingKnockTimeout
	case v.Reason != ReasonNoGrant:
		return v, 0
	case banned:
		v.Reason = ReasonBanned
	}
	if svc.Methods == 0 {
		return v, 0 // there is no knock to wait for
	}
	return v, reorderGrace
}

// Identity returns the client's key as which a flow has been let in; nil if that is not known.
func (g *Gate) Identity(t packet.Tuple) *protocol.Client {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows[t]; f != nil {
		return f.key
	}
	return nil
}
