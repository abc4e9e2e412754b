package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// knockUDP sends one datagram (docs/wire-formats.md, UDP knock v1).
func (d *Dialer) knockUDP(ctx context.Context, target netip.AddrPort, method string, session []byte) error {
	b, err := d.newDatagram(target, &protocol.KnockMessage{Method: method, SessionID: session})
	if err != nil {
		return err
	}
	return d.sendUDP(ctx, target, 0, b)
}

// knockUDPSequence sends the parts of a sequence: complete knocks that share a
// sequence id and the session id (docs/wire-formats.md, Sequences).
func (d *Dialer) knockUDPSequence(ctx context.Context, target netip.AddrPort, method string, session []byte) error {
	s, err := d.sequence(method, protocol.MinSequence, protocol.MaxSequence)
	if err != nil {
		return err
	}
	m := protocol.KnockMessage{
		Method: method, SessionID: session, SequenceID: make([]byte, protocol.SequenceID), Total: uint8(s.Length),
	}
	if _, err := io.ReadFull(d.rand(), m.SequenceID); err != nil {
		return fmt.Errorf("make a sequence id: %w", err)
	}
	parts := make([][]byte, s.Length)
	for i := range parts {
		m.Index = uint8(i)
		if parts[i], err = d.newDatagram(target, &m); err != nil {
			return err
		}
	}
	return d.sendUDP(ctx, target, s.Gap, parts...)
}

// newDatagram returns m as a datagram, with the current time.
func (d *Dialer) newDatagram(target netip.AddrPort, m *protocol.KnockMessage) ([]byte, error) {
	m.Time = d.now().UnixMilli()
	b, err := protocol.AppendKnock(nil, d.Identity, d.port(target), m, d.rand())
	if err != nil {
		return nil, fmt.Errorf("make the knock: %w", err)
	}
	return b, nil
}

// sendUDP sends datagrams from one socket to the knock port of target's address.
func (d *Dialer) sendUDP(ctx context.Context, target netip.AddrPort, gap time.Duration, parts ...[]byte) error {
	conn, err := d.dialUDP(ctx, netip.AddrPortFrom(target.Addr(), d.knockPort()))
	if err != nil {
		return err
	}
	return errors.Join(writeParts(ctx, conn, gap, parts), conn.Close())
}

func writeParts(ctx context.Context, conn net.Conn, gap time.Duration, parts [][]byte) error {
	for i, b := range parts {
		if i > 0 {
			if err := sleep(ctx, gap); err != nil {
				return err
			}
		}
		_, err := conn.Write(b)
		if err != nil && i > 0 {
			// A server that only captures packets has no socket at the port, so
			// its kernel sends ICMP port unreachable. Our kernel reports that
			// once instead of sending the next datagram, and then sends again.
			_, err = conn.Write(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
