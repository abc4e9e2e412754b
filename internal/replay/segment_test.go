package replay

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func appendSum(b []byte) []byte { return binary.BigEndian.AppendUint32(b, checksum(b)) }

func TestSegmentZerosAreNoRecord(t *testing.T) {
	if _, _, ok := decodeRecord(make([]byte, recordSize)); ok {
		t.Fatal("zeros decode")
	}
}

func FuzzReadSegment(f *testing.F) {
	e := entry{key: digest{1, 2, 3}, wall: 1 << 41, client: 7, life: 61_000}
	whole := appendRecord(appendRecord(appendHeader(nil, 7), e, 7), e, 7)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:recordSize])
	f.Add([]byte(segmentMagic))
	f.Add(bytes.Repeat([]byte{0}, 3*recordSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		var records int
		c, err := readSegment(bytes.NewReader(data), func(entry) { records++ })
		if err != nil {
			return
		}
		if c.end > c.size || c.size > int64(len(data))/recordSizeV1 || int64(records) > c.end {
			t.Fatalf("%d records up to %d of %d in %d bytes", records, c.end, c.size, len(data))
		}
		if c.usable && int64(records+c.damage.corrupt) != c.end-1 {
			t.Fatalf("%d records and %d corrupt ones up to %d", records, c.damage.corrupt, c.end)
		}
		// What is read is what a store would go on with.
		again, err := readSegment(bytes.NewReader(data[:min(int64(len(data)), c.end*recordSize)]), func(entry) { records-- })
		if c.usable && (err != nil || records != 0 || again.end != c.end) {
			t.Fatalf("cut behind its last record: %+v, %v, %d", again, err, records)
		}
	})
}
