package replay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
)

// A segment of a file store is a header and records, all of one size so that a
// damaged record does not affect those after it. Integers are big-endian.
//
//	header   magic[8] || u32 version || u32 generation || zero[24] || u32 crc
//	record   key[16] || i64 wall end, Unix ms || u64 client || u32 lifetime, ms || u32 generation || u32 crc
//
// A segment is preallocated, and reused when all its keys have expired, with a
// header of another generation, so that a full disk does not stop the store.
// The records end with the last one of the header's generation; zeros, an
// incomplete write, or records of an earlier generation follow. The CRC is
// Castagnoli's, over the bytes before it. That of zero bytes is not zero.
//
// Version 1 had no generations: 24 zero bytes followed the version, and records
// were 4 bytes shorter. It is read, and replaced when the store is opened.

const (
	segmentCount   = 2  // the one being written, and the one before it
	recordSize     = 44 // bytes, also of the header, so that records are at multiples of it
	recordSum      = recordSize - 4
	recordSizeV1   = 40
	segmentVersion = 2
	segmentMagic   = "KGREPLAY"
	segmentBuffer  = 64 << 10 // bytes per read or write of a whole segment
)

var (
	errSegmentVersion = errors.New("written by another version of knockgw")
	errSegmentMagic   = errors.New("not a replay segment")
)

// segmentFile is an open segment.
type segmentFile interface {
	io.WriterAt
	io.Closer
	// allocate reserves the blocks of n bytes at offset off, so that writing
	// there needs no further disk space. The file grows by zeros.
	allocate(off, n int64) error
}

// osSegment is a segment in the file system.
type osSegment struct{ *os.File }

func openSegment(name string) (segmentFile, error) {
	f, err := os.OpenFile(name, os.O_WRONLY, fileMode) // a fixed name in the store's directory
	if err != nil {
		return nil, err
	}
	return osSegment{f}, nil
}

func (f osSegment) allocate(off, n int64) error { return allocate(f.File, off, n) }

// writeZeros implements allocate by writing, for systems without a call for it.
func writeZeros(f *os.File, off, n int64) error {
	zeros := make([]byte, min(n, segmentBuffer))
	for n > 0 {
		wrote, err := f.WriteAt(zeros[:min(n, segmentBuffer)], off)
		if err != nil {
			return err
		}
		off, n = off+int64(wrote), n-int64(wrote)
	}
	return nil
}

func appendHeader(b []byte, generation uint32) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, segmentVersion)
	b = binary.BigEndian.AppendUint32(b, generation)
	b = append(b, make([]byte, recordSum-(len(b)-start))...)
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

func appendRecord(b []byte, e entry, generation uint32) []byte {
	start := len(b)
	b = append(b, e.key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.wall)) // the same bits
	b = binary.BigEndian.AppendUint64(b, e.client)
	b = binary.BigEndian.AppendUint32(b, e.life)
	b = binary.BigEndian.AppendUint32(b, generation)
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

// decodeRecord decodes a record of recordSize or recordSizeV1 bytes. ok reports
// whether b is one.
func decodeRecord(b []byte) (e entry, generation uint32, ok bool) {
	if !intact(b) {
		return entry{}, 0, false
	}
	if len(b) == recordSize {
		generation = binary.BigEndian.Uint32(b[36:])
	}
	return entry{
		key:    digest(b[:16]),
		wall:   int64(binary.BigEndian.Uint64(b[16:])), // the same bits
		client: binary.BigEndian.Uint64(b[24:]),
		life:   binary.BigEndian.Uint32(b[32:]),
	}, generation, true
}

// intact reports whether the CRC of a header or record is right.
func intact(b []byte) bool {
	const sum = 4
	return binary.BigEndian.Uint32(b[len(b)-sum:]) == checksum(b[:len(b)-sum])
}

// segmentDamage is the damage found in a segment.
type segmentDamage struct {
	corrupt int // records skipped
	torn    int // bytes of an incomplete record at the end
}

// segmentContent is the result of reading a segment, besides its records.
type segmentContent struct {
	usable     bool   // it has a header of this version and can be appended to
	generation uint32 // of the header
	end        int64  // records up to the last valid one, header included
	size       int64  // records that the file has space for
	damage     segmentDamage
}

// readSegment calls f with every valid record of r. An empty segment, or one
// that ends within its header, has no records: a process killed while creating
// it leaves that. A complete header of another format is an error, since the
// file belongs to another program. If the header is corrupt, records of any
// generation are used: those of earlier ones have expired long ago and do no
// harm.
func readSegment(r io.Reader, f func(entry)) (segmentContent, error) {
	var c segmentContent
	br := bufio.NewReaderSize(r, segmentBuffer)
	size, err := c.readHeader(br)
	if err != nil || size == 0 {
		return c, err
	}

	c.size, c.end = 1, 1
	var buf [recordSize]byte
	for unknown := 0; ; c.size++ {
		n, err := io.ReadFull(br, buf[:size])
		switch {
		case errors.Is(err, io.EOF):
			if size == recordSizeV1 {
				c.damage.corrupt += unknown // version 1 had nothing after its records
			}
			return c, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			c.damage.torn = n
			return c, nil
		case err != nil:
			return c, err
		}
		e, generation, ok := decodeRecord(buf[:size])
		if !ok || c.usable && generation != c.generation {
			unknown++
			continue
		}
		c.damage.corrupt += unknown
		unknown = 0
		c.end = c.size + 1
		f(e)
	}
}

// readHeader reads the header and returns the size of the records that follow,
// 0 if there are none.
func (c *segmentContent) readHeader(br *bufio.Reader) (size int, err error) {
	b, err := br.Peek(recordSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if len(b) < recordSizeV1 {
		c.damage.torn = len(b)
		return 0, nil
	}

	ours := bytes.HasPrefix(b, []byte(segmentMagic))
	version := binary.BigEndian.Uint32(b[len(segmentMagic):])
	whole := len(b) == recordSize && intact(b)
	switch {
	case !whole && !intact(b[:recordSizeV1]):
		c.damage.corrupt++ // its records have CRCs of their own
	case !ours:
		return 0, errSegmentMagic
	case whole && version == segmentVersion:
		c.usable, c.generation = true, binary.BigEndian.Uint32(b[len(segmentMagic)+4:])
	case whole || version != 1:
		return 0, errSegmentVersion
	}
	size = recordSize
	if version == 1 {
		size = recordSizeV1
	}
	n, err := br.Discard(size)
	if err != nil { // it ends within its header
		c.damage.torn = n
		return 0, nil
	}
	return size, nil
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) // MakeTable caches the table itself
}
