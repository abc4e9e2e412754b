package admission

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// testMTU is the MTU of the device in these tests.
const testMTU = 1500

func deviceMTU(o *Options) { o.MTU = testMTU }

// tooBig returns a router's error that the quoted packet was larger than mtu.
func (peer testPeer) tooBig(mtu uint16, quoted []byte) []byte {
	m := packettest.ICMP{Src: peer.addr, Dst: peer.gateway(), Type: 3, Code: 4, Payload: quoted}
	if peer.addr.Is6() {
		m.Type, m.Code = 2, 0
	}
	binary.BigEndian.PutUint16(m.Rest[2:], mtu)
	return m.Packet()
}

// minMTU returns the smallest path MTU that is believed in peer's family.
func (peer testPeer) minMTU() int { return minPathMTU(packet.AddrFrom(peer.addr)) }

// stackSends sends size bytes at seq from the stack, in segments of the
// device's MTU, and returns the length of the packets that leave.
func (peer testPeer) stackSends(port uint16, seq uint32, size int) int {
	peer.h.Helper()
	b := peer.reply(port, "db", packet.ACK, seq, 1001, "")
	var p packet.Packet
	p.DecodeTCP(b)
	if most := testMTU - p.Payload; size > most {
		p.Offload.SegmentSize = uint16(most)
	}
	if !peer.h.gate.Egress(&p, size) {
		peer.h.Fatalf("nothing left")
	}
	if s := int(p.Offload.SegmentSize); s > 0 {
		return p.Payload + min(s, size)
	}
	return p.Payload + size
}

// quote returns the beginning of a segment to peer at seq.
func (peer testPeer) quote(seq uint32) []byte {
	return peer.reply(40000, "db", packet.ACK, seq, 1001, "x")
}

func TestPathMTUClaimNeedsRetransmission(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, deviceMTU)
		peer := h.peer(addr)
		peer.establish(40000, "db")
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
		if n := peer.stackSends(40000, 5101, 9000); n != testMTU {
			t.Errorf("%s: packets of %d bytes to begin with", addr, n)
		}
		h.want(peer.tooBig(1400, peer.quote(5101)), ReasonICMPError)
		if n := peer.stackSends(40000, 14101, 9000); n != testMTU {
			t.Errorf("%s: packets of %d bytes: a claim was believed at once", addr, n)
		}
		for _, size := range []int{9000, 1420} {
			if n := peer.stackSends(40000, 5101, size); n != 1400 {
				t.Errorf("%s: %d bytes are sent again in packets of %d bytes", addr, size, n)
			}
		}
		if n := peer.stackSends(40000, 23101, 9000); n != 1400 {
			t.Errorf("%s: packets of %d bytes for a path of 1400", addr, n)
		}
		if n := peer.stackSends(40000, 32101, 100); n > 100+60 {
			t.Errorf("%s: a small packet has become one of %d bytes", addr, n)
		}

		// It applies to other flows of that address, for ten minutes.
		peer.establish(40001, "db")
		if n := peer.stackSends(40001, 5101, 9000); n != 1400 {
			t.Errorf("%s: packets of %d bytes in another flow", addr, n)
		}
		h.Advance(pathMTUTime)
		if n := peer.stackSends(40000, 40101, 9000); n != 1400 {
			t.Errorf("%s: packets of %d bytes before the time is over", addr, n)
		}
		h.Advance(time.Second)
		if n := peer.stackSends(40000, 49101, 9000); n != testMTU {
			t.Errorf("%s: packets of %d bytes when the time is over", addr, n)
		}
	})
}

func TestPathMTUClaimEndsWithACK(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, deviceMTU)
		peer := h.peer(addr)
		peer.establish(40000, "db")
		peer.stackSends(40000, 5101, 9000)
		h.want(peer.tooBig(1300, peer.quote(5101)), ReasonICMPError)
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, 6000, ""), ReasonFlow)
		if n := peer.stackSends(40000, 6000, 4000); n != testMTU {
			t.Errorf("%s: packets of %d bytes", addr, n)
		}
	})
}

func TestGateRefusesIncredibleICMP(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, deviceMTU)
		peer := h.peer(addr)
		peer.establish(40000, "db")
		peer.stackSends(40000, 5101, 9000)
		for _, mtu := range []int{0, 1, 67, 68, 551, peer.minMTU() - 1, testMTU, testMTU + 1, math.MaxUint16} {
			h.want(peer.tooBig(uint16(mtu), peer.quote(5101)), ReasonICMP)
		}
		// Errors without an MTU are soft.
		for kind := range uint8(16) {
			for code := range uint8(16) {
				if peer.addr.Is4() && kind == 3 && code == 4 || peer.addr.Is6() && kind == 2 {
					continue
				}
				h.want(packettest.ICMP{Src: peer.addr, Dst: peer.gateway(), Type: kind, Code: code, Rest: [4]byte{2: 5}, Payload: peer.quote(5101)}.Packet(), ReasonICMP)
			}
		}
		if n := peer.stackSends(40000, 5101, 9000); n != testMTU {
			t.Errorf("%s: packets of %d bytes", addr, n)
		}
		h.want(peer.tooBig(uint16(peer.minMTU()), peer.quote(5101)), ReasonICMPError)
		if n := peer.stackSends(40000, 5101, 9000); n != peer.minMTU() {
			t.Errorf("%s: packets of %d bytes, the floor is %d", addr, n, peer.minMTU())
		}
	})
}

// Whatever unauthorized hosts claim, a flow whose segments arrive keeps its
// size, and none has packets below the minimum.
func TestPathMTUIgnoresForgedErrors(t *testing.T) {
	forEachFamily(func(addr string) {
		rapid.Check(t, func(t *rapid.T) {
			h := newHarness(t, deviceMTU)
			peer := h.peer(addr)
			peer.establish(40000, "db")
			una, nxt, lossy := uint32(5001), uint32(5101), false
			t.Repeat(map[string]func(*rapid.T){
				"forge": func(t *rapid.T) {
					seq := una + uint32(rapid.IntRange(-100, 70_000).Draw(t, "seq"))
					h.admit(peer.tooBig(rapid.Uint16().Draw(t, "mtu"), peer.quote(seq)))
				},
				"send": func(t *rapid.T) {
					size := rapid.IntRange(1, 60_000).Draw(t, "size")
					n := peer.stackSends(40000, nxt, size)
					nxt += uint32(size)
					if !lossy && n < min(testMTU, size) {
						t.Fatalf("%d bytes in packets of %d without a loss", size, n)
					}
				},
				"acknowledge": func(t *rapid.T) {
					una += uint32(rapid.IntRange(0, int(nxt-una)).Draw(t, "bytes"))
					h.admit(peer.tcp(40000, "db", packet.ACK, 1001, una, ""))
				},
				"lose": func(t *rapid.T) {
					if nxt == una {
						t.Skip()
					}
					lossy = true
					size := rapid.IntRange(1, int(nxt-una)).Draw(t, "size")
					if n := peer.stackSends(40000, una, size); n < min(size, peer.minMTU()) || n > testMTU {
						t.Fatalf("%d bytes in packets of %d", size, n)
					}
				},
				"wait": func(t *rapid.T) {
					h.Advance(time.Duration(rapid.IntRange(0, 700).Draw(t, "seconds")) * time.Second)
				},
			})
		})
	})
}

func TestPathMTUBlackHoleDetection(t *testing.T) {
	for addr, want := range map[string][]int{
		"192.0.2.1":   {1500, 1400, 1280, 1024, 552, 552, 552},
		"2001:db8::1": {1500, 1400, 1280, 1280, 1280},
	} {
		h := newHarness(t, deviceMTU)
		peer := h.peer(addr)
		peer.establish(40000, "db")
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
		peer.stackSends(40000, 5101, 20000)
		for i, n := range want {
			if got := peer.stackSends(40000, 5101, 20000); got != n {
				t.Errorf("%s: sent again for the %d. time in packets of %d bytes, not %d", addr, i+1, got, n)
			}
		}
		// It applies to this flow only, for ten minutes.
		peer.establish(40001, "db")
		if n := peer.stackSends(40001, 5101, 9000); n != testMTU {
			t.Errorf("%s: another flow has packets of %d bytes", addr, n)
		}
		h.Advance(pathMTUTime + time.Second)
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, 25101, ""), ReasonFlow)
		if n := peer.stackSends(40000, 25101, 9000); n != testMTU {
			t.Errorf("%s: packets of %d bytes when the time is over", addr, n)
		}
	}
}

func TestPathMTUKeepsSizeOnLoss(t *testing.T) {
	h := newHarness(t, deviceMTU)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	seq := uint32(5101)
	for range 100 {
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, seq, ""), ReasonFlow)
		peer.stackSends(40000, seq, 3000)
		if n := peer.stackSends(40000, seq, 3000); n != testMTU {
			t.Fatalf("packets of %d bytes after one loss in each window", n)
		}
		seq += 3000
	}
}

func TestEgressAllocatesNothingForThePathMTU(t *testing.T) {
	h := newHarness(t, deviceMTU)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	b := peer.reply(40000, "db", packet.ACK, 5101, 1001, "")
	icmp := peer.tooBig(1400, peer.quote(5101))
	if n := testing.AllocsPerRun(100, func() {
		var p packet.Packet
		p.DecodeTCP(b)
		h.gate.Egress(&p, 9000)
		q := packet.Packet{Data: icmp}
		q.Parse()
		h.gate.Admit(&q)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
