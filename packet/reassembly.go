package packet

import (
	"bytes"
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// blockSize is the unit, in bytes, in which a Reassembler allocates its memory.
// A packet of 1500 bytes, fragmented at a narrow link, takes one block; a
// packet of 64 KiB wastes at most one.
const blockSize = 4096

// blocksPerDatagram holds the largest payload that Add accepts.
const blocksPerDatagram = (MaxPacket + blockSize - 1) / blockSize

type block [blockSize]byte

// A datagram is an incomplete packet.
type datagram struct {
	src, dst  Addr // the key; the protocol is always TCP
	id        uint32
	subnet    Addr // of src; see Addr.Subnet
	startedAt time.Duration

	header    [ipv6HeaderSize]byte // the first fragment's IP header, without the fragment header
	ranges    []byteRange          // in the order of arrival; none overlap
	received  int                  // bytes in ranges
	maxEnd    int                  // the largest end of ranges
	size      int                  // of the payload in bytes; 0 until the last fragment arrives
	blocks    [blocksPerDatagram]*block
	numBlocks int // blocks that are not nil
}

// A byteRange is the position of a fragment in the payload of its packet.
type byteRange struct{ from, to uint16 }

// byteRange requires that validateFragment has accepted p.
func (p *Packet) byteRange() byteRange {
	from := p.Fragment.Offset
	return byteRange{uint16(from), uint16(from + len(p.Data) - p.Fragment.Payload)}
}

// check compares p, which validateFragment has accepted, with the fragments that
// have arrived.
func (d *datagram) check(p *Packet) (duplicate bool, reason DropReason) {
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
		return false, DropFragmentOverlap // data beyond the end, or another end
	case len(d.ranges) == cap(d.ranges):
		return false, DropFragmentLimit
	default:
		return false, NotDropped
	}
}

// add copies p, which check has accepted, into the blocks allocated for it.
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

// equal compares part with the bytes stored at s.
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

// assemble writes the complete packet to b and returns its size.
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
