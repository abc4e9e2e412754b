//go:build !linux

package filter

import (
	"iter"
	"net/netip"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// A Filter does not exist on this system: Open fails.
type Filter struct{}

// Open returns ErrUnsupported.
func Open(Options) (*Filter, error) { return nil, ErrUnsupported }

// FD is not called.
func (*Filter) FD() int { return -1 }

// Close is not called.
func (*Filter) Close() error { return nil }

// SetPolicy is not called.
func (*Filter) SetPolicy(*policy.Policy, func()) error { return ErrUnsupported }

// Flow is not called.
func (*Filter) Flow(packet.Tuple, bool) {}

// Source is not called.
func (*Filter) Source(packet.Addr, bool) {}

// Subnet is not called.
func (*Filter) Subnet(packet.Addr, bool) {}

// Expect is not called.
func (*Filter) Expect(int, iter.Seq2[uint64, uint16]) {}

// Capacity is not called.
func (*Filter) Capacity() int { return 0 }

// Overflowed is not called.
func (*Filter) Overflowed() bool { return false }

// CookieMode is not called.
func (*Filter) CookieMode() {}

// BypassSource is not called.
func (*Filter) BypassSource(netip.Addr, bool) {}

// BypassAll is not called.
func (*Filter) BypassAll(bool) {}

// Tick is not called.
func (*Filter) Tick() {}

// Tables is not called.
func (*Filter) Tables() []Table { return nil }

// Counts is not called.
func (*Filter) Counts() ([]Count, error) { return nil, ErrUnsupported }
