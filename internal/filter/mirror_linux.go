package filter

import (
	"iter"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// setEntry adds a key's fingerprint to the table, or removes it. A key that was added n times
// is there until it was removed n times.
func (f *Filter) setEntry(k key, in bool) {
	hash := f.secret.hash(&k)
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.updateEntry(hash, in)
}

// updateEntry is setEntry for a fingerprint. The caller holds f.mu.
func (f *Filter) updateEntry(hash uint64, in bool) {
	before := len(f.entries.overflow)
	if in {
		f.entries.add(hash)
	} else {
		f.entries.delete(hash)
	}
	switch after := len(f.entries.overflow); {
	case after > 0 && before == 0:
		f.updateBypass()
	case after == 0 && before > 0:
		// The program may have looked for one before it was in, and ask only
		// now whether everything passes.
		f.bypassBriefly()
	}
}

// Flow tells that the gate has taken a flow into its table, or out of it. The
// tuple is that of packets from the client.
func (f *Filter) Flow(t packet.Tuple, in bool) { f.setEntry(flowKey(&t), in) }

// Source tells that an address has grants, knocks in the queue, parked SYNs or
// flows now, or none of these any more.
func (f *Filter) Source(a packet.Addr, in bool) {
	f.setEntry(addrKey(&a, programKeyKindKEY_SOURCE), in)
}

// Site tells that there are flows now of which fragments are put together, or
// none any more: from an IPv4 address, or from an IPv6 /64, whose last 8 bytes
// are 0 then.
func (f *Filter) Site(a packet.Addr, in bool) { f.setEntry(addrKey(&a, programKeyKindKEY_SUBNET), in) }

// Flooded tells that an open service has more half-open flows than it remembers:
// an ACK without a flow may be an answer to a SYN cookie.
func (f *Filter) Flooded() {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	set(&f.control.CookiesUntil, f.control.Tick+floodTicks)
}

// Expect replaces the knocks that are expected by n others: the fields of SYNs,
// the hints of datagrams. When it returns, the program uses them.
func (f *Filter) Expect(n int, fields iter.Seq2[uint64, uint16]) {
	if !f.lock() {
		return
	}
	half := len(f.expected) / 2
	next := uint64(half/bucketSlots) - f.control.ExpectedBase // that of the half which is not in use
	f.mu.Unlock()
	t := fingerprints{slots: f.expected[next*bucketSlots:][:half], overflow: make(map[uint64]int)}
	clear(t.slots)
	tooMany := n > f.Capacity()
	if !tooMany {
		for a, b := range fields {
			k := expectedKey(a, b)
			t.add(f.secret.hash(&k))
		}
		tooMany = len(t.overflow) > 0
	}
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.expectedCount = n
	if tooMany {
		set(&f.control.ExpectedAny, 1)
	}
	set(&f.control.ExpectedBase, next)
	if !tooMany {
		set(&f.control.ExpectedAny, 0)
	}
}

// Capacity is how many expected knocks there is room for.
func (f *Filter) Capacity() int { return len(f.expected) / 4 } // half of the places of one of two tables

// Overflowed tells whether there were more expected knocks than there is room for, so
// that whatever could be one passes.
func (f *Filter) Overflowed() bool {
	if !f.lock() {
		return false
	}
	defer f.mu.Unlock()
	return f.control.ExpectedAny != 0
}

// SetPolicy replaces the services. While it does, and for a second after,
// everything passes; swap, which it calls, is to make the gate judge by the new
// policy. After an error everything passes until another policy is set.
func (f *Filter) SetPolicy(p *policy.Policy, swap func()) error {
	f.change(true)
	err := f.setServices(p)
	swap()
	if err == nil {
		f.change(false)
	}
	return err
}

// change begins or ends a time in which everything passes.
func (f *Filter) change(on bool) {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.reconfiguring = on
	f.bypassBriefly()
}
