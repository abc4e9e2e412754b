package admission

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func appendSum(b []byte) []byte { return binary.BigEndian.AppendUint32(b, checksum(b)) }

func TestZerosAreNoRecord(t *testing.T) {
	if _, ok := decodeRecord(make([]byte, recordSize)); ok {
		t.Fatal("zeros decode")
	}
}

func FuzzReadSegment(f *testing.F) {
	e := replayEntry{key: replayKey{1, 2, 3}, wall: 1 << 41, client: 7, life: 61_000}
	whole := appendRecord(appendRecord(appendHeader(nil), e), e)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:recordSize])
	f.Add([]byte(segmentMagic))
	f.Add(bytes.Repeat([]byte{0}, 3*recordSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		var records int
		damage, err := readSegment(bytes.NewReader(data), func(e replayEntry) {
			records++
			// What decodes is what would be written again.
			if b := appendRecord(nil, e); !bytes.Contains(data, b) {
				t.Fatalf("%x decoded from a segment without it", b)
			}
		})
		if err != nil {
			return
		}
		units := records + damage.corrupt
		if len(data) >= recordSize && units != len(data)/recordSize && units != len(data)/recordSize-1 {
			t.Fatalf("%d bytes gave %d records and %d corrupt ones", len(data), records, damage.corrupt)
		}
		if damage.torn != len(data)%recordSize {
			t.Fatalf("%d bytes torn of %d", damage.torn, len(data))
		}
	})
}
