package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/knockgw/knockgw/packet"
)

// gzipped compresses the concatenated parts.
func gzipped(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// older returns a packet in pcap format.
func older(t *testing.T, packet []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	err := errors.Join(w.WriteFileHeader(MaxSnaplen, layers.LinkTypeRaw),
		w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(packet), Length: len(packet)}, packet))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReaderGzip(t *testing.T) {
	records := someRecords(t)
	for name, c := range map[string]struct {
		plain   []byte
		packets int
	}{"pcapng": {written(t, records...), len(records)}, "pcap": {older(t, records[0].Data), 1}} {
		packed := gzipped(t, c.plain)
		for _, cut := range []int{0, len(packed) / 3} {
			r, err := NewReader(bytes.NewReader(packed[:len(packed)-cut]))
			n := 0
			for err == nil {
				if _, err = r.Next(); err == nil {
					n++
				}
			}
			if cut == 0 && (n != c.packets || !errors.Is(err, io.EOF)) || cut > 0 && n > c.packets {
				t.Errorf("%s without the last %d bytes: %d packets, then %v", name, cut, n, err)
			}
		}
	}
}

func TestReaderBoundsGzip(t *testing.T) {
	const much = 12 * maxPerPacket   // bytes
	const little = 10 * maxPerPacket // bytes
	const header, trailer = 28, 4    // of a block with a packet, in bytes
	const unknown, packet = 0xbad, 6 // types of blocks
	for name, c := range map[string]struct {
		kind uint32
		size int
	}{
		"small blocks":         {unknown, maxPerPacket / 2}, // without packets
		"a block that is one":  {unknown, much},
		"a packet that is one": {packet, much},
	} {
		block := make([]byte, c.size)
		binary.LittleEndian.PutUint32(block, c.kind)
		binary.LittleEndian.PutUint32(block[4:], uint32(c.size))
		binary.LittleEndian.PutUint32(block[20:], uint32(c.size-header-trailer)) // of a packet, what is kept
		binary.LittleEndian.PutUint32(block[24:], uint32(c.size-header-trailer)) // and what there was
		binary.LittleEndian.PutUint32(block[c.size-trailer:], uint32(c.size))
		parts := [][]byte{written(t, someRecords(t)...)}
		for range much / c.size {
			parts = append(parts, block)
		}
		packed := gzipped(t, parts...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := NewReader(bytes.NewReader(packed))
		for err == nil {
			_, err = r.Next()
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; !strings.Contains(err.Error(), errTooLarge.Error()) || took > little {
			t.Errorf("%s: %d bytes take %d, and end with %v", name, len(packed), took, err)
		}
	}
}

func TestReaderPcapLinkTypes(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "admission", "testdata", "client.pcap"))
	if err != nil {
		t.Skipf("no capture to read: %v", err)
	}
	defer func() { _ = f.Close() }()
	r, err := NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := packet.Packet{Data: record.Data}
		if p.Parse(); p.Version == 0 {
			t.Errorf("packet %d is no IP packet: %v", n, p.DropReason)
		}
		n++
	}
	if n == 0 {
		t.Error("there is no packet in it")
	}
}

func TestReaderRejectsOtherFiles(t *testing.T) {
	for _, text := range []string{"", "abc", "version: 1\n", strings.Repeat("\x00", 64)} {
		if _, err := NewReader(strings.NewReader(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzReader checks that reading ends, whatever the file contains.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x0a\x0d\x0d\x0a"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Add([]byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for range deflates*len(b) + 1 {
			record, err := r.Next()
			if err != nil {
				return
			}
			if v := record.Data[0] >> 4; v != 4 && v != 6 {
				t.Fatalf("no IP packet: %x", record.Data)
			}
		}
		t.Fatalf("more packets than bytes")
	})
}
