package filter

import (
	"iter"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// The methods that the gate calls.

// setEntry adds a key's fingerprint to the table, or removes it. A key that was
// added n times is there until it is removed n times.
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
		// The program may have looked for an entry before it was in the table,
		// and check only now whether every packet passes.
		f.bypassBriefly()
	}
}

// Flow reports that a flow was added to the gate's table, or removed. The tuple
// is of packets from the client.
func (f *Filter) Flow(t packet.Tuple, in bool) { f.setEntry(flowKey(&t), in) }

// Source reports that an address has grants, queued knocks, deferred SYNs or
// flows, or none of these any more.
func (f *Filter) Source(a packet.Addr, in bool) {
	f.setEntry(addrKey(&a, kindSource), in)
}

// Subnet reports that there are flows whose fragments are reassembled, or none
// any more: from an IPv4 address, or from an IPv6 /64, whose last 8 bytes are
// 0.
func (f *Filter) Subnet(a packet.Addr, in bool) { f.setEntry(addrKey(&a, kindSubnet), in) }

// CookieMode reports that an open service sends SYN cookies: an ACK without a
// flow may be the answer to one.
func (f *Filter) CookieMode() {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	set(&f.control.CookiesUntil, f.control.Tick+cookieTicks)
}

// Expect replaces the expected knocks by n others: the fields of SYNs, the hints
// of datagrams. When it returns, the program uses them.
func (f *Filter) Expect(n int, fields iter.Seq2[uint64, uint16]) {
	if !f.lock() {
		return
	}
	half := len(f.expected) / 2
	next := uint64(half/bucketSlots) - f.control.ExpectedBase // of the table that is not in use
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

// Capacity returns for how many expected knocks there is room: half of the slots
// of one of the two tables.
func (f *Filter) Capacity() int { return len(f.expected) / 2 / 2 }

// Overflowed reports whether there are more expected knocks than there is room
// for, so that every packet passes that could be one.
func (f *Filter) Overflowed() bool {
	if !f.lock() {
		return false
	}
	defer f.mu.Unlock()
	return f.control.ExpectedAny != 0
}

// SetPolicy replaces the services. It calls swap, which must make the gate apply
// the new policy. Until then, and for a second after, every packet passes; after
// an error, until another policy is set.
func (f *Filter) SetPolicy(p *policy.Policy, swap func()) error {
	f.setReconfiguring(true)
	err := f.setServices(p)
	swap()
	if err == nil {
		f.setReconfiguring(false)
	}
	return err
}

// setReconfiguring starts or ends the time in which every packet passes because
// the policy changes.
func (f *Filter) setReconfiguring(on bool) {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.reconfiguring = on
	f.bypassBriefly()
}
