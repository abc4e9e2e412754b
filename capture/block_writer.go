package capture

import (
	"encoding/binary"
	"errors"
	"io"
)

// A BlockWriter passes on whole pcapng blocks only, so that its output can be
// read however the capture ended, and counts what they contain.
type BlockWriter struct {
	W     io.Writer
	Limit int64 // of the output, in bytes; 0 for none

	Bytes   int64  // written
	Packets int64  // written
	Dropped uint64 // packets missing before those written, as the blocks report

	rest []byte // of an incomplete block
}

// pcapng (draft-ietf-opsawg-pcapng) as a Writer writes it: little-endian.
const (
	blockHeader = 8       // type and length, 4 bytes each
	maxBlock    = 1 << 20 // bytes, more than any packet takes

	enhancedPacket = 6  // block type: a packet
	packetHeader   = 28 // before the packet: the block header and 20 bytes
	capturedLength = 20 // offset of the captured length in the block
	statistics     = 5  // block type: the statistics, at the end
	statsHeader    = 20 // before its options
	statsDropped   = 5  // option code: packets dropped in all (isb_ifdrop)
	blockTrailer   = 4  // the length again
	optionHeader   = 4  // code and length, 2 bytes each
	dropCount      = 4  // option code: packets dropped before this one (epb_dropcount)
	countSize      = 8  // bytes of the value of either
)

// ErrLimit says that the next block would exceed the limit of a BlockWriter.
var ErrLimit = errors.New("the size limit is reached")

// Write implements io.Writer. An incomplete block is kept for the next Write.
func (b *BlockWriter) Write(p []byte) (int, error) {
	b.rest = append(b.rest, p...)
	for len(b.rest) >= blockHeader {
		n := int(binary.LittleEndian.Uint32(b.rest[4:]))
		if n < blockHeader || n > maxBlock {
			return 0, ErrFormat
		}
		if len(b.rest) < n {
			break
		}

		if b.Limit > 0 && int64(n) > b.Limit-b.Bytes {
			return 0, ErrLimit
		}
		if _, err := b.W.Write(b.rest[:n]); err != nil {
			return 0, err
		}
		b.count(b.rest[:n])
		b.rest = b.rest[n:]
	}
	return len(p), nil
}

// count adds a written block to the counters.
func (b *BlockWriter) count(block []byte) {
	b.Bytes += int64(len(block))
	switch kind := binary.LittleEndian.Uint32(block); {
	case kind == enhancedPacket && len(block) >= packetHeader+blockTrailer:
		b.Packets++
		captured := int64(binary.LittleEndian.Uint32(block[capturedLength:]))
		options := block[packetHeader : len(block)-blockTrailer]
		b.Dropped += optionCount(dropCount, options[min(padded(captured), int64(len(options))):])
	case kind == statistics && len(block) >= statsHeader+blockTrailer:
		// Packets dropped after the last one written are in this block only.
		b.Dropped = max(b.Dropped, optionCount(statsDropped, block[statsHeader:len(block)-blockTrailer]))
	}
}

// optionCount returns the value of the option with that code, 0 without it.
func optionCount(code uint16, options []byte) uint64 {
	for len(options) >= optionHeader {
		c, n := binary.LittleEndian.Uint16(options), int64(binary.LittleEndian.Uint16(options[2:]))
		value := options[optionHeader:]
		if n > int64(len(value)) {
			break
		}
		if c == code && n == countSize {
			return binary.LittleEndian.Uint64(value)
		}
		options = value[min(padded(n), int64(len(value))):]
	}
	return 0
}

// padded rounds n up to a multiple of 4 bytes.
func padded(n int64) int64 { return (n + 3) &^ 3 }
