package knock

import (
	"crypto/rand"
	"encoding/binary"
	"iter"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// SYN knocks, SYN sequences and the hints of udp-v2 depend only on the client,
// the port and the time slot. So every knock that could come is computed ahead,
// once a slot, and a packet is looked up: one probe of one table, whatever the
// number of clients.
//
//	slot      s-1      s     s+1     s+2
//	          |--------now----|-------|
//	accepted  [ -1       0      +1 ]
//	in table  [ -1       0      +1     +2 ]
//
// The table holds a slot more than is accepted. When the clock reaches s+1, the
// sweep has a whole slot's time to build the next table; there is no moment at
// which everything must be computed at once, and no HMAC is computed while the
// lock of the gate is held: the new table is built beside the old one and
// swapped for it.

// kind is the kind of a precomputed knock, 0 being an empty cell. Replay keys
// contain it; never renumber.
type kind uint8

const (
	kindSYN kind = iota + 1
	kindPart
	kindLegacyPart
	kindV2
)

// method returns the method of knocks of a kind.
func (k kind) method() policy.MethodSet {
	switch k {
	case kindSYN:
		return policy.MethodSYN
	case kindV2:
		return policy.MethodUDPv2
	default:
		return policy.MethodSYNSeq
	}
}

// slotNow returns the current slot of a kind.
func slotNow(p *policy.Policy, k kind, now time.Time) int64 {
	return protocol.Slot(now, slotTime(p, k))
}

// slotTime returns the length of a kind's slots.
func slotTime(p *policy.Policy, k kind) time.Duration {
	switch k {
	case kindSYN:
		return p.Window()
	case kindV2:
		return p.Slot()
	default:
		return p.Sequence().Slot
	}
}

// SlotsAccepted is how many slots a knock is accepted in: the current one and
// its neighbors.
const SlotsAccepted = 3

// fields are the 80 bits by which a knock is found: sequence number, timestamp
// and window of a SYN, or the hint of a udp-v2 datagram.
type fields struct {
	a uint64
	b uint16
}

const fieldBytes = 8 + 2

func synFields(f protocol.SYNFields) fields {
	return fields{uint64(f.Seq)<<32 | uint64(f.TSVal), f.Window}
}

func hintFields(h protocol.HintV2) fields {
	return fields{binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint16(h[8:])}
}

// cell is 16 bytes: a quarter of a cache line.
type cell struct {
	a     uint64
	index uint32 // of Policy.Templates
	b     uint16
	tag   uint8 // kind << 3 | part
	slot  uint8 // the low bits: enough to tell neighbors apart
}

const partBits = 3 // of SYN sequences, at most 5 parts

func (c *cell) kind() kind { return kind(c.tag >> partBits) }
func (c *cell) part() int  { return int(c.tag & (1<<partBits - 1)) }

// A Table holds the knocks that could come: open addressing with linear probing,
// at most half full. It is immutable once built.
type Table struct {
	policy *policy.Policy // whose templates the cells index
	cells  []cell
	n      int // cells in use
	shift  uint8
	seed   uint64
	slots  [kindV2 + 1]int64 // by kind, the slot that was current when the table was built
}

// Len returns how many knocks are in the table.
func (t *Table) Len() int { return t.n }

// Size returns how many cells the table has, 16 bytes each.
func (t *Table) Size() int { return len(t.cells) }

// Fields iterates over the 80 bits of each knock in the table.
func (t *Table) Fields() iter.Seq2[uint64, uint16] {
	return func(yield func(uint64, uint16) bool) {
		for i := range t.cells {
			if c := &t.cells[i]; c.tag != 0 && !yield(c.a, c.b) {
				return
			}
		}
	}
}

// bucket returns the index of the first cell to probe for f.
func (t *Table) bucket(f fields) int {
	const golden = 0x9e3779b97f4a7c15 // 2^64 / golden ratio: multiplicative hashing
	return int(((f.a ^ t.seed) * golden) >> t.shift)
}

// find returns the cell for f, nil if there is none.
func (t *Table) find(f fields) *cell {
	mask := len(t.cells) - 1
	for i := t.bucket(f); ; i = (i + 1) & mask {
		c := &t.cells[i]
		if c.tag == 0 {
			return nil
		}
		if c.a == f.a && c.b == f.b {
			return c
		}
	}
}

func (t *Table) insert(f fields, index uint32, k kind, part int, slot int64) {
	mask := len(t.cells) - 1
	i := t.bucket(f)
	for t.cells[i].tag != 0 {
		i = (i + 1) & mask
	}
	t.n++
	t.cells[i] = cell{a: f.a, b: f.b, index: index, tag: uint8(k)<<partBits | uint8(part), slot: uint8(slot)}
}

// current reports whether t still serves at now: built for p, within the same
// slots.
func (t *Table) current(p *policy.Policy, now time.Time) bool {
	if t.policy != p {
		return false
	}
	for k := kindSYN; k <= kindV2; k++ {
		if t.slots[k] != slotNow(p, k, now) {
			return false
		}
	}
	return true
}

// has reports whether a slot of a kind is in the table.
func (t *Table) has(k kind, slot int64) bool {
	return slot >= t.slots[k]-policy.SlotsBefore && slot <= t.slots[k]+policy.SlotsAfter
}

// slotOf returns a cell's slot. The cell has only its low bits: it is the one
// nearest to the slot for which the table was built. (The current time may be
// any number of slots away, and must not be used.)
func (t *Table) slotOf(c *cell) int64 {
	built := t.slots[c.kind()]
	return built + int64(int8(c.slot-uint8(built)))
}

// reuse copies the knocks of old that are still in range.
func (t *Table) reuse(old *Table) {
	for i := range old.cells {
		c := &old.cells[i]
		if c.tag == 0 {
			continue
		}
		slot := old.slotOf(c)
		if t.has(c.kind(), slot) {
			t.insert(fields{c.a, c.b}, c.index, c.kind(), c.part(), slot)
		}
	}
}

// hmacsPerYield is how many HMACs are computed before other goroutines get the
// processor.
const hmacsPerYield = 64

// A Builder builds tables. It belongs to one goroutine.
type Builder struct {
	scratch    *protocol.Scratch
	computed   *atomic.Uint64 // counts its HMACs
	spare      *Table         // the table before the last, to be filled again
	sinceYield int            // HMACs
}

// NewBuilder returns a builder for the tables of p.
func (p *Pipeline) NewBuilder() *Builder {
	return &Builder{scratch: protocol.NewScratch(), computed: &p.computed}
}

// Build builds the table for now. The slots that old has are copied instead of
// computed again, if it was built for the same policy. old may be nil.
func (b *Builder) Build(p *policy.Policy, now time.Time, old *Table) *Table {
	size := 2
	if n := p.NumPrecomputed(); n > 0 {
		size = 1 << bits.Len(uint(2*n-1))
	}
	t := b.spare
	b.spare = nil
	if t == nil || len(t.cells) != size {
		t = &Table{cells: make([]cell, size)}
	} else {
		clear(t.cells)
		t.n = 0
	}

	t.policy = p
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	t.shift, t.seed = uint8(64-bits.Len(uint(size-1))), binary.NativeEndian.Uint64(seed[:])
	for k := kindSYN; k <= kindV2; k++ {
		t.slots[k] = slotNow(p, k, now)
	}

	if old != nil && old.policy != p {
		old = nil
	}
	if old != nil {
		t.reuse(old)
	}
	for k := kindSYN; k <= kindV2; k++ {
		for slot := t.slots[k] - policy.SlotsBefore; slot <= t.slots[k]+policy.SlotsAfter; slot++ {
			if old == nil || !old.has(k, slot) {
				b.fill(t, p, k, slot)
			}
		}
	}
	return t
}

// Recycle gives the builder a table that is in use no more, for its memory.
func (b *Builder) Recycle(old *Table) { b.spare = old }

// fill computes a slot of a kind for every template.
func (b *Builder) fill(t *Table, p *policy.Policy, k kind, slot int64) {
	all, parts := p.Templates(), p.Sequence().Length
	for i := range all {
		x := &all[i]
		if x.Methods&k.method() == 0 || k == kindLegacyPart && !p.Sequence().Legacy {
			continue
		}

		id, index := x.Key.Identity, uint32(i)
		switch k {
		case kindSYN:
			t.insert(synFields(id.SYN(b.scratch, x.Port, slot)), index, k, 0, slot)
			b.yield(1)
		case kindPart:
			for part := range parts {
				t.insert(synFields(id.SYNPart(b.scratch, x.Port, slot, part)), index, k, part, slot)
			}
			b.yield(parts)
		case kindLegacyPart:
			for part := range parts {
				f, _ := id.SYNPartLegacy(b.scratch, x.Port, slot, part)
				t.insert(synFields(f), index, k, part, slot)
			}
			b.yield(parts)
		case kindV2:
			t.insert(hintFields(id.KnockV2Hint(b.scratch, p.Gateway(), x.Port, slot)), index, k, 0, slot)
			b.yield(1)
		}
	}
}

// yield counts n HMACs and lets other goroutines run from time to time: the
// table is needed in half a minute, packets are waiting now.
func (b *Builder) yield(n int) {
	b.computed.Add(uint64(n))
	if b.sinceYield += n; b.sinceYield >= hmacsPerYield {
		b.sinceYield = 0
		runtime.Gosched()
	}
}

// NextTable builds the table that replaces the one in use; nil if that still
// serves. The caller must keep others from replacing the table or the policy.
func (p *Pipeline) NextTable(b *Builder) *Table {
	pol, now := p.policy(), p.now()
	if p.table.current(pol, now) {
		return nil
	}
	return b.Build(pol, now, p.table)
}

// SetTable replaces the table in use, and returns the old one. The caller holds
// the lock.
func (p *Pipeline) SetTable(t *Table) *Table {
	old := p.table
	p.table = t
	return old
}

// Table returns the table in use.
func (p *Pipeline) Table() *Table { return p.table }

// A Match is a knock that was found in the table.
type Match struct {
	template  *policy.Template
	service   *policy.Service // that it is for, once that is known
	fields    fields
	kind      kind
	part      int
	slot      int64
	forbidden bool   // its client may not use the service; it is processed to report that
	nonce     uint16 // of a v1 datagram, which is not in the table: its index in queues.pendingNonces
}

// claimKey identifies the knock among those of its slot.
func (m *Match) claimKey() claimKey {
	return claimKey{m.template.Key.Identity, m.template.Port, m.kind, m.slot}
}

// resolve returns the key and the service in pol of a knock that was matched
// under pol or an earlier policy; nil if pol does not have them.
func (m *Match) resolve(pol *policy.Policy) (*policy.ClientKey, *policy.Service) {
	svc := m.service
	if pol.Has(svc) {
		return m.template.Key, svc // even where it is forbidden
	}
	// The service was at this address and port, and is found there if it is the
	// same.
	s := pol.Find(packet.AddrFrom(svc.Listen.Addr()), svc.Port, svc.SameEndpoint)
	if s == nil || m.forbidden || !s.Accepts(m.template, m.kind.method()) {
		return nil, nil
	}
	return s.KeyOf(m.template.Key.Identity), s
}

// lookup finds f in the table, if its slot is the current one or a neighbor of
// it. The caller holds the lock.
func (p *Pipeline) lookup(f fields) (m Match, ok bool) {
	c := p.table.find(f)
	if c == nil {
		return Match{}, false
	}
	pol, k := p.table.policy, c.kind()
	now, slot := slotNow(pol, k, p.now()), p.table.slotOf(c)
	if slot < now-1 || slot > now+1 {
		return Match{}, false
	}
	return Match{template: &pol.Templates()[c.index], fields: f, kind: k, part: c.part(), slot: slot}, true
}
