package admission

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// SYN knocks, SYN sequences and the hints of udp-v2 depend on nothing but the
// client, the port and the time slot. So what could come is computed ahead,
// once a slot, and what comes is looked up: one probe of one table, whatever
// the number of clients.
//
//	slot      s-1      s     s+1     s+2
//	          |--------now----|-------|
//	accepted  [ -1       0      +1 ]
//	in table  [ -1       0      +1     +2 ]
//
// The table holds a slot more than is accepted. When the clock turns to s+1, the
// sweep has a whole slot's time to make the next table; there is no moment at
// which everything must be computed at once, and no HMAC is computed while the
// lock of the gate is held: the new table is made beside the old one and swapped
// for it.

// family of an expected knock, 0 being an empty cell.
type expectedKind uint8

const (
	expectSYN expectedKind = iota + 1
	expectPart
	expectLegacyPart
	expectV2
)

// fields are the 80 bits by which a knock is found: sequence number, timestamp
// and window of a SYN, or the hint of a udp-v2 datagram.
type fields struct {
	a uint64
	b uint16
}

const fieldBytes = 8 + 2

func synKey(f protocol.SYNFields) fields {
	return fields{uint64(f.Seq)<<32 | uint64(f.TSVal), f.Window}
}

func hintKey(h protocol.HintV2) fields {
	return fields{binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint16(h[8:])}
}

// cell is 16 bytes: a quarter of a cache line.
type cell struct {
	a     uint64
	index uint32 // of Policy.expectations
	b     uint16
	what  uint8 // kind << 3 | part
	slot  uint8 // the low bits: enough to tell neighbours apart
}

func (c *cell) kind() expectedKind { return expectedKind(c.what >> partBits) }
func (c *cell) part() int          { return int(c.what & (1<<partBits - 1)) }

const partBits = 3 // of SYN sequences, at most 5 parts

// expected is the table: open addressing with linear probing, at most half full.
type expected struct {
	policy *policy.Policy // whose expectations the cells index
	cells  []cell
	n      int // cells in use
	shift  uint8
	seed   uint64
	slots  [expectV2 + 1]int64 // by kind, the slot that was current when it was made
}

func (e *expected) home(k fields) int {
	const golden = 0x9e3779b97f4a7c15 // 2^64 / golden ratio: multiplicative hashing
	return int(((k.a ^ e.seed) * golden) >> e.shift)
}

// find returns the cell for k, nil if nothing like it is expected.
func (e *expected) find(k fields) *cell {
	mask := len(e.cells) - 1
	for i := e.home(k); ; i = (i + 1) & mask {
		c := &e.cells[i]
		if c.what == 0 {
			return nil
		}
		if c.a == k.a && c.b == k.b {
			return c
		}
	}
}

func (e *expected) insert(k fields, index uint32, kind expectedKind, part int, slot int64) {
	mask := len(e.cells) - 1
	i := e.home(k)
	for e.cells[i].what != 0 {
		i = (i + 1) & mask
	}
	e.n++
	e.cells[i] = cell{a: k.a, b: k.b, index: index, what: uint8(kind)<<partBits | uint8(part), slot: uint8(slot)}
}

const (
	slotsAccepted = 3 // the current one and its neighbours
	// hmacsPerTurn is how many HMACs are computed between two offers of the
	// processor to whoever else wants it.
	hmacsPerTurn = 64
)

// slotNow returns the current slot of a kind.
func slotNow(p *policy.Policy, kind expectedKind, now time.Time) int64 {
	return protocol.Slot(now, slotTime(p, kind))
}

func slotTime(p *policy.Policy, kind expectedKind) time.Duration {
	switch kind {
	case expectSYN:
		return p.Window()
	case expectV2:
		return p.Slot()
	default:
		return p.Sequence().Slot
	}
}

// builder makes tables. It is one goroutine's.
type builder struct {
	scratch *protocol.Scratch
	made    *atomic.Uint64 // counts its HMACs
	spare   *expected      // the table before the last, to be filled anew
	turn    int            // HMACs since the processor was offered
}

// current tells whether e still serves at now: made for p, within the same slots.
func (e *expected) current(p *policy.Policy, now time.Time) bool {
	if e.policy != p {
		return false
	}
	for kind := expectSYN; kind <= expectV2; kind++ {
		if e.slots[kind] != slotNow(p, kind, now) {
			return false
		}
	}
	return true
}

// build makes the table for now. What old has of the slots that are wanted is
// taken over instead of computed again, if it was made for the same policy.
func (b *builder) build(p *policy.Policy, now time.Time, old *expected) *expected {
	size := 2
	if n := p.NumPrecomputed(); n > 0 {
		size = 1 << bits.Len(uint(2*n-1))
	}
	e := b.spare
	b.spare = nil
	if e == nil || len(e.cells) != size {
		e = &expected{cells: make([]cell, size)}
	} else {
		clear(e.cells)
		e.n = 0
	}
	e.policy = p
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	e.shift, e.seed = uint8(64-bits.Len(uint(size-1))), binary.NativeEndian.Uint64(seed[:])
	for kind := expectSYN; kind <= expectV2; kind++ {
		e.slots[kind] = slotNow(p, kind, now)
	}
	if old != nil && old.policy != p {
		old = nil
	}
	if old != nil {
		e.adopt(old)
	}
	for kind := expectSYN; kind <= expectV2; kind++ {
		for slot := e.slots[kind] - policy.SlotsBefore; slot <= e.slots[kind]+policy.SlotsAfter; slot++ {
			if old == nil || !old.has(kind, slot) {
				b.fill(e, p, kind, slot)
			}
		}
	}
	return e
}

// has tells whether a slot of a kind is in the table.
func (e *expected) has(kind expectedKind, slot int64) bool {
	return slot >= e.slots[kind]-policy.SlotsBefore && slot <= e.slots[kind]+policy.SlotsAfter
}

// slotOf returns a cell's slot, of which the cell has the low bits alone: the one
// next to the slot for which the table was made. (What the clock says now may be
// any number of slots away, and must not be asked.)
func (e *expected) slotOf(c *cell) int64 {
	made := e.slots[c.kind()]
	return made + int64(int8(c.slot-uint8(made)))
}

// adopt copies what is still wanted from old.
func (e *expected) adopt(old *expected) {
	for i := range old.cells {
		c := &old.cells[i]
		if c.what == 0 {
			continue
		}
		slot := old.slotOf(c)
		if e.has(c.kind(), slot) {
			e.insert(fields{c.a, c.b}, c.index, c.kind(), c.part(), slot)
		}
	}
}

// fill computes a slot of a kind for every client and port.
func (b *builder) fill(e *expected, p *policy.Policy, kind expectedKind, slot int64) {
	for i := range p.Templates() {
		x := &p.Templates()[i]
		if x.Methods&kind.family() == 0 || kind == expectLegacyPart && !p.Sequence().Legacy {
			continue
		}
		id, index := x.Key.Identity, uint32(i)
		switch kind {
		case expectSYN:
			e.insert(synKey(id.SYN(b.scratch, x.Port, slot)), index, kind, 0, slot)
			b.offer(1)
		case expectPart:
			for part := range p.Sequence().Length {
				e.insert(synKey(id.SYNPart(b.scratch, x.Port, slot, part)), index, kind, part, slot)
			}
			b.offer(p.Sequence().Length)
		case expectLegacyPart:
			for part := range p.Sequence().Length {
				f, _ := id.SYNPartLegacy(b.scratch, x.Port, slot, part)
				e.insert(synKey(f), index, kind, part, slot)
			}
			b.offer(p.Sequence().Length)
		case expectV2:
			e.insert(hintKey(id.KnockV2Hint(b.scratch, p.Gateway(), x.Port, slot)), index, kind, 0, slot)
			b.offer(1)
		}
	}
}

func (kind expectedKind) family() policy.MethodSet {
	switch kind {
	case expectSYN:
		return policy.MethodSYN
	case expectV2:
		return policy.MethodUDPv2
	default:
		return policy.MethodSYNSeq
	}
}

// offer lets others have the processor now and then: the table is wanted in
// half a minute, packets are wanted now.
func (b *builder) offer(n int) {
	b.made.Add(uint64(n))
	if b.turn += n; b.turn >= hmacsPerTurn {
		b.turn = 0
		runtime.Gosched()
	}
}

// turnSlots makes the next table if the clock has turned, or jumped, since the
// last was made.
func (g *Gate) turnSlots(b *builder) {
	g.turning.Lock()
	defer g.turning.Unlock()
	p, now := g.policy.Load(), g.now()
	old := g.expected
	if old.current(p, now) {
		return
	}
	e := b.build(p, now, old)
	e.tell(g.mirror)
	g.mu.Lock()
	g.expected = e
	g.mu.Unlock()
	b.spare = old // look-ups hold the lock, so nobody reads it any more
}

// hit is an expected knock that came.
type hit struct {
	expectation *policy.Template
	service     *policy.Service // that it is for, once that is known
	fields      fields
	kind        expectedKind
	part        int
	slot        int64
	forbidden   bool   // its client may not use the service: it is looked at to say so
	place       uint16 // of a v1 datagram, which nobody expects: in knockLanes.originals
}

// lookUp finds what k is expected as, if its slot is the current one or a
// neighbour of it. The caller holds g.mu.
func (g *Gate) lookUp(k fields) (h hit, ok bool) {
	c := g.expected.find(k)
	if c == nil {
		return hit{}, false
	}
	p := g.expected.policy
	kind := c.kind()
	now, slot := slotNow(p, kind, g.now()), g.expected.slotOf(c)
	if slot < now-1 || slot > now+1 {
		return hit{}, false
	}
	return hit{expectation: &p.Templates()[c.index], fields: k, kind: kind, part: c.part(), slot: slot}, true
}

// timestamp returns TSval of a SYN's Timestamps option (RFC 7323, 3.2).
func timestamp(p *packet.Packet) (uint32, bool) {
	const end, nop, timestamps, size = 0, 1, 8, 10
	o := p.TCPOptions()
	for len(o) > 0 {
		switch {
		case o[0] == end:
			return 0, false
		case o[0] == nop:
			o = o[1:]
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return 0, false
		case o[0] == timestamps && o[1] == size:
			return binary.BigEndian.Uint32(o[2:]), true
		default:
			o = o[o[1]:]
		}
	}
	return 0, false
}
