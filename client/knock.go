package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// The defaults of the protocol, which both sides use unless configured
// otherwise.
const (
	DefaultSequenceLength = protocol.DefaultSequenceLength // parts
	DefaultSequenceGap    = 80 * time.Millisecond          // long enough that SYNs do not overtake each other
	DefaultSlot           = protocol.DefaultSlot
)

// ErrOption reports that a Dialer cannot knock with its options. Nothing was
// sent; the error that wraps it says what to change.
var ErrOption = errors.New("bad option")

// Sequence configures the methods that knock in several parts. The gateway must
// have the same settings, except for the gap, which it does not know.
type Sequence struct {
	// Length is the number of parts: 2 to 8 by UDP, 2 to 5 by SYN; 0 means
	// DefaultSequenceLength.
	Length int
	// Gap is the time between two parts; 0 means DefaultSequenceGap.
	Gap time.Duration
	// Slot is the length of tcp-syn-seq's time slots, in whole seconds; 0 means
	// DefaultSlot. All parts are sent within one slot. A gateway accepts one
	// sequence per client, service and slot.
	Slot time.Duration
	// Legacy sends tcp-syn-seq in its older format, to other ports than the
	// service's.
	Legacy bool
}

// Knock sends one knock for the service at target, in as many parts as the
// method has, and waits between them. Only a connection shows whether the
// gateway accepted it. A SYN cannot carry the session id: any id is accepted
// after one.
func (d *Dialer) Knock(ctx context.Context, target netip.AddrPort, session []byte) error {
	name := cmp.Or(d.Method, protocol.MethodUDP)
	method, err := protocol.ParseMethod(name)
	if err != nil {
		return fmt.Errorf("%w: method %q: %w", ErrOption, name, err)
	}
	if bound := d.BindSource || d.Source.IsValid() || d.BindPort; bound && method != protocol.MethodUDPv2 {
		return fmt.Errorf("%w: only a %s knock can be bound to a source, not %s", ErrOption, protocol.MethodUDPv2, method)
	}

	target = netip.AddrPortFrom(target.Addr().Unmap(), target.Port())
	switch method {
	case protocol.MethodUDP, protocol.MethodUDPPassive:
		return d.knockUDP(ctx, target, method, session)
	case protocol.MethodUDPSeq, protocol.MethodUDPPassiveSeq:
		return d.knockUDPSequence(ctx, target, method, session)
	case protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq:
		return d.knockSYN(ctx, target, method)
	case protocol.MethodUDPv2:
		return d.knockV2(ctx, target, session)
	default:
		return fmt.Errorf("%w: method %s sends no knock; authenticate without one", ErrOption, method)
	}
}

// sequence returns d.Sequence with its defaults, checked against a method's
// limits.
func (d *Dialer) sequence(method string, minParts, maxParts int) (Sequence, error) {
	s := d.Sequence
	if s.Length == 0 {
		s.Length = DefaultSequenceLength
	}
	if s.Gap == 0 {
		s.Gap = DefaultSequenceGap
	}
	switch {
	case s.Length < minParts || s.Length > maxParts:
		return s, fmt.Errorf("%w: a %s sequence has %d to %d parts, not %d", ErrOption, method, minParts, maxParts, s.Length)
	case s.Gap < 0:
		return s, fmt.Errorf("%w: the gap between the parts of a sequence cannot be %v", ErrOption, s.Gap)
	}
	return s, nil
}

// slotLength returns the length of a time slot with its default, checked.
func slotLength(slot time.Duration) (time.Duration, error) {
	if slot == 0 {
		return DefaultSlot, nil
	}
	if slot < time.Second || slot%time.Second != 0 {
		return 0, fmt.Errorf("%w: a time slot is a whole number of seconds, at least 1 s, not %v", ErrOption, slot)
	}
	return slot, nil
}

// sleep waits for t, or until ctx ends.
func sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
