package packet

import (
	"slices"
	"time"
)

// ReassemblerOptions bound what a Reassembler keeps. Zero fields take the defaults.
type ReassemblerOptions struct {
	Datagrams            int           // unfinished packets; searched one by one, so not too many
	Bytes                int           // of their fragments in all, counted in blocks of 4 KiB
	PerSource            int           // unfinished packets of one source
	FragmentsPerDatagram int           // fragments of one packet
	Timeout              time.Duration // from a packet's first fragment to arrive to its last

	// Mono is the monotonic clock; default: time since NewReassembler.
	Mono func() time.Duration
	// Dropped is told of fragments that Add kept and that are now thrown away
	// with their unfinished packet: how many, and why. Optional.
	Dropped func(f Fault, fragments int)
}

// Defaults of ReassemblerOptions.
const (
	// DefaultDatagrams is for 8 sources that use up DefaultPerSource. TCP is
	// fragmented only where path MTU discovery fails or is switched off, and
	// then one packet at a time.
	DefaultDatagrams = 64
	// DefaultReassemblyBytes is 16 packets of 64 KiB or 256 of up to 4 KiB.
	DefaultReassemblyBytes = 1 << 20
	// DefaultPerSource lets some packets arrive interleaved. It is also what
	// ends the wait for lost fragments of a sender in full flight, long before
	// IPv4's 16-bit identification comes around (RFC 4963).
	DefaultPerSource = 8
	// DefaultFragmentsPerDatagram is a packet of 64 KiB over links with an MTU
	// of 1280 bytes (52 fragments), the least that IPv6 allows, and some more.
	DefaultFragmentsPerDatagram = 64
	// DefaultReassemblyTimeout is far below the 60 s of RFC 8200. Fragments leave
	// their sender, or the router that made them, back to back; what is apart by
	// more than the difference between two paths is lost. Waiting longer gains
	// nothing: TCP sends the data again within seconds, under another
	// identification. Waiting shorter is safe too: it costs one retransmission.
	DefaultReassemblyTimeout = 10 * time.Second
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
	o     ReassemblerOptions
	share int         // blocks that one source may hold
	held  []*datagram // unfinished, oldest first
	free  []*datagram // the rest of them
	empty []*block    // free blocks
	total int         // blocks, free or not
	whole [MaxPacket]byte
}

// NewReassembler makes a Reassembler and takes all the memory that it will ever need.
func NewReassembler(o ReassemblerOptions) *Reassembler {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&o.Datagrams, DefaultDatagrams}, {&o.Bytes, DefaultReassemblyBytes},
		{&o.PerSource, DefaultPerSource}, {&o.FragmentsPerDatagram, DefaultFragmentsPerDatagram},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultReassemblyTimeout
	}
	if o.Mono == nil {
		start := time.Now()
		o.Mono = func() time.Duration { return time.Since(start) }
	}
	if o.Dropped == nil {
		o.Dropped = func(Fault, int) {}
	}
	blocks := make([]block, o.Bytes/blockSize)
	datagrams := make([]datagram, o.Datagrams)
	spans := make([]span, o.Datagrams*o.FragmentsPerDatagram)
	r := &Reassembler{
		o: o, total: len(blocks),
		// A source's share of the bytes is its share of the datagrams, so that as
		// many sources are needed to use up either, but never less than one packet.
		share: max(len(blocks)*o.PerSource/o.Datagrams, blocksPerDatagram),
		held:  make([]*datagram, 0, len(datagrams)),
		free:  make([]*datagram, 0, len(datagrams)),
		empty: make([]*block, 0, len(blocks)),
	}
	for i := range blocks {
		r.empty = append(r.empty, &blocks[i])
	}
	for i := range datagrams {
		n := o.FragmentsPerDatagram
		datagrams[i].parts = spans[i*n : i*n : (i+1)*n]
		r.free = append(r.free, &datagrams[i])
	}
	return r
}

// Held tells how much is kept: unfinished packets, and the bytes set aside for them.
func (r *Reassembler) Held() (datagrams, size int) {
	return len(r.held), (r.total - len(r.empty)) * blockSize
}

// Add takes the fragment p after its Parse, and copies what it keeps of it. With
// the last missing fragment it returns the whole packet as it would have come
// unfragmented, borrowed until the next Add; IP length and checksum are right,
// TCP's checksum is as the sender made it and covers all of it, whatever
// p.Offload said of a part: Parse it without one. Until then whole is nil.
//
// A fault says that the fragment was refused and with it whatever was there of
// its packet. A packet that is no fragment, or not Reassemblable, keeps its own.
func (r *Reassembler) Add(p *Packet) (whole []byte, f Fault) {
	now := r.o.Mono()
	r.expire(now)
	if !p.Reassemblable() {
		return nil, p.Fault
	}
	d := r.find(p)
	if f = p.unfit(); f != FaultNone {
		r.drop(d, f)
		return nil, f
	}
	if d == nil {
		if d = r.begin(p, now); d == nil {
			return nil, FaultFragmentLimit
		}
	}
	duplicate, f := d.judge(p)
	if duplicate {
		return nil, FaultNone
	}
	if f == FaultNone && !r.reserve(d, p.span()) {
		f = FaultFragmentLimit
	}
	if f != FaultNone {
		r.drop(d, f)
		return nil, f
	}
	d.add(p)
	if d.have != d.size {
		return nil, FaultNone
	}
	n := d.assemble(&r.whole)
	r.release(d)
	return r.whole[:n], FaultNone
}

// expire drops what has waited for too long. It looks no further than the first that has not.
func (r *Reassembler) expire(now time.Duration) {
	for len(r.held) > 0 && now-r.held[0].begun >= r.o.Timeout {
		r.drop(r.held[0], FaultFragmentTimeout)
	}
}

// find returns the packet that p is a part of, nil if it is the first of its
// parts. Fragments come in bunches, so it looks at the newest first.
func (r *Reassembler) find(p *Packet) *datagram {
	for _, d := range slices.Backward(r.held) {
		if d.id == p.Fragment.ID && d.src == p.Tuple.Src && d.dst == p.Tuple.Dst {
			return d
		}
	}
	return nil
}

// begin makes room for a packet whose first fragment to arrive is p, at the
// expense of the same source's oldest; nil if there is none.
func (r *Reassembler) begin(p *Packet, now time.Duration) *datagram {
	site := siteOf(p.Tuple.Src)
	oldest, n, _ := r.of(site, nil)
	if n >= r.o.PerSource || len(r.free) == 0 {
		if oldest == nil {
			return nil
		}
		r.drop(oldest, FaultFragmentLimit)
	}
	last := len(r.free) - 1
	d := r.free[last]
	r.free = r.free[:last]
	r.held = append(r.held, d)
	d.src, d.dst, d.id = p.Tuple.Src, p.Tuple.Dst, p.Fragment.ID
	d.site, d.begun = site, now
	return d
}

// reserve takes the blocks that d needs for s, at the expense of older packets
// of the same source; false if there are none.
func (r *Reassembler) reserve(d *datagram, s span) bool {
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
		oldest, _, taken := r.of(d.site, d)
		if need <= len(r.empty) && taken+d.taken+need <= r.share {
			break
		}
		if oldest == nil {
			return false
		}
		r.drop(oldest, FaultFragmentLimit)
	}
	for i := first; i <= last; i++ {
		if d.blocks[i] == nil {
			n := len(r.empty) - 1
			d.blocks[i] = r.empty[n]
			r.empty = r.empty[:n]
		}
	}
	d.taken += need
	return true
}

// of returns the oldest packet of a source, how many it has, and their blocks.
// It leaves out but.
func (r *Reassembler) of(site Addr, but *datagram) (oldest *datagram, datagrams, blocks int) {
	for _, d := range r.held {
		if d == but || d.site != site {
			continue
		}
		if oldest == nil {
			oldest = d
		}
		datagrams++
		blocks += d.taken
	}
	return oldest, datagrams, blocks
}

// siteOf returns what shares one source's limits with a: in IPv6, one host has a /64 of addresses.
func siteOf(a Addr) Addr {
	if !a.Is4() {
		clear(a[8:])
	}
	return a
}

// drop throws away what there is of d, which may be nil.
func (r *Reassembler) drop(d *datagram, f Fault) {
	if d == nil {
		return
	}
	if n := len(d.parts); n > 0 {
		r.o.Dropped(f, n)
	}
	r.release(d)
}

// release takes d back, and its blocks.
func (r *Reassembler) release(d *datagram) {
	for _, b := range d.blocks {
		if b != nil {
			r.empty = append(r.empty, b)
		}
	}
	i := slices.Index(r.held, d)
	r.held = slices.Delete(r.held, i, i+1)
	*d = datagram{parts: d.parts[:0]}
	r.free = append(r.free, d)
}
