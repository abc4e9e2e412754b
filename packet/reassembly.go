package packet

import (
	"bytes"
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// blockSize is the unit, in bytes, in which the memory of a Reassembler is
// taken. A packet of 1500 bytes, cut at a narrow link, is one block; a packet
// of 64 KiB wastes no more than one.
const blockSize = 4096

// blocksPerDatagram holds the largest payload that Add accepts.
const blocksPerDatagram = (MaxPacket + blockSize - 1) / blockSize

type block [blockSize]byte

// A datagram is a packet of which some fragments are there.
type datagram struct {
	src, dst  Addr // all that is kept is TCP, so the protocol need not be part of the key
	id        uint32
	subnet    Addr // see siteOf
	startedAt time.Duration

	header    [ipv6HeaderSize]byte // the first fragment's IP header, without the fragment header
	ranges    []byteRange          // in the order in which they came; none overlap
	received  int                  // bytes in parts
	maxEnd    int                  // where the farthest of parts ends
	size      int                  // bytes in all; 0 until the last fragment is there
	blocks    [blocksPerDatagram]*block
	numBlocks int // blocks that are not nil
}

// A byteRange is where in a packet's payload a fragment's bytes go.
type byteRange struct{ from, to uint16 }

// byteRange is only for fragments that are not unfit.
func (p *Packet) byteRange() byteRange {
	from := p.Fragment.Offset
	return byteRange{uint16(from), uint16(from + len(p.Data) - p.Fragment.Payload)}
}

// check holds p, which is not unfit, against the fragments that are there.
func (d *datagram) check(p *Packet) (duplicate bool, f DropReason) {
	s := p.byteRange()
	last := !p.Fragment.More
	for _, q := range d.ranges {
		if s.to <= q.from || q.to <= s.from {
			continue
		}
		if s == q && last == (int(q.to) == d.size) && d.equal(s, p.Data[p.Fragment.Payload:]) {
			return true, NotDropped
		}
		return false, DropFragmentOverlap
	}
	switch {
	case d.size > 0 && int(s.to) > d.size, last && d.maxEnd > int(s.to):
		return false, DropFragmentOverlap // something beyond the end, be it another end
	case len(d.ranges) == cap(d.ranges):
		return false, DropFragmentLimit
	default:
		return false, NotDropped
	}
}

// add copies p, which judge has found fit, into the blocks that are reserved for it.
func (d *datagram) add(p *Packet) {
	s := p.byteRange()
	d.ranges = append(d.ranges, s)
	d.received += int(s.to) - int(s.from)
	d.maxEnd = max(d.maxEnd, int(s.to))
	if !p.Fragment.More {
		d.size = int(s.to)
	}
	if s.from == 0 {
		copy(d.header[:], p.Data)
	}
	part := p.Data[p.Fragment.Payload:]
	for at := int(s.from); len(part) > 0; {
		n := copy(d.blocks[at/blockSize][at%blockSize:], part)
		part = part[n:]
		at += n
	}
}

// equal compares part with the bytes that are there already.
func (d *datagram) equal(s byteRange, part []byte) bool {
	for at := int(s.from); len(part) > 0; {
		have := d.blocks[at/blockSize][at%blockSize:]
		n := min(len(have), len(part))
		if !bytes.Equal(have[:n], part[:n]) {
			return false
		}
		part = part[n:]
		at += n
	}
	return true
}

// assemble writes the packet, all of which is there, to b and returns its size.
func (d *datagram) assemble(b *[MaxPacket]byte) int {
	n := ipv6HeaderSize
	if d.src.Is4() {
		n = ipv4HeaderSize
	}
	header := b[:copy(b[:n], d.header[:])]
	for at := 0; at < d.size; at += blockSize {
		n += copy(b[n:], d.blocks[at/blockSize][:min(blockSize, d.size-at)])
	}
	if len(header) == ipv6HeaderSize {
		binary.BigEndian.PutUint16(header[4:], uint16(d.size))
		header[6] = byte(TCP)
		return n
	}
	binary.BigEndian.PutUint16(header[2:], uint16(n))
	header[6], header[7] = 0, 0 // flags and offset
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^checksum.Checksum(header, 0))
	return n
}
