package packet_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// recordSize is the number of input bytes for one fragment:
//
//	u8 what || u8 id, source || u16 offset || u16 length || u8 at || u8 change
//
// what: 1 IPv6, 2 more fragments, 4 round the offset and the length to 8 bytes,
// 8 use the whole length (else 1/16), 16 advance the clock by a second.
const recordSize = 8

// record decodes a fragment from the first bytes of b.
func record(b []byte) []byte {
	name := "IPv4"
	if b[0]&1 != 0 {
		name = "IPv6"
	}
	e := families[name]
	if b[1]&8 != 0 {
		e.client = netip.AddrPortFrom(e.client.Addr().Next(), 1)
	}
	offset, size := int(binary.BigEndian.Uint16(b[2:])), int(binary.BigEndian.Uint16(b[4:]))
	if b[0]&8 == 0 {
		offset, size = offset/16, size/16
	}
	if b[0]&4 != 0 {
		offset, size = offset&^7, size&^7
	}
	size = min(size, packet.MaxPacket-48)
	segment := e.tcp(packettest.TCP{Flags: packet.ACK, Payload: pattern(100)})
	part := pattern(size)
	if offset == 0 {
		copy(part, segment[e.header():])
	}
	f := fragmentOf(segment, uint32(b[1]&7), offset, b[0]&2 != 0, part)
	f[int(b[6])%len(f)] ^= b[7]
	if f[0]>>4 == 4 && ipHeader(f) >= 20 && ipHeader(f) <= len(f) {
		checksum4(f)
	}
	return f
}

// places are the fragments added of one packet, by their offsets.
type places map[int][]string

func (p places) add(part string, at int) {
	if part != "" && !slices.Contains(p[at], part) {
		p[at] = append(p[at], part)
	}
}

// make reports whether b can be reassembled from at most n fragments, one at
// each offset.
func (p places) make(b string, at, n int) bool {
	if b == "" {
		return true
	}
	for _, part := range p[at] {
		if n > 0 && strings.HasPrefix(b, part) && p.make(b[len(part):], at+len(part), n-1) {
			return true
		}
	}
	return false
}

func FuzzReassemble(f *testing.F) {
	add := func(records ...[recordSize]byte) {
		var b []byte
		for _, r := range records {
			b = append(b, r[:]...)
		}
		f.Add(b)
	}
	for v := range byte(2) {
		add([8]byte{14 | v, 1, 0, 0, 0, 40}, [8]byte{12 | v, 1, 0, 40, 0, 80})                                  // two
		add([8]byte{12 | v, 1, 0, 40, 0, 80}, [8]byte{14 | v, 2, 0, 0, 0, 80}, [8]byte{14 | v, 1, 0, 0, 0, 40}) // reversed
		add([8]byte{14 | v, 1, 0, 0, 0, 80}, [8]byte{12 | v, 1, 0, 24, 0, 8})                                   // teardrop
		add([8]byte{14 | v, 1, 0, 0, 0, 8}, [8]byte{8 | v, 1, 0xff, 0xf8, 5, 5})                                // tiny, ping of death
		add([8]byte{14 | v, 1, 0, 0, 16, 0}, [8]byte{14 | v, 9, 16, 0, 16, 0}, [8]byte{24 | v, 1, 16, 0, 1, 1}) // blocks
	}
	const limit = 6 // small enough to be reached
	o := packet.ReassemblerOptions{
		MaxDatagrams: limit, MaxPerSource: 3, MaxBytes: 20 * 4096, MaxFragments: 5, Timeout: 10 * time.Second,
	}
	const longest = 200 // records; a fragment may be as long as 64 KiB
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), longest*recordSize)]
		r := newReassembly(o)
		added := map[packet.Addr]map[uint32]places{}
		kept := 0
		for ; len(b) >= recordSize; b = b[recordSize:] {
			if b[0]&16 != 0 {
				r.now += time.Second
			}
			p := packet.Packet{Data: record(b)}
			p.Parse()
			fr, src := p.Fragment, p.Tuple.Src
			if p.Reassemblable() {
				if added[src] == nil {
					added[src] = map[uint32]places{}
				}
				if added[src][fr.ID] == nil {
					added[src][fr.ID] = places{}
				}
				added[src][fr.ID].add(string(p.Data[fr.Payload:]), fr.Offset)
			}
			whole, reason := r.Add(&p)
			if reason == packet.NotDropped && p.Reassemblable() {
				kept++
			}
			if n, size := r.Usage(); n > limit || size > o.MaxBytes {
				t.Fatalf("%d packets in %d bytes are stored", n, size)
			}
			if whole == nil {
				continue
			}
			if reason != packet.NotDropped || !p.Reassemblable() {
				t.Fatalf("%v gave a whole packet", reason)
			}
			q := packet.Packet{Data: whole}
			switch q.Parse(); q.DropReason {
			case packet.NotDropped, packet.DropAddress, packet.DropPort, packet.DropChecksum:
			default:
				t.Fatalf("made a packet that Parse refuses as %v: %x", q.DropReason, whole)
			}
			if len(q.Data) != len(whole) || q.Proto != packet.TCP || q.Tuple.Src != src {
				t.Fatalf("made %d bytes of a packet of %d, protocol %d, %v", len(whole), len(q.Data), q.Proto, q.Tuple)
			}
			if !added[src][fr.ID].make(string(whole[q.L4:]), 0, o.MaxFragments) {
				t.Fatalf("made a packet of bytes that were not added: %x", whole)
			}
		}
		r.now += time.Hour
		r.add(nil)
		if n, size := r.Usage(); n != 0 || size != 0 {
			t.Fatalf("%d packets in %d bytes remain", n, size)
		}
		gone := 0
		for _, n := range r.dropped {
			gone += n
		}
		if gone > kept {
			t.Fatalf("%d fragments dropped of %d kept", gone, kept)
		}
	})
}
