package admission

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// Admission without packets: where the host's own TCP/IP stack receives the
// datagrams, and has accepted the connections before the gate is asked. A SYN to
// Admit corresponds to a connection here:
//
//	(none) -- AdmitConn: recorded, its handshake done at once --> established, or authorized in ModeKnock
//	established -- AuthenticateWithWait --> authorized
//
// There is no egress to guard, nothing is deferred, and the caller resets what
// is refused.

// ErrRefused is the error of AdmitConn for other reasons than a missing grant;
// the error that wraps it names the Reason.
var ErrRefused = errors.New("the connection is refused")

// AdmitDatagram decides about a datagram that a socket has received, as Admit
// does; payload is borrowed. A socket rarely knows which of the host's
// addresses it was sent to: to may be any that the services cover.
func (g *Gate) AdmitDatagram(from, to netip.AddrPort, payload []byte) Verdict {
	p := packet.Packet{Data: payload, Proto: packet.UDP, Tuple: TupleOf(from, to)}
	return g.Admit(&p)
}

// TupleOf returns the tuple of packets from one address to another.
func TupleOf(from, to netip.AddrPort) packet.Tuple {
	return packet.Tuple{
		Src: packet.AddrFrom(from.Addr()), SrcPort: from.Port(),
		Dst: packet.AddrFrom(to.Addr()), DstPort: to.Port(),
	}
}

// AdmitConn decides about a connection that the host's stack has accepted, and
// records it as a flow; in ModeKnock that authorizes it and uses up its grant.
// Where there is no grant it waits for knocks of its source that are being
// decided, up to a second, and briefly for one that has not been read yet. It
// fails with ErrNoGrant, ErrLimitExceeded or ErrRefused; v has the reason. The
// caller reports the end of the connection with Remove.
func (g *Gate) AdmitConn(ctx context.Context, t packet.Tuple) (v Verdict, err error) {
	p := packet.Packet{Proto: packet.TCP, Flags: packet.SYN, Tuple: t}
	pollUntil(ctx, func() (wait time.Duration) {
		v, wait = g.admitConn(&p)
		switch {
		case v.Action == Hold, v.Reason == ReasonNoGrant:
			err = ErrNoGrant
			return wait
		case v.Action == Drop:
			err = fmt.Errorf("%w: %s", ErrRefused, v.Reason)
			return wait
		}

		err = g.HandshakeDone(t)
		switch {
		case err == nil:
			return 0
		case errors.Is(err, ErrLimitExceeded):
			v = Verdict{Reason: ReasonSourceLimit}
		default: // another connection has used the grant up
			v, wait, err = Verdict{Reason: ReasonNoGrant}, reorderGrace, ErrNoGrant
		}
		g.Remove(t)
		return wait
	})
	if v.Action == Hold {
		v = Verdict{Reason: ReasonDeferTimeout}
	}
	g.stats.count(&p, v)
	return v, err
}

// admitConn is admitSYN for connections, which cannot be deferred. wait is for
// how long another attempt is worth it.
func (g *Gate) admitConn(p *packet.Packet) (v Verdict, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	svc := g.policy.Load().Lookup(p.Tuple.Dst, p.Tuple.DstPort)
	if svc == nil {
		return Verdict{Reason: ReasonNotService}, 0
	}
	at := g.services[svc.Index()]
	old, s := g.flows.byTuple[p.Tuple], g.sources.byAddr[p.Tuple.Src]
	banned := svc.Open() && g.bans.isBanned(p.Tuple.Src)
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
