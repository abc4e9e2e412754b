package client

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/knockgw/knockgw/protocol"
)

// knockV2 sends one datagram in the format udp-v2, bound to a source or a port
// if d asks for it (docs/udp-v2.md).
func (d *Dialer) knockV2(ctx context.Context, target netip.AddrPort, session []byte) error {
	m, err := d.newMessageV2(ctx, target, session)
	if err != nil {
		return err
	}
	slot, err := slotLength(d.Slot)
	if err != nil {
		return err
	}
	now := d.now() // the same for both
	m.Time = now.UnixMilli()
	b, err := protocol.AppendKnockV2(nil, d.Identity, d.Gateway, d.port(target), protocol.Slot(now, slot), &m, d.rand())
	if err != nil {
		return fmt.Errorf("make the knock: %w", err)
	}
	return d.sendUDP(ctx, target, 0, b)
}

// newMessageV2 returns the content of the knock, except for the time.
func (d *Dialer) newMessageV2(ctx context.Context, target netip.AddrPort, session []byte) (m protocol.KnockV2Message, err error) {
	if len(d.Gateway) > protocol.MaxGateway {
		return m, fmt.Errorf("%w: the gateway's name has %d bytes, and the limit is %d", ErrOption, len(d.Gateway), protocol.MaxGateway)
	}
	switch len(session) {
	case 0:
	case len(m.SessionID):
		copy(m.SessionID[:], session)
	default:
		return m, fmt.Errorf("%w: a udp-v2 knock requires a session id of %d bytes, not %d", ErrOption, len(m.SessionID), len(session))
	}

	switch {
	case d.Source.IsValid():
		m.Source = d.Source.Unmap()
		if m.Source.Zone() != "" || m.Source.IsUnspecified() {
			return m, fmt.Errorf("%w: %v cannot be a source address", ErrOption, d.Source)
		}
	case d.BindSource:
		source, err := d.sourceAddr(ctx, target)
		if err != nil {
			return m, fmt.Errorf("find the source address: %w", err)
		}
		m.Source = source.WithZone("") // zones are local to a host
	}

	if d.BindPort {
		if m.SourcePort = d.localPort(); m.SourcePort == 0 {
			return m, fmt.Errorf("%w: no source port to bind the knock to; set one in Net.LocalAddr, or use DialContext", ErrOption)
		}
	}
	return m, nil
}
