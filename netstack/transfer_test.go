package netstack_test

import (
	"bytes"
	"encoding/binary"
	"io"
	mrand "math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

func noise(n int) []byte {
	b := make([]byte, n)
	mrand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// everyKind runs f with and without offload, in both families.
func everyKind(t *testing.T, f func(t *testing.T, th *harness, home, target netip.Addr)) {
	for offload, name := range map[bool]string{true: "offload", false: "no offload"} {
		for family, a := range families {
			t.Run(name+" "+family, func(t *testing.T) {
				th := newHarness(t, offload)
				th.connect()
				f(t, th, a.home, a.target)
			})
		}
	}
}

func TestConnTransfersAnySize(t *testing.T) {
	everyKind(t, func(t *testing.T, th *harness, home, target netip.Addr) {
		rng := mrand.New(mrand.NewPCG(1, 2))
		sizes := func() int { return 1 + rng.IntN(1<<(6+rng.IntN(12))) } // up to 128 KiB, small ones often
		for _, port := range []uint16{hiddenPort, openPort} {
			client := th.must(home, netip.AddrPortFrom(target, port))
			c := th.accepted()
			data := noise(1 << 20)
			th.transfer(client, c, data, sizes)
			th.transfer(c, client, data, sizes)
			c.Close()
			client.Close()
		}
		if big := th.biggest.Load(); th.wire.Info().Offload != (big > testMTU) || big > packet.MaxPacket {
			t.Errorf("the biggest packet had %d bytes", big)
		}
	})
}

func TestConnSmallWritesBeyondWindow(t *testing.T) {
	// When the window opens, the stack makes one packet of the pending writes:
	// more parts than a device accepts.
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			th := newHarness(t, true)
			client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort))
			client.options = []byte{2, 4, 5, 0xa0} // MSS 1440
			client.window = 100
			client.open()
			c := th.accepted()
			data := noise(10_000)
			for b := data; len(b) > 0; b = b[50:] {
				if _, err := c.Write(b[:50]); err != nil {
					t.Fatal(err)
				}
			}
			var got []byte
			for len(got) < 100 {
				p := client.expect(packet.ACK)
				got = append(got, p.Data[p.Payload:]...)
			}
			client.window = 0 // no limit
			client.send(packet.ACK, nil)
			for len(got) < len(data) {
				p := client.expect(packet.ACK)
				got = append(got, p.Data[p.Payload:]...)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d arrived", len(got), len(data))
			}
			if n := th.stack.Retransmits(); n != 0 {
				t.Errorf("%d segments were lost at first", n)
			}
			c.Abort()
		})
	}
}

func TestLinkReceivesSuperPackets(t *testing.T) {
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			th := newHarness(t, true)
			client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort)).open()
			c := th.accepted()
			most := packet.MaxPacket - 20 - 40
			for _, size := range []int{1, 1460, 1461, 32768, most - 1, most} {
				payload := noise(size)
				b := client.packet(packet.ACK|packet.PSH, payload)
				o := packet.Offload{NeedsChecksum: true, ChecksumStart: 20, SegmentSize: 1440}
				b[len(b)-size-4]++ // the kernel vouches for it, right or not
				if err := th.wire.Write(o, [][]byte{b}); err != nil {
					t.Fatal(err)
				}
				client.seq += uint32(size)
				got := make([]byte, size)
				if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, payload) {
					t.Fatalf("%d bytes of %d: %v", n, size, err)
				}
			}
			c.Abort()
		})
	}
}

// segmentSize is the size in bytes of the largest packet that p becomes on a
// wire.
func segmentSize(p *packet.Packet) int {
	if p.Offload.SegmentSize > 0 {
		return p.Payload + int(p.Offload.SegmentSize)
	}
	return len(p.Data)
}

func TestLinkDropsICMP(t *testing.T) {
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			th := newHarness(t, true)
			client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort))
			client.options = []byte{2, 4, 5, 0xb4} // MSS 1460
			client.open()
			c := th.accepted()
			c.Write(noise(8000))
			first := client.expect(packet.ACK)
			for _, mtu := range []uint16{0, 67, 68, 551, 552, 1300, 65535} {
				m := packettest.ICMP{Src: netip.MustParseAddr("198.51.100.1"), Dst: f.target, Type: 3, Code: 4, Payload: first.Data[:first.L4+8]}
				if f.home.Is6() {
					m.Src, m.Type, m.Code = netip.MustParseAddr("2001:db8:1::1"), 2, 0
				}
				binary.BigEndian.PutUint16(m.Rest[2:], mtu)
				th.inject(m.Packet(), netstack.Decision{Pass: true})
			}
			again := th.next(timeout) // by the retransmission timer
			for again != nil && again.Seq != first.Seq {
				again = th.next(timeout)
			}
			if again == nil || segmentSize(again) < segmentSize(first) {
				t.Errorf("sent again as %+v, at first as %+v", again, first)
			}
			c.Abort()
		})
	}
}

func TestLinkSegments(t *testing.T) {
	const narrow = 700
	everyKind(t, func(t *testing.T, th *harness, home, target netip.Addr) {
		limit := func(p *packet.Packet, size int) bool {
			segment := size
			if s := int(p.Offload.SegmentSize); s > 0 {
				segment = min(s, size)
			}
			if p.Payload+segment > narrow {
				p.Offload.SegmentSize = uint16(narrow - p.Payload)
			}
			return true
		}
		th.egress.Store(&limit)
		var large atomic.Int64
		th.seen = func(p *packet.Packet) {
			if segmentSize(p) > narrow {
				large.Add(1)
			}
		}
		client := th.must(home, netip.AddrPortFrom(target, hiddenPort))
		c := th.accepted()
		rng := mrand.New(mrand.NewPCG(1, 2))
		th.transfer(c, client, noise(1<<20), func() int { return 1 + rng.IntN(1<<(6+rng.IntN(12))) })
		if n := large.Load(); n != 0 {
			t.Errorf("%d packets were larger than %d bytes", n, narrow)
		}
		c.Close()
		client.Close()
	})
}

func TestLinkSegmentsFINLast(t *testing.T) {
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			th := newHarness(t, false)
			limit := func(p *packet.Packet, size int) bool {
				if size > 100 {
					p.Offload.SegmentSize = 100
				}
				return true
			}
			th.egress.Store(&limit)
			client := th.raw(1000, netip.AddrPortFrom(f.target, hiddenPort)).open()
			c := th.accepted()
			c.Write(noise(450))
			c.Close()
			var got []byte
			for fin := false; !fin; {
				p := th.next(timeout)
				if p == nil {
					t.Fatal("no FIN")
				}
				if fin = p.Flags&packet.FIN != 0; fin && p.Seq-client.ack+uint32(len(p.Data)-p.Payload) != 450 {
					t.Errorf("FIN after %d bytes", p.Seq-client.ack)
				}
				if p.Flags&packet.PSH != 0 && len(got) < 400 {
					t.Errorf("PSH after %d bytes", len(got))
				}
				got = append(got, p.Data[p.Payload:]...)
			}
			if !bytes.Equal(got, noise(450)) {
				t.Errorf("%d bytes arrived", len(got))
			}
			c.Abort()
		})
	}
}

func TestLinkRaisesMSS(t *testing.T) {
	for name, c := range map[string]struct {
		options          []byte
		minSize, maxSize int // the stack keeps 36 bytes for SACK blocks
	}{
		"1":                       {[]byte{2, 4, 0, 1}, 216, 216},
		"215 after other options": {[]byte{1, 3, 3, 7, 4, 2, 1, 1, 2, 4, 0, 215, 0, 0, 0, 0}, 216 - 36, 216 - 36},
		"217":                     {[]byte{2, 4, 0, 217}, 217, 217},
		"broken options":          {[]byte{2, 1, 0, 1}, 536, 536},
		"after the end":           {[]byte{0, 2, 4, 1}, 536, 536},
	} {
		t.Run(name, func(t *testing.T) {
			th := newHarness(t, false)
			client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort))
			client.options = c.options
			client.send(packet.SYN, nil)
			if p := th.next(quietPeriod); p == nil {
				return // the stack does not take such options at all
			} else {
				client.ack = p.Seq + 1
			}
			client.send(packet.ACK, nil)
			conn := th.accepted()
			conn.Write(noise(5000))
			p := client.expect(packet.ACK)
			if n := len(p.Data) - p.Payload; n < c.minSize || n > c.maxSize {
				t.Errorf("a segment of %d bytes", n)
			}
			conn.Abort()
		})
	}
}

func TestLinkKeepsMSS(t *testing.T) {
	for offload, name := range map[bool]string{true: "offload", false: "no offload"} {
		t.Run(name, func(t *testing.T) {
			th := newHarness(t, offload)
			client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort))
			client.options = binary.BigEndian.AppendUint16([]byte{2, 4}, 700)
			client.open()
			c := th.accepted()
			c.Write(noise(5000))
			for p := th.next(timeout); p != nil; p = th.next(quietPeriod) {
				size := len(p.Data) - p.Payload
				if p.Offload.SegmentSize > 0 {
					size = int(p.Offload.SegmentSize)
				}
				if size > 700 {
					t.Errorf("a segment of %d bytes", size)
				}
			}
			c.Abort()
		})
	}
}

func TestStackCloseState(t *testing.T) {
	th := newHarness(t, true)
	client := th.raw(1000, netip.AddrPortFrom(target4, hiddenPort)).open()
	c := th.accepted()
	c.Write(noise(1000))
	client.send(packet.FIN|packet.ACK, nil)
	waitRead(c)
	c.Close() // LAST_ACK: no TIME_WAIT on this side
	client.expect(packet.ACK)
	client.settles(netstack.Closing)
	for p := th.next(quietPeriod); p != nil; p = th.next(quietPeriod) {
		client.ack = max(client.ack, p.Seq+uint32(len(p.Data)-p.Payload)+uint32(p.Flags&packet.FIN))
	}
	client.send(packet.ACK, nil)
	client.settles(netstack.Closed)
}
