package admission

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
)

// A segment of a file store: a header, then records, all of one size so that a damaged record does not
// take its followers with it, and never shorter than a write was. Integers are big-endian.
//
//	header   magic[8] || u32 version || zero[24] || u32 crc
//	record   key[16] || i64 wall end, Unix ms || u64 client || u32 lifetime, ms || u32 crc
//
// The CRC is Castagnoli's, over what precedes it. Of zero bytes, which a file system may leave after a
// power cut, it is not zero.

const (
	segmentCount   = 2  // the one being written, and the one before it
	recordSize     = 40 // bytes; the header's too, so that records lie at multiples of it
	recordSum      = recordSize - 4
	segmentVersion = 1
	segmentMagic   = "KGREPLAY"
	segmentBuffer  = 64 << 10 // bytes read or written at once when a whole segment is
)

var (
	errSegmentVersion = errors.New("written by another version of knockgw")
	errSegmentMagic   = errors.New("not a replay segment")
)

// segmentFile is what a store needs of an open segment. *os.File is one.
type segmentFile interface {
	io.WriterAt
	io.Closer
}

func openSegment(name string) (segmentFile, error) {
	return os.OpenFile(name, os.O_WRONLY, fileMode) // a name of ours in the store's directory
}

func appendHeader(b []byte) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, segmentVersion)
	b = append(b, make([]byte, recordSum-len(segmentMagic)-4)...)
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

func appendRecord(b []byte, e replayEntry) []byte {
	start := len(b)
	b = append(b, e.key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.wall)) // the same bits
	b = binary.BigEndian.AppendUint64(b, e.client)
	b = binary.BigEndian.AppendUint32(b, e.life)
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

// decodeRecord reports whether b, of recordSize bytes, is a record.
func decodeRecord(b []byte) (replayEntry, bool) {
	if binary.BigEndian.Uint32(b[recordSum:]) != checksum(b[:recordSum]) {
		return replayEntry{}, false
	}
	return replayEntry{
		key:    replayKey(b[:16]),
		wall:   int64(binary.BigEndian.Uint64(b[16:])), // the same bits
		client: binary.BigEndian.Uint64(b[24:]),
		life:   binary.BigEndian.Uint32(b[32:]),
	}, true
}

// segmentDamage is what was wrong with a segment.
type segmentDamage struct {
	corrupt int // records skipped
	torn    int // bytes of an incomplete record at the end
}

// readSegment hands every valid record of r to f. An empty segment, or one that ends within its header,
// has no records: a process killed while creating it leaves that. A header that is complete and not
// ours is an error, since the file is somebody else's.
func readSegment(r io.Reader, f func(replayEntry)) (segmentDamage, error) {
	var damage segmentDamage
	br := bufio.NewReaderSize(r, segmentBuffer)
	var buf [recordSize]byte
	for first := true; ; first = false {
		n, err := io.ReadFull(br, buf[:])
		switch {
		case errors.Is(err, io.EOF):
			return damage, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			damage.torn = n
			return damage, nil
		case err != nil:
			return damage, err
		}
		if first {
			if err := checkHeader(buf[:], &damage); err != nil {
				return damage, err
			}
			continue
		}
		if e, ok := decodeRecord(buf[:]); ok {
			f(e)
		} else {
			damage.corrupt++
		}
	}
}

// checkHeader counts a header with a bad CRC as corrupt and reads on: its records speak for themselves.
func checkHeader(b []byte, damage *segmentDamage) error {
	intact := binary.BigEndian.Uint32(b[recordSum:]) == checksum(b[:recordSum])
	switch {
	case !intact:
		damage.corrupt++
		return nil
	case !bytes.HasPrefix(b, []byte(segmentMagic)):
		return errSegmentMagic
	case binary.BigEndian.Uint32(b[len(segmentMagic):]) != segmentVersion:
		return errSegmentVersion
	}
	return nil
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) // MakeTable caches the table itself
}
