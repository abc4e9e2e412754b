package filter

import (
	"errors"
	"fmt"
	"iter"

	"github.com/cilium/ebpf"

	"github.com/knockgw/knockgw/packet"
)

// list adds a key's tag to the table, or removes it. A key that was added n times
// is there until it was removed n times.
func (f *Filter) list(k key, in bool) {
	tag := f.secret.hash(&k)
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.listLocked(tag, in)
}

// listLocked is list for who holds f.mu.
func (f *Filter) listLocked(tag uint64, in bool) {
	before := len(f.listed.spilt)
	if in {
		f.listed.add(tag)
	} else {
		f.listed.remove(tag)
	}
	switch spilt := len(f.listed.spilt); {
	case spilt > 0 && before == 0:
		f.settle()
	case spilt == 0 && before > 0:
		// The program may have looked for one before it was in, and ask only
		// now whether everything passes.
		f.passAwhile()
	}
}

// Flow tells that the gate has taken a flow into its table, or out of it. The
// tuple is that of packets from the client.
func (f *Filter) Flow(t packet.Tuple, in bool) { f.list(flowKey(&t), in) }

// Source tells that an address has grants, knocks in the queue, parked SYNs or
// flows now, or none of these any more.
func (f *Filter) Source(a packet.Addr, in bool) { f.list(addrKey(&a, kindSource), in) }

// Site tells that there are flows now of which fragments are put together, or
// none any more: from an IPv4 address, or from an IPv6 /64, whose last 8 bytes
// are 0 then.
func (f *Filter) Site(a packet.Addr, in bool) { f.list(addrKey(&a, kindSite), in) }

// Flooded tells that an open service has more half-open flows than it remembers:
// an ACK without a flow may be an answer to a SYN cookie.
func (f *Filter) Flooded() {
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.set(controlFlooded, f.get(controlTick)+floodTicks)
}

// Expect replaces the knocks that are expected by n others: the fields of SYNs,
// the hints of datagrams. When it returns, the program uses them.
func (f *Filter) Expect(n int, fields iter.Seq2[uint64, uint16]) {
	if !f.lock() {
		return
	}
	half := len(f.expected) / 2
	next := uint64(half/bucketTags) - f.get(controlBase) // that of the half which is not in use
	f.mu.Unlock()
	t := tags{places: f.expected[next*bucketTags:][:half], spilt: make(map[uint64]int)}
	clear(t.places)
	tooMany := n > f.Room()
	if !tooMany {
		for a, b := range fields {
			k := expectedKey(a, b)
			t.add(f.secret.hash(&k))
		}
		tooMany = len(t.spilt) > 0
	}
	if !f.lock() {
		return
	}
	defer f.mu.Unlock()
	f.awaited = n
	if tooMany {
		f.set(controlAny, 1)
	}
	f.set(controlBase, next)
	if !tooMany {
		f.set(controlAny, 0)
	}
}

// Room is how many expected knocks there is room for.
func (f *Filter) Room() int { return len(f.expected) / 4 } // half of the places of one of two tables

// Crowded tells whether there were more expected knocks than there is room for, so
// that whatever could be one passes.
func (f *Filter) Crowded() bool {
	if !f.lock() {
		return false
	}
	defer f.mu.Unlock()
	return f.get(controlAny) != 0
}

// SetPolicy replaces the services. While it does, and for a second after,
// everything passes; swap, which it calls, is to make the gate judge by the new
// policy. After an error everything passes until another policy is set.
func (f *Filter) SetPolicy(p Policy, swap func()) error {
	f.change(true)
	err := f.setPorts(&p)
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
	f.changing = on
	f.passAwhile()
}

// setPorts makes the trie that of p.
func (f *Filter) setPorts(p *Policy) error {
	ports := p.ports()
	for at, takes := range ports {
		k := at.key()
		if err := f.trie.Put(k[:], takes); err != nil {
			return fmt.Errorf("tell the packet filter of port %d: %w", at.port, err)
		}
	}
	for at := range f.ports {
		if _, ok := ports[at]; ok {
			continue
		}
		k := at.key()
		if err := f.trie.Delete(k[:]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("have the packet filter forget port %d: %w", at.port, err)
		}
	}
	f.ports = ports
	if !f.lock() {
		return nil
	}
	defer f.mu.Unlock()
	f.services = len(ports)
	legacy := uint64(0)
	if p.Legacy {
		legacy = 1
	}
	f.set(controlLegacy, legacy)
	return nil
}
