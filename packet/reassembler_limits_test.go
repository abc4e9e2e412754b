package packet_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

func TestReassemblerTimeout(t *testing.T) {
	for name, e := range families {
		r := newReassembly(packet.ReassemblerOptions{Timeout: 10 * time.Second})
		whole := e.tcp(packettest.TCP{Payload: pattern(100)})
		r.add(fragment(whole, 7, 0, 40, true))
		r.now += 10*time.Second - 1
		r.add(fragment(whole, 7, 40, 80, false)) // does not restart the timeout
		r.now++
		r.add(fragment(whole, 9, 0, 40, true))
		r.wantUsage(t, 1, 4096)
		if n := r.dropped[packet.DropFragmentTimeout]; n != 0 {
			t.Errorf("%s: %d fragments of a finished packet timed out", name, n)
		}
		r.add(fragment(whole, 10, 0, 40, true))
		r.add(fragment(whole, 10, 40, 80, true))
		r.now += 10*time.Second - 1
		r.wantUsage(t, 2, 8192)
		r.now++
		if got, f := r.add(fragment(whole, 10, 80, 120, false)); got != nil || f != packet.NotDropped {
			t.Errorf("%s: finished after the timeout: %v", name, f)
		}
		r.wantUsage(t, 1, 4096)
		if n := r.dropped[packet.DropFragmentTimeout]; n != 3 {
			t.Errorf("%s: %d fragments timed out, want 3", name, n)
		}
	}
}

func TestReassemblerEvictsOldestOfSource(t *testing.T) {
	for name, e := range families {
		r := newReassembly(packet.ReassemblerOptions{MaxPerSource: 3})
		other := ends{netip.MustParseAddrPort("198.51.100.1:40000"), families["IPv4"].server}
		theirs := other.tcp(packettest.TCP{Payload: pattern(100)})
		r.add(fragment(theirs, 1, 0, 40, true)) // the oldest of all
		whole := e.tcp(packettest.TCP{Payload: pattern(100)})
		for id := range uint32(4) {
			if _, f := r.add(fragment(whole, id, 0, 40, true)); f != packet.NotDropped {
				t.Errorf("%s: %v", name, f)
			}
		}
		if n := r.dropped[packet.DropFragmentLimit]; n != 1 {
			t.Errorf("%s: %d fragments dropped, want 1", name, n)
		}
		for id, want := range []bool{false, true, true, true} {
			if id == 0 {
				continue // its other fragment would evict another
			}
			if got, _ := r.add(fragment(whole, uint32(id), 40, 120, false)); (got != nil) != want {
				t.Errorf("%s: packet %d finished: %v", name, id, !want)
			}
		}
		if got, _ := r.add(fragment(theirs, 1, 40, 120, false)); got == nil {
			t.Errorf("%s: a packet of another source was dropped", name)
		}
		if got, _ := r.add(fragment(whole, 0, 40, 120, false)); got != nil {
			t.Errorf("%s: the oldest packet was still there", name)
		}
	}
}

func TestReassemblerSourceIsSlash64(t *testing.T) {
	e := families["IPv6"]
	r := newReassembly(packet.ReassemblerOptions{MaxPerSource: 2})
	for range 10 {
		e.client = netip.AddrPortFrom(e.client.Addr().Next(), 40000)
		r.add(fragment(e.tcp(packettest.TCP{Payload: pattern(100)}), 7, 0, 40, true))
	}
	r.wantUsage(t, 2, 2*4096)
}

func TestReassemblerKeepsOtherSources(t *testing.T) {
	e := families["IPv4"]
	from := func(i int) []byte {
		e := ends{netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1), e.server}
		return e.tcp(packettest.TCP{Payload: pattern(100)})
	}
	r := newReassembly(packet.ReassemblerOptions{MaxDatagrams: 4, MaxPerSource: 2})
	for i := range 4 {
		r.add(fragment(from(i), 7, 0, 40, true))
	}
	if _, f := r.add(fragment(from(9), 7, 0, 40, true)); f != packet.DropFragmentLimit {
		t.Errorf("reason %v with all memory used by other sources", f)
	}
	if _, f := r.add(fragment(from(0), 8, 0, 40, true)); f != packet.NotDropped {
		t.Errorf("reason %v for a source with a packet to evict", f)
	}
	for i := 1; i < 4; i++ {
		if got, f := r.add(fragment(from(i), 7, 40, 120, false)); got == nil {
			t.Errorf("source %d lost its packet: %v", i, f)
		}
	}
}

func TestReassemblerLimitsBytesOfSource(t *testing.T) {
	e := families["IPv6"]
	r := newReassembly(packet.ReassemblerOptions{}) // 32 of the 256 blocks are one source's
	whole := e.tcp(packettest.TCP{Payload: pattern(60000)})
	for id := range uint32(8) {
		for _, b := range cut(whole, id, 1224)[1:] {
			if _, f := r.add(b); f != packet.NotDropped {
				t.Fatal(f)
			}
		}
		if _, size := r.Usage(); size > 32*4096 {
			t.Fatalf("one source holds %d bytes", size)
		}
	}
	r.wantUsage(t, 2, 30*4096)
	if got, _ := r.add(cut(whole, 7, 1224)[0]); got == nil {
		t.Error("the newest packet was dropped")
	}
}

func TestReassemblerShareFitsOnePacket(t *testing.T) {
	e := families["IPv6"]
	r := newReassembly(packet.ReassemblerOptions{MaxPerSource: 1, MaxBytes: 64 * 4096})
	all := cut(e.tcp(packettest.TCP{Payload: pattern(65000)}), 7, 1224)
	for i, b := range all {
		if whole, f := r.add(b); f != packet.NotDropped || (whole != nil) != (i == len(all)-1) {
			t.Fatalf("fragment %d of %d: %v", i, len(all), f)
		}
	}
}

func TestReassemblerRejectsWhenFull(t *testing.T) {
	e := families["IPv4"]
	r := newReassembly(packet.ReassemblerOptions{MaxDatagrams: 4, MaxPerSource: 4, MaxBytes: 16 * 4096})
	whole := e.tcp(packettest.TCP{Payload: pattern(60000)})
	for _, b := range cut(whole, 7, 1224)[1:] {
		r.add(b)
	}
	r.wantUsage(t, 1, 15*4096)
	e.client = netip.MustParseAddrPort("198.51.100.1:1")
	theirs := e.tcp(packettest.TCP{Payload: pattern(9000)})
	for i, want := range []packet.DropReason{packet.NotDropped, packet.DropFragmentLimit} {
		if _, f := r.add(cut(theirs, 7, 4096)[i]); f != want {
			t.Errorf("fragment %d: reason %v, want %v", i, f, want)
		}
	}
	if n := r.dropped[packet.DropFragmentLimit]; n != 1 {
		t.Errorf("%d fragments dropped, want 1", n)
	}
	r.wantUsage(t, 1, 15*4096)
}

func TestReassemblerLimitsFragments(t *testing.T) {
	for name, e := range families {
		r := newReassembly(packet.ReassemblerOptions{MaxFragments: 4})
		all := cut(e.tcp(packettest.TCP{Payload: pattern(100)}), 7, 24) // 5
		for i, b := range all {
			want := packet.NotDropped
			if i == 4 {
				want = packet.DropFragmentLimit
			}
			if got, f := r.add(b); got != nil || f != want {
				t.Errorf("%s: fragment %d: %v", name, i, f)
			}
		}
		r.wantUsage(t, 0, 0)
		if n := r.dropped[packet.DropFragmentLimit]; n != 4 {
			t.Errorf("%s: %d fragments dropped", name, n)
		}
	}
}

// TestReassemblerBoundsFlood sends first fragments, later
// ones, tiny ones, duplicates and overlaps from few and from many sources.
func TestReassemblerBoundsFlood(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var packets []packet.Packet
	for range 4096 {
		e := families["IPv4"]
		e.client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(rnd.IntN(3)), byte(rnd.IntN(20))}), 1)
		if rnd.IntN(2) == 0 {
			e = families["IPv6"]
			a := e.client.Addr().As16()
			a[6], a[15] = byte(rnd.IntN(10)), byte(rnd.IntN(10))
			e.client = netip.AddrPortFrom(netip.AddrFrom16(a), 1)
		}
		segment := e.tcp(packettest.TCP{Payload: pattern(100)})
		b := fragmentOf(segment, uint32(rnd.IntN(4)), rnd.IntN(40)*rnd.IntN(40)*40, rnd.IntN(4) > 0, pattern(rnd.IntN(180)*8))
		p := packet.Packet{Data: b}
		p.Parse()
		packets = append(packets, p)
	}
	for _, o := range []packet.ReassemblerOptions{{}, {MaxDatagrams: 8, MaxPerSource: 8, MaxBytes: 32 * 4096, MaxFragments: 4}} {
		r := newReassembly(o)
		most, bytes := packet.DefaultMaxDatagrams, packet.DefaultMaxBytes
		if o.MaxDatagrams > 0 {
			most, bytes = o.MaxDatagrams, o.MaxBytes
		}
		var kept, gone int
		if n := testing.AllocsPerRun(10, func() {
			for i := range packets {
				r.now += time.Millisecond
				if _, f := r.Add(&packets[i]); f == packet.NotDropped {
					kept++
				}
				if d, s := r.Usage(); d > most || s > bytes {
					t.Fatalf("%d packets in %d bytes are stored", d, s)
				}
			}
		}); n != 0 {
			t.Errorf("%v allocations in %d fragments", n, len(packets))
		}
		for f, n := range r.dropped {
			t.Logf("%d fragments dropped: %v", n, packet.DropReason(f))
			gone += n
		}
		if kept < len(packets) || gone < len(packets)/2 {
			t.Errorf("%d fragments were kept, %d dropped: too few for a flood", kept, gone)
		}
		// All memory is freed.
		r.now += time.Hour
		r.add(nil)
		r.wantUsage(t, 0, 0)
	}
}

func TestReassemblerAllocs(t *testing.T) {
	for name, e := range families {
		r := newReassembly(packet.ReassemblerOptions{})
		all := cut(e.tcp(packettest.TCP{Payload: pattern(9000)}), 7, 1448)
		var p packet.Packet
		if n := testing.AllocsPerRun(100, func() {
			for i, b := range all {
				p.Data = b
				p.Parse()
				if whole, _ := r.Add(&p); (whole != nil) != (i == len(all)-1) {
					t.Fatal("not reassembled")
				}
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkReassemble(b *testing.B) {
	run := func(name string, all [][]byte) {
		b.Run(name, func(b *testing.B) {
			r := packet.NewReassembler(packet.ReassemblerOptions{})
			packets := make([]packet.Packet, len(all))
			size := 0
			for i := range all {
				packets[i].Data = all[i]
				packets[i].Parse()
				size += len(all[i])
			}
			b.SetBytes(int64(size / len(all)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Add(&packets[i])
				if i++; i == len(packets) {
					i = 0
				}
			}
		})
	}
	// As many packets from 8 sources as permitted, interleaved.
	flood := func(part func(segment []byte, id uint32) []byte) (all [][]byte) {
		for i := range 1024 {
			e := families["IPv4"]
			e.client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 8)}), 1)
			all = append(all, part(e.tcp(packettest.TCP{Payload: pattern(1400)}), uint32(i)))
		}
		return all
	}
	for _, name := range []string{"IPv4", "IPv6"} {
		e := families[name]
		run(name+" 1500 bytes in 2", cut(e.tcp(packettest.TCP{Payload: pattern(1440)}), 7, 1232))
		run(name+" 64 KiB in 53", cut(e.tcp(packettest.TCP{Payload: pattern(64000)}), 7, 1224))
	}
	run("flood of first fragments", flood(func(s []byte, id uint32) []byte { return fragment(s, id, 0, 1400, true) }))
	run("flood of tiny fragments", flood(func(s []byte, id uint32) []byte { return fragment(s, id, 0, 8, true) }))
	run("flood of overlaps", flood(func(s []byte, id uint32) []byte {
		return fragment(s, id/16%2, 24, 32+int(id/32%2)*8, true)
	}))
}
