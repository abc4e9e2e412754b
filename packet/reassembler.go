package packet

import (
	"slices"
	"time"
)

// ReassemblerOptions bound what a Reassembler keeps. Zero fields take the defaults.
type ReassemblerOptions struct {
	MaxDatagrams int           // unfinished packets; searched one by one, so not too many
	MaxBytes     int           // of their fragments in all, counted in blocks of 4 KiB
	MaxPerSource int           // unfinished packets of one source
	MaxFragments int           // fragments of one packet
	Timeout      time.Duration // from a packet's first fragment to arrive to its last

	// Clock is the monotonic clock; default: time since NewReassembler.
	Clock func() time.Duration
	// OnDrop is told of fragments that Add kept and that are now thrown away
	// with their unfinished packet: how many, and why. Optional.
	OnDrop func(f DropReason, fragments int)
}

// Defaults of ReassemblerOptions.
const (
	// DefaultMaxDatagrams is for 8 sources that use up DefaultPerSource. TCP is
	// fragmented only where path MTU discovery fails or is switched off, and
	// then one packet at a time.
	DefaultMaxDatagrams = 64
	// DefaultMaxBytes is 16 packets of 64 KiB or 256 of up to 4 KiB.
	DefaultMaxBytes = 1 << 20
	// DefaultMaxPerSource lets some packets arrive interleaved. It is also what
	// ends the wait for lost fragments of a sender in full flight, long before
	// IPv4's 16-bit identification comes around (RFC 4963).
	DefaultMaxPerSource = 8
	// DefaultMaxFragments is a packet of 64 KiB over links with an MTU
	// of 1280 bytes (52 fragments), the least that IPv6 allows, and some more.
	DefaultMaxFragments = 64
	// DefaultTimeout is far below the 60 s of RFC 8200. Fragments leave
	// their sender, or the router that made them, back to back; what is apart by
	// more than the difference between two paths is lost. Waiting longer gains
	// nothing: TCP sends the data again within seconds, under another
	// identification. Waiting shorter is safe too: it costs one retransmission.
	DefaultTimeout = 10 * time.Second
)

// A Reassembler puts TCP packets together from their fragments. All its memory
// is taken by NewReassembler; neither keeping nor refusing a fragment allocates.
// It is for one goroutine.
//
// Two implementations that read the same fragments must get the same packet or
// none (RFC 1858, 3128, 5722), and a fragment must cost whoever sends it more
// than it costs us:
//
//   - Fragments that overlap, or that contradict each other about the packet's
//     length, end their packet: all of it is forgotten, and it is not remembered
//     either, so that later fragments begin anew and time out. Exact duplicates
//     are ignored, as RFC 8200 (4.5) allows: networks duplicate packets, and the
//     same bytes at the same place leave nothing to choose. The same place with
//     other bytes is an overlap.
//   - The first fragment must hold the whole TCP header; no other may reach into it.
//   - A refused fragment takes its whole packet with it, which could not be
//     finished without.
//   - When a source exceeds its share, its own oldest packet goes. A source that
//     has none while others fill the memory is refused: nobody can push out
//     somebody else's. One source is one address in IPv4 and a /64 in IPv6.
//   - Only the first fragment's IP header counts: what the others say about hop
//     limit, traffic class or ECN is not looked at. RFC 3168 (5.3) would have a
//     congestion mark in any of them kept; gVisor's TCP does not know ECN, so
//     nobody would read it.
type Reassembler struct {
	opts            ReassemblerOptions
	maxSourceBlocks int         // blocks that one source may hold
	active          []*datagram // unfinished, oldest first
	freeDatagrams   []*datagram // the rest of them
	freeBlocks      []*block    // free blocks
	numBlocks       int         // blocks, free or not
	out             [MaxPacket]byte
}

// NewReassembler makes a Reassembler and takes all the memory that it will ever need.
func NewReassembler(o ReassemblerOptions) *Reassembler {
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
	blocks := make([]block, o.MaxBytes/blockSize)
	datagrams := make([]datagram, o.MaxDatagrams)
	spans := make([]byteRange, o.MaxDatagrams*o.MaxFragments)
	r := &Reassembler{
		opts: o, numBlocks: len(blocks),
		// A source's share of the bytes is its share of the datagrams, so that as
		// many sources are needed to use up either, but never less than one packet.
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
		datagrams[i].ranges = spans[i*n : i*n : (i+1)*n]
		r.freeDatagrams = append(r.freeDatagrams, &datagrams[i])
	}
	return r
}

// Usage tells how much is kept: unfinished packets, and the bytes set aside for them.
func (r *Reassembler) Usage() (datagrams, size int) {
	return len(r.active), (r.numBlocks - len(r.freeBlocks)) * blockSize
}

// Add takes the fragment p after its Parse, and copies what it keeps of it. With
// the last missing fragment it returns the whole packet as it would have come
// unfragmented, borrowed until the next Add; IP length and checksum are right,
// TCP's checksum is as the sender made it and covers all of it, whatever
// p.Offload said of a part: Parse it without one. Until then whole is nil.
//
// A fault says that the fragment was refused and with it whatever was there of
// its packet. A packet that is no fragment, or not Reassemblable, keeps its own.
func (r *Reassembler) Add(p *Packet) (whole []byte, f DropReason) {
	now := r.opts.Clock()
	r.expire(now)
	if !p.Reassemblable() {
		return nil, p.DropReason
	}
	d := r.find(p)
	if f = p.validateFragment(); f != NotDropped {
		r.drop(d, f)
		return nil, f
	}
	if d == nil {
		if d = r.start(p, now); d == nil {
			return nil, DropFragmentLimit
		}
	}
	duplicate, f := d.check(p)
	if duplicate {
		return nil, NotDropped
	}
	if f == NotDropped && !r.allocBlocks(d, p.byteRange()) {
		f = DropFragmentLimit
	}
	if f != NotDropped {
		r.drop(d, f)
		return nil, f
	}
	d.add(p)
	if d.received != d.size {
		return nil, NotDropped
	}
	n := d.assemble(&r.out)
	r.release(d)
	return r.out[:n], NotDropped
}

// expire drops what has waited for too long. It looks no further than the first that has not.
func (r *Reassembler) expire(now time.Duration) {
	for len(r.active) > 0 && now-r.active[0].startedAt >= r.opts.Timeout {
		r.drop(r.active[0], DropFragmentTimeout)
	}
}

// find returns the packet that p is a part of, nil if it is the first of its
// parts. Fragments come in bunches, so it looks at the newest first.
func (r *Reassembler) find(p *Packet) *datagram {
	for _, d := range slices.Backward(r.active) {
		if d.id == p.Fragment.ID && d.src == p.Tuple.Src && d.dst == p.Tuple.Dst {
			return d
		}
	}
	return nil
}

// start makes room for a packet whose first fragment to arrive is p, at the
// expense of the same source's oldest; nil if there is none.
func (r *Reassembler) start(p *Packet, now time.Duration) *datagram {
	site := subnetOf(p.Tuple.Src)
	oldest, n, _ := r.sourceUsage(site, nil)
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
	d.subnet, d.startedAt = site, now
	return d
}

// allocBlocks takes the blocks that d needs for s, at the expense of older packets
// of the same source; false if there are none.
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
		oldest, _, taken := r.sourceUsage(d.subnet, d)
		if need <= len(r.freeBlocks) && taken+d.numBlocks+need <= r.maxSourceBlocks {
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

// sourceUsage returns the oldest packet of a source, how many it has, and their blocks.
// It leaves out but.
func (r *Reassembler) sourceUsage(site Addr, but *datagram) (oldest *datagram, datagrams, blocks int) {
	for _, d := range r.active {
		if d == but || d.subnet != site {
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

// subnetOf returns what shares one source's limits with a: in IPv6, one host has a /64 of addresses.
func subnetOf(a Addr) Addr {
	if !a.Is4() {
		clear(a[8:])
	}
	return a
}

// drop throws away what there is of d, which may be nil.
func (r *Reassembler) drop(d *datagram, f DropReason) {
	if d == nil {
		return
	}
	if n := len(d.ranges); n > 0 {
		r.opts.OnDrop(f, n)
	}
	r.release(d)
}

// release takes d back, and its blocks.
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
