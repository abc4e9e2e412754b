package packet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// A reassembly is a Reassembler with a fake clock, and the fragments it dropped.
type reassembly struct {
	*packet.Reassembler
	now     time.Duration
	dropped [packet.NumDropReasons]int
}

func newReassembly(o packet.ReassemblerOptions) *reassembly {
	r := &reassembly{now: time.Hour}
	o.Clock = func() time.Duration { return r.now }
	o.OnDrop = func(f packet.DropReason, n int) { r.dropped[f] += n }
	r.Reassembler = packet.NewReassembler(o)
	return r
}

// add parses and adds b.
func (r *reassembly) add(b []byte) ([]byte, packet.DropReason) {
	p := packet.Packet{Data: b}
	p.Parse()
	return r.Add(&p)
}

func (r *reassembly) wantUsage(t *testing.T, datagrams, size int) {
	t.Helper()
	if n, s := r.Usage(); n != datagrams || s != size {
		t.Errorf("%d packets in %d bytes are stored, want %d in %d", n, s, datagrams, size)
	}
}

// pattern returns n bytes that differ from adjacent ones and from those 4 KiB
// away.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16)
	}
	return b
}

// unfragmented returns the expected reassembled packet: whole, without the
// fields of fragments.
func unfragmented(whole []byte, id uint32) []byte {
	b := append([]byte(nil), whole...)
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		b[6], b[7] = 0, 0
		checksum4(b)
	}
	return b
}

// cut returns whole in fragments of at most size bytes of payload.
func cut(whole []byte, id uint32, size int) (all [][]byte) {
	n := len(whole) - ipHeader(whole)
	for at := 0; at < n; at += size {
		all = append(all, fragment(whole, id, at, min(at+size, n), at+size < n))
	}
	return all
}

// A step is a fragment of the packet in TestReassemblerAdd and the expected
// result.
type step struct {
	from, to int
	last     bool
	reason   packet.DropReason
	whole    bool
}

// The packet in this test has 20 bytes of TCP header and 100 of data.
func TestReassemblerAdd(t *testing.T) {
	const (
		none    = packet.NotDropped
		tiny    = packet.DropTinyFragment
		length  = packet.DropFragmentLength
		overlap = packet.DropFragmentOverlap
	)
	for _, c := range []struct {
		name  string
		steps []step
		held  int // incomplete packets at the end
	}{
		{"in order", []step{{0, 40, false, none, false}, {40, 80, false, none, false}, {80, 120, true, none, true}}, 0},
		{"reversed", []step{{80, 120, true, none, false}, {40, 80, false, none, false}, {0, 40, false, none, true}}, 0},
		{"the middle last", []step{{0, 40, false, none, false}, {80, 120, true, none, false}, {40, 80, false, none, true}}, 0},
		{"twice in a row", []step{
			{0, 40, false, none, false}, {40, 120, true, none, true},
			{40, 120, true, none, false}, {0, 40, false, none, true},
		}, 0},
		{"the last one of an odd length", []step{{0, 40, false, none, false}, {40, 77, true, none, true}}, 0},
		{"a hole", []step{{0, 40, false, none, false}, {48, 120, true, none, false}}, 1},
		{"no end", []step{{0, 40, false, none, false}, {40, 80, false, none, false}}, 1},
		{"exact duplicates", []step{
			{0, 40, false, none, false}, {0, 40, false, none, false}, {80, 120, true, none, false},
			{80, 120, true, none, false}, {40, 80, false, none, true},
		}, 0},
		{"an overlap of one unit", []step{{0, 48, false, none, false}, {40, 120, true, overlap, false}}, 0},
		{"an overlap from before", []step{{40, 120, true, none, false}, {0, 48, false, overlap, false}}, 0},
		{"one inside another", []step{{0, 120 - 8, false, none, false}, {40, 48, false, overlap, false}}, 0},
		{"one around another", []step{{40, 48, false, none, false}, {0, 112, false, overlap, false}}, 0},
		{"teardrop: the last ends inside the first", []step{{0, 80, false, none, false}, {24, 40, true, overlap, false}}, 0},
		{"the same start, another length", []step{{0, 40, false, none, false}, {0, 48, false, overlap, false}}, 0},
		{"the same place, but the last", []step{{40, 80, false, none, false}, {40, 80, true, overlap, false}}, 0},
		{"the same place, but not the last", []step{{40, 80, true, none, false}, {40, 80, false, overlap, false}}, 0},
		{"nothing is left after an overlap", []step{
			{0, 40, false, none, false}, {40, 80, false, none, false}, {40, 88, false, overlap, false},
			{80, 120, true, none, false}, {0, 40, false, none, false}, {40, 80, false, none, true},
		}, 0},
		{"two ends", []step{{40, 80, true, none, false}, {80, 120, true, overlap, false}}, 0},
		{"two ends, the nearer one later", []step{{80, 120, true, none, false}, {24, 40, true, overlap, false}}, 0},
		{"something beyond the end", []step{{40, 80, true, none, false}, {80, 112, false, overlap, false}}, 0},
		{"an end before something", []step{{80, 112, false, none, false}, {24, 64, true, overlap, false}}, 0},
		{"off the grid", []step{{0, 40, false, none, false}, {40, 79, false, length, false}}, 0},
		{"empty", []step{{0, 40, false, none, false}, {40, 40, false, length, false}}, 0},
		{"empty and last", []step{{0, 40, false, none, false}, {40, 40, true, length, false}}, 0},
		{"a tiny first one", []step{{0, 16, false, tiny, false}}, 0},
		{"a tiny first one after the others", []step{{24, 120, true, none, false}, {0, 16, false, tiny, false}}, 0},
		{"one that reaches into the TCP header", []step{{0, 40, false, none, false}, {8, 120, true, tiny, false}}, 0},
		{"one that reaches into the end of the TCP header", []step{{16, 120, true, tiny, false}}, 0},
	} {
		for name, e := range families {
			t.Run(name+" "+c.name, func(t *testing.T) {
				const id = 0x1234
				r := newReassembly(packet.ReassemblerOptions{})
				data := pattern(100)
				kept, refused := 0, packet.NotDropped
				for i, s := range c.steps {
					segment := e.tcp(packettest.TCP{Flags: packet.ACK, Payload: data})
					whole, f := r.add(fragment(segment, id, s.from, s.to, !s.last))
					if f != s.reason || (whole != nil) != s.whole {
						t.Fatalf("step %d: reason %v and %d bytes, want %v", i, f, len(whole), s.reason)
					}
					switch {
					case s.whole:
						end := 0
						for _, q := range c.steps {
							end = max(end, q.to)
						}
						want := segment[:e.header()+end]
						if e.header() == 20 {
							binary.BigEndian.PutUint16(want[2:], uint16(len(want)))
						} else {
							binary.BigEndian.PutUint16(want[4:], uint16(end))
						}
						if !bytes.Equal(whole, unfragmented(want, id)) {
							t.Fatalf("got  %x\nwant %x", whole, want)
						}
						kept = 0
					case f != packet.NotDropped:
						if r.dropped[f] != kept {
							t.Errorf("step %d: %d fragments dropped, want %d", i, r.dropped[f], kept)
						}
						kept, refused = 0, f
					case c.name != "exact duplicates":
						kept++
					}
				}
				for f, n := range r.dropped {
					if n > 0 && packet.DropReason(f) != refused {
						t.Errorf("%d fragments dropped for %v", n, packet.DropReason(f))
					}
				}
				r.wantUsage(t, c.held, c.held*4096)
			})
		}
	}
}

func TestReassemblerDuplicateWithOtherBytes(t *testing.T) {
	for name, e := range families {
		r := newReassembly(packet.ReassemblerOptions{})
		whole := e.tcp(packettest.TCP{Payload: pattern(9000)})
		all := cut(whole, 7, 4504) // across a block boundary
		r.add(all[0])
		forged := append([]byte(nil), all[0]...)
		forged[len(forged)-1] ^= 1
		if _, f := r.add(forged); f != packet.DropFragmentOverlap {
			t.Errorf("%s: reason %v", name, f)
		}
		r.wantUsage(t, 0, 0)
	}
}

func TestReassemblerRejectsOversize(t *testing.T) {
	for name, e := range families {
		segment := e.tcp(packettest.TCP{Payload: pattern(60000)})
		// The largest payload.
		most := packet.MaxPacket - e.header()
		for _, c := range []struct {
			offset, size int
			more         bool
			reason       packet.DropReason
		}{
			{0xfff8, 1, false, packet.DropFragmentLength},
			{0xfff8, 1400, false, packet.DropFragmentLength},
			{0xfff8, 1400, true, packet.DropFragmentLength},
			{most / 8 * 8, most%8 + 1, false, packet.DropFragmentLength},
			{most / 8 * 8, most % 8, false, packet.NotDropped},
			{most/8*8 - 8, 8, true, packet.NotDropped},
		} {
			r := newReassembly(packet.ReassemblerOptions{})
			if _, f := r.add(fragment(segment, 7, 0, 800, true)); f != packet.NotDropped {
				t.Fatalf("%s: %v", name, f)
			}
			if _, f := r.add(fragmentOf(segment, 7, c.offset, c.more, pattern(c.size))); f != c.reason {
				t.Errorf("%s: %d bytes at %d: reason %v, want %v", name, c.size, c.offset, f, c.reason)
			}
		}
	}
}

func TestReassemblerLargestPacket(t *testing.T) {
	for name, e := range families {
		whole := e.tcp(packettest.TCP{Payload: pattern(packet.MaxPacket - e.header() - 20)})
		r := newReassembly(packet.ReassemblerOptions{})
		var got []byte
		for _, b := range cut(whole, 7, 1224) {
			var f packet.DropReason
			if got, f = r.add(b); f != packet.NotDropped {
				t.Fatalf("%s: %v", name, f)
			}
		}
		if !bytes.Equal(got, unfragmented(whole, 7)) {
			t.Fatalf("%s: %d bytes, want %d", name, len(got), len(whole))
		}
		wantDropReason(t, got, packet.NotDropped)
	}
}

func TestReassemblerUsesFirstHeader(t *testing.T) {
	for name, e := range families {
		whole := e.tcp(packettest.TCP{Payload: pattern(100)})
		other := append([]byte(nil), whole...)
		if e.header() == 20 {
			other[1], other[8] = 0xff, 1 // TOS with ECN, TTL
		} else {
			other[0], other[1], other[7] = 0x6f, 0xff, 1 // traffic class, flow label, hop limit
		}
		for _, firstLast := range []bool{false, true} {
			r := newReassembly(packet.ReassemblerOptions{})
			parts := [][]byte{fragment(whole, 7, 0, 40, true), fragment(other, 7, 40, 120, false)}
			if firstLast {
				parts[0], parts[1] = parts[1], parts[0]
			}
			r.add(parts[0])
			if got, f := r.add(parts[1]); !bytes.Equal(got, unfragmented(whole, 7)) {
				t.Errorf("%s: %v, got %x", name, f, got)
			}
		}
	}
}

func TestReassemblerSeparatesPackets(t *testing.T) {
	for name, e := range families {
		neighbor := ends{netip.AddrPortFrom(e.client.Addr().Next(), 40000), e.server}
		elsewhere := ends{e.client, netip.AddrPortFrom(e.server.Addr().Next(), 22)}
		r := newReassembly(packet.ReassemblerOptions{})
		segment := func(e ends) []byte { return e.tcp(packettest.TCP{Payload: pattern(100)}) }
		r.add(fragment(segment(e), 7, 0, 40, true))
		for i, b := range [][]byte{
			fragment(segment(e), 8, 40, 120, false),
			fragment(segment(neighbor), 7, 40, 120, false),
			fragment(segment(elsewhere), 7, 40, 120, false),
			fragment(e.udp(string(pattern(112))), 7, 40, 120, false),
		} {
			if whole, _ := r.add(b); whole != nil {
				t.Errorf("%s %d: a fragment of another packet was accepted", name, i)
			}
		}
		if whole, f := r.add(fragment(segment(e), 7, 40, 120, false)); whole == nil {
			t.Errorf("%s: its own fragment was rejected: %v", name, f)
		}
	}
}

func drawSegment(t *rapid.T, label string) []byte {
	e := families[rapid.SampledFrom([]string{"IPv4", "IPv6"}).Draw(t, label+" family")]
	size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 20000)).Draw(t, label+" size")
	return e.tcp(packettest.TCP{
		Flags: packet.ACK, Seq: rapid.Uint32().Draw(t, label+" seq"),
		Options: make([]byte, 4*rapid.IntRange(0, 10).Draw(t, label+" options")), Payload: pattern(size),
	})
}

// drawFragmentation fragments whole at random offsets behind its TCP header,
// within the limit of fragments.
func drawFragmentation(t *rapid.T, whole []byte, id uint32) (all [][]byte) {
	header := ipHeader(whole)
	n := len(whole) - header
	at := 0
	next := (int(whole[header+12]>>4)*4 + 7) / 8 * 8
	for len(all) < packet.DefaultMaxFragments-1 {
		next += 8 * rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 700)).Draw(t, "fragment")
		if next >= n {
			break
		}
		if next > at {
			all = append(all, fragment(whole, id, at, next, true))
		}
		at, next = next, next+8
	}
	if at == 0 {
		return nil // too small to be cut
	}
	return append(all, fragment(whole, id, at, n, false))
}

func TestReassemblerAnyOrder(t *testing.T) {
	r := newReassembly(packet.ReassemblerOptions{})
	rapid.Check(t, func(t *rapid.T) {
		var all [][]byte
		want := map[string]int{} // whole packets that are to come
		for i := range uint32(rapid.IntRange(1, 3).Draw(t, "packets")) {
			whole := drawSegment(t, "segment")
			if parts := drawFragmentation(t, whole, i); parts != nil {
				all = append(all, parts...)
				want[string(unfragmented(whole, i))]++
			}
		}
		for _, b := range rapid.Permutation(all).Draw(t, "order") {
			whole, f := r.add(b)
			if f != packet.NotDropped {
				t.Fatalf("rejected: %v", f)
			}
			if whole == nil {
				continue
			}
			if want[string(whole)]--; want[string(whole)] < 0 {
				t.Fatalf("%d bytes were returned that were not added", len(whole))
			}
			p := packet.Packet{Data: whole}
			if !p.Parse() {
				t.Fatalf("the reassembled packet is rejected: %v", p.DropReason)
			}
		}
		for b, n := range want {
			if n != 0 {
				t.Fatalf("a packet of %d bytes was not returned", len(b))
			}
		}
		if n, size := r.Usage(); n != 0 || size != 0 {
			t.Fatalf("%d packets in %d bytes are left", n, size)
		}
	})
}
