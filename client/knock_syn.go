package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// transitTime is the time for the last part of a sequence to arrive at the
// gateway, which must happen in the slot that the part was made for.
const transitTime = 200 * time.Millisecond

// RawSocketError reports that this process cannot send raw IP packets, which the
// SYN methods require. It unwraps to the system's error: errors.Is finds
// fs.ErrPermission, or errors.ErrUnsupported on systems other than Linux.
type RawSocketError struct {
	Err error
}

// Error returns what happened and what to do.
func (e *RawSocketError) Error() string {
	remedy := "use one of the udp methods"
	switch {
	case errors.Is(e.Err, fs.ErrPermission):
		remedy = "give this program the capability CAP_NET_RAW (setcap cap_net_raw+ep), run it as root, or " + remedy
	case errors.Is(e.Err, errors.ErrUnsupported):
		remedy = "it requires Linux: " + remedy
	}
	return "send a SYN knock: " + e.Err.Error() + "; " + remedy
}

// Unwrap returns the cause.
func (e *RawSocketError) Unwrap() error { return e.Err }

// packetWriter sends whole IP packets; a *net.IPConn is one.
type packetWriter interface {
	WriteTo(packet []byte, to net.Addr) (int, error)
}

// knockSYN sends the SYNs of method, including their IP headers. The host's own
// TCP does not know them, and resets the connection if a host answers.
func (d *Dialer) knockSYN(ctx context.Context, target netip.AddrPort, method string) error {
	s, err := d.synSequence(method)
	if err != nil {
		return err
	}
	source, err := d.sourceAddr(ctx, target)
	if err != nil {
		return fmt.Errorf("find the source address: %w", err)
	}
	conn, err := d.openRaw(ctx, source)
	if err != nil {
		return &RawSocketError{err}
	}
	return errors.Join(d.sendSYNs(ctx, conn, source, target, s), conn.Close())
}

// synSequence returns the sequence of method, checked: tcp-syn is a sequence of
// one part.
func (d *Dialer) synSequence(method string) (s Sequence, err error) {
	if method == protocol.MethodTCPSYN {
		s = Sequence{Length: 1, Slot: d.Slot}
	} else if s, err = d.sequence(method, protocol.MinSYNSequence, protocol.MaxSYNSequence); err != nil {
		return s, err
	}
	if s.Slot, err = slotLength(s.Slot); err != nil {
		return s, err
	}
	if s.duration() >= s.Slot {
		return s, fmt.Errorf("%w: %d parts %v apart do not fit in a slot of %v", ErrOption, s.Length, s.Gap, s.Slot)
	}
	return s, nil
}

// duration returns the time until the last part has arrived.
func (s *Sequence) duration() time.Duration {
	return time.Duration(s.Length-1)*s.Gap + transitTime
}

// sendSYNs sends the SYNs of one slot.
func (d *Dialer) sendSYNs(
	ctx context.Context, out packetWriter, source netip.Addr, target netip.AddrPort, s Sequence,
) error {
	slot, err := d.waitSlot(ctx, s)
	if err != nil {
		return err
	}

	scratch := protocol.NewScratch()
	for i := range s.Length {
		if i > 0 {
			if err := sleep(ctx, s.Gap); err != nil {
				return err
			}
		}

		to := target
		var fields protocol.SYNFields
		switch {
		case s.Length == 1:
			fields = d.Identity.SYN(scratch, d.port(target), slot)
		case s.Legacy:
			var port uint16
			fields, port = d.Identity.SYNPartLegacy(scratch, d.port(target), slot, i)
			to = netip.AddrPortFrom(target.Addr(), port)
		default:
			fields = d.Identity.SYNPart(scratch, d.port(target), slot, i)
		}

		if err := d.writeSYN(out, source, to, fields); err != nil {
			return err
		}
	}
	return nil
}

// waitSlot returns the current slot if the sequence fits in the rest of it; else
// it waits for the next slot and returns that. A single SYN is also valid during
// the next slot, and does not wait.
func (d *Dialer) waitSlot(ctx context.Context, s Sequence) (int64, error) {
	for {
		now := d.now()
		slot := protocol.Slot(now, s.Slot)
		left := time.Unix((slot+1)*int64(s.Slot/time.Second), 0).Sub(now)
		if s.Length == 1 || left > s.duration() {
			return slot, nil
		}
		if err := sleep(ctx, left); err != nil {
			return 0, fmt.Errorf("wait for the next time slot: %w", err)
		}
	}
}

// writeSYN sends one SYN from a random source port.
func (d *Dialer) writeSYN(
	out packetWriter, source netip.Addr, target netip.AddrPort, fields protocol.SYNFields,
) error {
	port, err := d.pickPort()
	if err != nil {
		return err
	}
	var id [2]byte
	if _, err := io.ReadFull(d.rand(), id[:]); err != nil {
		return fmt.Errorf("make a packet id: %w", err)
	}
	p := synPacket{
		src:    netip.AddrPortFrom(source, port),
		dst:    target,
		id:     max(1, binary.BigEndian.Uint16(id[:])), // the kernel would replace 0
		fields: fields,
	}
	to := &net.IPAddr{IP: target.Addr().AsSlice(), Zone: target.Addr().Zone()}
	if _, err := out.WriteTo(p.append(nil), to); err != nil {
		return fmt.Errorf("send a SYN: %w", err)
	}
	return nil
}
