package tun

import (
	"encoding/binary"
	"testing"

	"github.com/knockgw/knockgw/packet"
)

// virtioHeader spells a header field by field.
func virtioHeader(flags, gso uint8, hdrLen, gsoSize, csumStart, csumOffset uint16) []byte {
	b := []byte{flags, gso}
	for _, x := range []uint16{hdrLen, gsoSize, csumStart, csumOffset} {
		b = binary.NativeEndian.AppendUint16(b, x)
	}
	return b
}

func TestDecodeVirtio(t *testing.T) {
	const size = 100
	for _, c := range []struct {
		name string
		b    []byte
		want packet.Offload
		ok   bool
	}{
		{"nothing", virtioHeader(0, 0, 0, 0, 0, 0), packet.Offload{}, true},
		{"a verified checksum", virtioHeader(2, 0, 0, 0, 0, 0), packet.Offload{ChecksumValid: true}, true},
		{"an unfinished checksum", virtioHeader(1, 0, 0, 0, 20, 16), packet.Offload{NeedsChecksum: true, ChecksumStart: 20}, true},
		{"an unfinished checksum of UDP", virtioHeader(1, 0, 0, 0, 40, 6), packet.Offload{NeedsChecksum: true, ChecksumStart: 40}, true},
		{"an IPv4 super-packet", virtioHeader(1, 1, 40, 1460, 20, 16), packet.Offload{NeedsChecksum: true, ChecksumStart: 20, SegmentSize: 1460}, true},
		{"an IPv6 super-packet", virtioHeader(1, 4, 60, 1440, 40, 16), packet.Offload{NeedsChecksum: true, ChecksumStart: 40, SegmentSize: 1440}, true},
		{"a super-packet with ECN", virtioHeader(1, 0x81, 40, 1460, 20, 16), packet.Offload{NeedsChecksum: true, ChecksumStart: 20, SegmentSize: 1460}, true},
		{"a wrong header length, which is ignored", virtioHeader(1, 1, 65535, 1460, 20, 16), packet.Offload{NeedsChecksum: true, ChecksumStart: 20, SegmentSize: 1460}, true},
		{"a checksum in the last two bytes", virtioHeader(1, 0, 0, 0, 82, 16), packet.Offload{NeedsChecksum: true, ChecksumStart: 82}, true},
		{"a checksum that ends behind the packet", virtioHeader(1, 0, 0, 0, 83, 16), packet.Offload{}, false},
		{"a checksum far behind the packet", virtioHeader(1, 0, 0, 0, 65535, 65535), packet.Offload{}, false},
		{"bounds that do not count without the flag", virtioHeader(0, 0, 0, 0, 65535, 65535), packet.Offload{}, true},
		{"segments of no size", virtioHeader(1, 1, 40, 0, 20, 16), packet.Offload{}, false},
		{"UDP fragmentation", virtioHeader(1, 3, 28, 1400, 20, 6), packet.Offload{}, false},
		{"UDP segmentation", virtioHeader(1, 5, 28, 1400, 20, 6), packet.Offload{}, false},
		{"a segmentation that does not exist", virtioHeader(1, 0x7f, 28, 1400, 20, 6), packet.Offload{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, ok := decodeVirtio(c.b, size)
			if ok != c.ok || ok && o != c.want {
				t.Errorf("got %+v %v, want %+v %v", o, ok, c.want, c.ok)
			}
		})
	}
}

func TestEncodeVirtio(t *testing.T) {
	for _, c := range []struct {
		name    string
		o       packet.Offload
		version uint8
		want    []byte
	}{
		{"a finished packet", packet.Offload{}, 4, virtioHeader(0, 0, 0, 0, 0, 0)},
		{"a segment", packet.Offload{NeedsChecksum: true, ChecksumStart: 20}, 4, virtioHeader(1, 0, 0, 0, 20, 16)},
		{"an IPv4 super-packet", packet.Offload{NeedsChecksum: true, ChecksumStart: 20, SegmentSize: 1448, HeaderLength: 52}, 4, virtioHeader(1, 1, 52, 1448, 20, 16)},
		{"an IPv6 super-packet", packet.Offload{NeedsChecksum: true, ChecksumStart: 40, SegmentSize: 1428, HeaderLength: 72}, 6, virtioHeader(1, 4, 72, 1428, 40, 16)},
		{"what is only ever read", packet.Offload{ChecksumValid: true}, 4, virtioHeader(0, 0, 0, 0, 0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := make([]byte, virtioHeaderSize+1)
			for i := range b {
				b[i] = 0xee
			}
			encodeVirtio(b, c.o, c.version)
			if string(b[:virtioHeaderSize]) != string(c.want) || b[virtioHeaderSize] != 0xee {
				t.Errorf("got %x, want %x", b, c.want)
			}
		})
	}
}

func FuzzVirtio(f *testing.F) {
	f.Add(virtioHeader(1, 1, 40, 1460, 20, 16), uint16(1500))
	f.Add(virtioHeader(1, 0x84, 60, 1440, 40, 16), uint16(65535))
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		if len(b) < virtioHeaderSize {
			return
		}
		o, ok := decodeVirtio(b, int(size))
		if !ok {
			return
		}
		if o.NeedsChecksum && int(o.ChecksumStart)+2 > int(size) {
			t.Fatalf("checksum starts at %d of %d bytes", o.ChecksumStart, size)
		}
		if o.HeaderLength != 0 {
			t.Fatal("the kernel's header length is believed")
		}
	})
}
