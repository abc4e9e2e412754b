package cli

import (
	"encoding/binary"
	"errors"
	"io"
)

// blockWriter writes whole blocks of pcapng alone, up to a number of bytes, so that
// what it has written can be read however it ended, and counts what is in them.
type blockWriter struct {
	w         io.Writer
	left      int64
	unlimited bool
	rest      []byte // of a block that is not complete

	written int64 // bytes
	packets int64
	leftOut uint64 // packets, of which those that were written tell
}

// Of pcapng (draft-ietf-opsawg-pcapng), as the gateway writes it: little-endian.
const (
	blockHeader = 8       // type and length, 4 bytes each
	maxBlock    = 1 << 20 // bytes of one, more than any packet takes

	enhancedPacket = 6  // the type of a block with a packet
	packetHeader   = 28 // what is before the packet: the header, and 20 bytes of which the length is the fourth word
	keptLength     = 20 // where the length of what is kept of it is, in bytes from the start
	statistics     = 5  // the type of the block with the statistics, at the end
	statsHeader    = 20 // what is before its options
	statsDropped   = 5  // the code of its option that says how many packets were lost in all
	blockTrailer   = 4  // the length again
	optionHeader   = 4  // code and length, 2 bytes each
	dropCount      = 4  // the code of the option that says how many packets were lost before this one
	countSize      = 8  // bytes of the value of either
)

// errBlock says that what came is no pcapng.
var errBlock = errors.New("what the gateway sent is no capture")

// Write implements io.Writer.
func (b *blockWriter) Write(p []byte) (int, error) {
	b.rest = append(b.rest, p...)
	for len(b.rest) >= blockHeader {
		n := int(binary.LittleEndian.Uint32(b.rest[4:]))
		if n < blockHeader || n > maxBlock {
			return 0, errBlock
		}
		if len(b.rest) < n {
			break
		}
		if !b.unlimited && int64(n) > b.left {
			return 0, errLimit
		}
		b.left -= int64(n)
		if _, err := b.w.Write(b.rest[:n]); err != nil {
			return 0, err
		}
		b.count(b.rest[:n])
		b.rest = b.rest[n:]
	}
	return len(p), nil
}

// count counts a block that was written, and what it tells of packets that were lost.
func (b *blockWriter) count(block []byte) {
	b.written += int64(len(block))
	switch kind := binary.LittleEndian.Uint32(block); {
	case kind == enhancedPacket && len(block) >= packetHeader+blockTrailer:
		b.packets++
		kept := int64(binary.LittleEndian.Uint32(block[keptLength:]))
		options := block[packetHeader : len(block)-blockTrailer]
		b.leftOut += counted(dropCount, options[min(padded(kept), int64(len(options))):])
	case kind == statistics && len(block) >= statsHeader+blockTrailer:
		// Those after the last packet are in this alone.
		b.leftOut = max(b.leftOut, counted(statsDropped, block[statsHeader:len(block)-blockTrailer]))
	}
}

// counted is the number in the option with that code, 0 without it.
func counted(wanted uint16, options []byte) uint64 {
	for len(options) >= optionHeader {
		code, n := binary.LittleEndian.Uint16(options), int64(binary.LittleEndian.Uint16(options[2:]))
		value := options[optionHeader:]
		if n > int64(len(value)) {
			break
		}
		if code == wanted && n == countSize {
			return binary.LittleEndian.Uint64(value)
		}
		options = value[min(padded(n), int64(len(value))):]
	}
	return 0
}

// padded is how many bytes n bytes take.
func padded(n int64) int64 { return (n + 3) &^ 3 }
