package packet

import (
	"slices"
	"time"
)

// ReassemblerOptions bound what a Reassembler stores. Fields that are 0 take
// the defaults.
type ReassemblerOptions struct {
	MaxDatagrams int           // incomplete packets; searched linearly, so keep it small
	MaxBytes     int           // memory for all fragments, used in blocks of 4 KiB
	MaxPerSource int           // incomplete packets of one source
	MaxFragments int           // fragments of one packet
	Timeout      time.Duration // from the arrival of a packet's first fragment to the last

	// Clock is the monotonic clock; default: time since NewReassembler.
	Clock func() time.Duration
	// OnDrop is called when fragments that Add stored are discarded with their
	// incomplete packet, with the reason and their number. Optional.
	OnDrop func(reason DropReason, fragments int)
}

// Defaults of ReassemblerOptions.
const (
	// DefaultMaxDatagrams suffices for 8 sources that use all of
	// DefaultMaxPerSource. TCP is fragmented only where path MTU discovery
	// fails or is switched off, and then one packet at a time.
	DefaultMaxDatagrams = 64
	// DefaultMaxBytes is 16 packets of 64 KiB or 256 of up to 4 KiB.
	DefaultMaxBytes = 1 << 20
	// DefaultMaxPerSource allows for interleaved packets. It also ends the wait
	// for lost fragments of a fast sender, long before the 16-bit
	// identification of IPv4 wraps around (RFC 4963).
	DefaultMaxPerSource = 8
	// DefaultMaxFragments suffices for a packet of 64 KiB over a link with an
	// MTU of 1280 bytes, the minimum of IPv6 (52 fragments), with some to
	// spare.
	DefaultMaxFragments = 64
	// DefaultTimeout is far below the 60 s of RFC 8200. Fragments leave the
	// sender, or the router that made them, back to back; a gap larger than the
	// delay between two paths means that one was lost. A longer timeout gains
	// nothing, because TCP retransmits the data within seconds, with another
	// identification. A shorter one is safe too: it costs one retransmission.
	DefaultTimeout = 10 * time.Second
)

// A Reassembler reassembles TCP packets from their fragments. NewReassembler
// allocates all its memory; neither storing nor rejecting a fragment allocates.
// It may be used by one goroutine at a time.
//
// Two implementations that see the same fragments must get the same packet or
// none (RFC 1858, 3128, 5722), and a fragment must cost its sender more than it
// costs the gateway:
//
//   - Fragments that overlap, or contradict each other about the length of the
//     packet, discard the whole packet. No record of it is kept, so that later
//     fragments start a new one, which times out. Exact duplicates are ignored,
//     as RFC 8200 (4.5) allows: networks duplicate packets, and identical bytes
//     at the same offset are not ambiguous. Different bytes there are an overlap.
//   - The first fragment must contain the whole TCP header; no other may
//     overlap it.
//   - A rejected fragment discards its packet, which cannot be completed
//     without it.
//   - A source that exceeds its share loses its own oldest packet. A source
//     without packets is rejected while others fill the memory: no source can
//     evict packets of another. A source is one address in IPv4 and a /64 in
//     IPv6.
//   - Only the IP header of the first fragment is used. Hop limit, traffic
//     class and ECN of the others are ignored. RFC 3168 (5.3) preserves a
//     congestion mark of any fragment; gVisor's TCP does not support ECN and
//     would not read it.
type Reassembler struct {
	opts            ReassemblerOptions
	maxSourceBlocks int         // blocks that one source may use
	active          []*datagram // incomplete, oldest first
	freeDatagrams   []*datagram
	freeBlocks      []*block
	numBlocks       int             // in use or free
	out             [MaxPacket]byte // the packet that Add returns
}

// NewReassembler returns a Reassembler and allocates all the memory that it
// will ever use.
func NewReassembler(o ReassemblerOptions) *Reassembler {
	o.setDefaults()
	blocks := make([]block, o.MaxBytes/blockSize)
	datagrams := make([]datagram, o.MaxDatagrams)
	ranges := make([]byteRange, o.MaxDatagrams*o.MaxFragments)

	r := &Reassembler{
		opts: o, numBlocks: len(blocks),
		// The share of a source in the bytes is that in the datagrams, so that
		// it takes as many sources to exhaust either, but at least one whole
		// packet.
		maxSourceBlocks: max(len(blocks)*o.MaxPerSource/o.MaxDatagrams, blocksPerDatagram),
		active:          make([]*datagram, 0, len(datagrams)),
		freeDatagrams:   make([]*datagram, 0, len(datagrams)),
		freeBlocks:      make([]*block, 0, len(blocks)),
	}
	for i := range blocks {
		r.freeBlocks = append(r.freeBlocks, &blocks[i])
	}
	for i := range datagrams {
		n := o.MaxFragments
		datagrams[i].ranges = ranges[i*n : i*n : (i+1)*n]
		r.freeDatagrams = append(r.freeDatagrams, &datagrams[i])
	}
	return r
}

func (o *ReassemblerOptions) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&o.MaxDatagrams, DefaultMaxDatagrams}, {&o.MaxBytes, DefaultMaxBytes},
		{&o.MaxPerSource, DefaultMaxPerSource}, {&o.MaxFragments, DefaultMaxFragments},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Clock == nil {
		start := time.Now()
		o.Clock = func() time.Duration { return time.Since(start) }
	}
	if o.OnDrop == nil {
		o.OnDrop = func(DropReason, int) {}
	}
}

// Usage returns the number of incomplete packets and the bytes reserved for
// them.
func (r *Reassembler) Usage() (datagrams, size int) {
	return len(r.active), (r.numBlocks - len(r.freeBlocks)) * blockSize
}

// Add stores the fragment p, which Parse has decoded, by copying its bytes.
// Once no fragment is missing, it returns the whole packet as it would have
// arrived unfragmented, borrowed until the next call of Add; otherwise whole is
// nil. The IP length and header checksum of whole are correct. The TCP checksum
// is the sender's and covers the whole packet, whatever p.Offload says of a
// fragment: Parse whole without an Offload.
//
// A reason other than NotDropped means that the fragment was rejected, together
// with the fragments of its packet stored before. Add returns p.DropReason for
// packets that are not Reassemblable.
func (r *Reassembler) Add(p *Packet) (whole []byte, reason DropReason) {
	now := r.opts.Clock()
	r.expire(now)
	if !p.Reassemblable() {
		return nil, p.DropReason
	}

	d := r.find(p)
	if reason = p.validateFragment(); reason != NotDropped {
		r.drop(d, reason)
		return nil, reason
	}
	if d == nil {
		if d = r.start(p, now); d == nil {
			return nil, DropFragmentLimit
		}
	}

	duplicate, reason := d.check(p)
	if duplicate {
		return nil, NotDropped
	}
	if reason == NotDropped && !r.allocBlocks(d, p.byteRange()) {
		reason = DropFragmentLimit
	}
	if reason != NotDropped {
		r.drop(d, reason)
		return nil, reason
	}

	d.add(p)
	if d.received != d.size {
		return nil, NotDropped
	}
	n := d.assemble(&r.out)
	r.release(d)
	return r.out[:n], NotDropped
}

// expire discards the packets whose timeout has passed. They are ordered by
// age, so it stops at the first that has time left.
func (r *Reassembler) expire(now time.Duration) {
	for len(r.active) > 0 && now-r.active[0].startedAt >= r.opts.Timeout {
		r.drop(r.active[0], DropFragmentTimeout)
	}
}

// find returns the packet that p is a fragment of, or nil if p is the first of
// its fragments to arrive. Fragments arrive in bursts, so it searches from the
// newest.
func (r *Reassembler) find(p *Packet) *datagram {
	for _, d := range slices.Backward(r.active) {
		if d.id == p.Fragment.ID && d.src == p.Tuple.Src && d.dst == p.Tuple.Dst {
			return d
		}
	}
	return nil
}

// start makes room for the packet that p is a fragment of, by discarding the
// oldest packet of the same source if necessary. It returns nil if there is
// none.
func (r *Reassembler) start(p *Packet, now time.Duration) *datagram {
	subnet := p.Tuple.Src.Subnet()
	oldest, n, _ := r.sourceUsage(subnet, nil)
	if n >= r.opts.MaxPerSource || len(r.freeDatagrams) == 0 {
		if oldest == nil {
			return nil
		}
		r.drop(oldest, DropFragmentLimit)
	}

	last := len(r.freeDatagrams) - 1
	d := r.freeDatagrams[last]
	r.freeDatagrams = r.freeDatagrams[:last]
	r.active = append(r.active, d)
	d.src, d.dst, d.id = p.Tuple.Src, p.Tuple.Dst, p.Fragment.ID
	d.subnet, d.startedAt = subnet, now
	return d
}

// allocBlocks allocates the blocks that d needs for s, by discarding older
// packets of the same source if necessary. It reports whether they suffice.
func (r *Reassembler) allocBlocks(d *datagram, s byteRange) bool {
	first, last := int(s.from)/blockSize, (int(s.to)-1)/blockSize
	need := 0
	for _, b := range d.blocks[first : last+1] {
		if b == nil {
			need++
		}
	}
	if need == 0 {
		return true
	}

	for {
		oldest, _, used := r.sourceUsage(d.subnet, d)
		if need <= len(r.freeBlocks) && used+d.numBlocks+need <= r.maxSourceBlocks {
			break
		}
		if oldest == nil {
			return false
		}
		r.drop(oldest, DropFragmentLimit)
	}

	for i := first; i <= last; i++ {
		if d.blocks[i] == nil {
			n := len(r.freeBlocks) - 1
			d.blocks[i] = r.freeBlocks[n]
			r.freeBlocks = r.freeBlocks[:n]
		}
	}
	d.numBlocks += need
	return true
}

// sourceUsage returns the oldest packet of a source, the number of its packets
// and that of their blocks. It does not count the packet except.
func (r *Reassembler) sourceUsage(subnet Addr, except *datagram) (oldest *datagram, datagrams, blocks int) {
	for _, d := range r.active {
		if d == except || d.subnet != subnet {
			continue
		}
		if oldest == nil {
			oldest = d
		}
		datagrams++
		blocks += d.numBlocks
	}
	return oldest, datagrams, blocks
}

// drop discards the fragments of d, which may be nil.
func (r *Reassembler) drop(d *datagram, reason DropReason) {
	if d == nil {
		return
	}
	if n := len(d.ranges); n > 0 {
		r.opts.OnDrop(reason, n)
	}
	r.release(d)
}

// release frees d and its blocks.
func (r *Reassembler) release(d *datagram) {
	for _, b := range d.blocks {
		if b != nil {
			r.freeBlocks = append(r.freeBlocks, b)
		}
	}
	i := slices.Index(r.active, d)
	r.active = slices.Delete(r.active, i, i+1)
	*d = datagram{ranges: d.ranges[:0]}
	r.freeDatagrams = append(r.freeDatagrams, d)
}
