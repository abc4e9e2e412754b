//go:build linux

package admission

import (
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/filter/filtertest"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The filter in the kernel and the gate must agree: the gate drops what the
// filter drops, for the same reason. In a filtered harness every packet passes
// the filter's program first, and harness.admit compares the results.

// cleanupTB is a test that runs functions at its end.
type cleanupTB interface {
	failer
	Cleanup(func())
}

// newFilteredHarness is newHarness with a filter before the gate.
func newFilteredHarness(t cleanupTB, change ...func(*Options)) (*harness, *filtertest.Filter) {
	t.Helper()
	var front *filtertest.Filter
	h := newHarness(t, append(change, func(o *Options) {
		f, err := filtertest.New(filter.Options{
			Flows: 1000, Sources: 1000, Expected: o.Policy.NumPrecomputed(), Policy: o.Policy,
		})
		if err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() { _ = f.Close() })
		front, o.Offload = f, f
	})...)
	h.filter = func(b []byte) (string, bool) {
		h.Helper()
		front.Until(h.Mono())
		reason, drops, err := front.Drops(b)
		if err != nil {
			h.Fatalf("%v", err)
		}
		return reason, drops
	}
	return h, front
}

// The filter drops the packets of unauthorized hosts, except those that look
// like a knock or have only a wrong checksum.
func TestFilterAgreesWithGate(t *testing.T) {
	filtertest.Require(t)
	for name, change := range map[string][]func(*Options){
		"v1": nil, "every method": {allMethods()}, "legacy": {allMethods(withLegacySequences)},
	} {
		forEachFamily(func(addr string) {
			h, _ := newFilteredHarness(t, change...)
			for _, c := range unauthorizedPackets(h.peer(addr)) {
				if _, dropped := h.filter(c.b); !dropped && c.name != "a bad checksum" {
					t.Errorf("%s, %s: %s passes the filter", name, addr, c.name)
				}
				h.want(c.b, c.want)
			}
			h.wantEmpty()
		})
	}
}

// fixRapidSeed makes rapid draw the same values in every run.
func fixRapidSeed(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{"rapid.seed": "77", "rapid.checks": "40"} {
		f := flag.Lookup(name)
		if f == nil {
			t.Fatalf("rapid has no flag %s", name)
		}
		before := f.Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, before) })
	}
}

// The properties of the gate alone hold with the filter before it, which drops
// nothing that the gate would not.
func TestFilterProperties(t *testing.T) {
	filtertest.Require(t)
	fixRapidSeed(t)
	rapid.Check(t, func(t *rapid.T) {
		h, _ := newFilteredHarness(t, fewHalfOpen)
		newModelOf(h).run(t)
	})
}

func TestFilterPassesEveryKnock(t *testing.T) {
	filtertest.Require(t)
	fixRapidSeed(t)
	rapid.Check(t, func(t *rapid.T) {
		h, _ := newFilteredHarness(t, allMethods(withLegacySequences), withShortBans)
		newMethodModel(h).run(t)
	})
}

// mutatedPackets is the number of packets to compare, per family.
const mutatedPackets = 6000

// The program reads headers as Packet.Parse does, also damaged ones.
func TestFilterMutatedPackets(t *testing.T) {
	filtertest.Require(t)
	random := rand.New(rand.NewPCG(7, 7))
	forEachFamily(func(addr string) {
		h, _ := newFilteredHarness(t, allMethods(withLegacySequences))
		peer := h.peer(addr)
		peer.mustKnock(alice, "many", "")
		h.want(peer.syn(40000, "many"), ReasonGrant)
		peer.mustEnter(40000, "many", alice)
		h.want(peer.syn(40000, "vpn"), ReasonOpen)
		good := [][]byte{
			peer.tcp(40000, "many", packet.ACK, 1001, 1, "data"), peer.syn(40000, "ssh"), peer.syn(40000, "web"),
			peer.knock(bob, "ssh"), peer.v2(bob, "ssh"), peer.synKnock(bob, "ssh", 0), peer.legacyPart(bob, "ssh", 0, 0),
			peer.icmpError(peer.reply(40000, "many", packet.ACK, 1, 1001, "")),
			h.peer(peer.addr.Next().Next().String()).knock(bob, "ssh"),
		}
		good = append(good, splitFragments(good[0], 1, 8)...)
		for _, c := range unauthorizedPackets(peer) {
			good = append(good, c.b)
		}
		dropped := 0
		for range mutatedPackets {
			b := slices.Clone(good[random.IntN(len(good))])
			for range random.IntN(4) {
				at := random.IntN(min(len(b), 100))
				switch random.IntN(3) {
				case 0:
					b[at] ^= 1 << random.IntN(8)
				case 1:
					b[at] = byte(random.IntN(256))
				default:
					b[at] = []byte{0, 1, 4, 5, 6, 8, 10, 17, 20, 44, 58, 127, 255}[random.IntN(13)]
				}
			}
			switch random.IntN(8) {
			case 0:
				b = b[:1+random.IntN(len(b))]
			case 1:
				b = append(b, make([]byte, random.IntN(4))...)
			}
			if len(b) > 40 && random.IntN(4) > 0 && (b[0]>>4 == 6 || b[0] == 0x45) {
				packettest.Checksums(b)
			}
			if _, drops := h.filter(b); drops {
				dropped++
			}
			h.admit(b)
			h.decide()
			h.Advance(5 * time.Millisecond)
		}
		t.Logf("%s: the filter dropped %d of %d", addr, dropped, mutatedPackets)
	})
}

// The protocol defines the form of knocks; the filter has a copy of it.
func TestFilterKnockFormats(t *testing.T) {
	filtertest.Require(t)
	forEachFamily(func(addr string) {
		h, _ := newFilteredHarness(t, allMethods())
		peer := h.peer(addr)
		for n := range protocol.MaxKnock + 8 {
			payload := make([]byte, n)
			for _, more := range []int{-1, 0, 1} {
				for _, flags := range []uint16{0, 0x0700, 0x0800, 0x8000, 0x0001} {
					if n > protocol.KnockHeader+1 {
						binary.BigEndian.PutUint16(payload[24:], uint16(n-protocol.KnockHeader+more))
						binary.BigEndian.PutUint16(payload[26:], flags)
					}
					_, err := protocol.ParseKnock(payload)
					b := peer.udp(testKnockPort, payload)
					if _, drops := h.filter(b); drops != (err != nil) {
						t.Fatalf("%d bytes, length off by %d, flags %04x: the filter drops it: %v; it is %v", n, more, flags, drops, err)
					}
				}
			}
		}
	})
}

// The filter reads the options of a SYN as the gate does, in any arrangement.
func TestFilterTCPOptions(t *testing.T) {
	filtertest.Require(t)
	random := rand.New(rand.NewPCG(8, 8))
	forEachFamily(func(addr string) {
		h, f := newFilteredHarness(t, allMethods())
		peer := h.peer(addr)
		fields := peer.synFields(alice, "ssh", 0)
		stamp := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{8, 10}, fields.TSVal), 0)
		found := 0
		for range 3000 {
			var options []byte
			for len(options) < 40 {
				switch random.IntN(8) {
				case 0:
					options = append(options, stamp...)
				case 1, 2, 3:
					options = append(options, 1)
				case 4:
					options = append(options, 2, 4, 5, 180)
				case 5:
					options = append(options, 4, 2)
				case 6:
					options = append(options, byte(random.IntN(10)), byte(random.IntN(14)))
				case 7:
					options = append(options, byte(random.IntN(2)))
				}
			}
			size := 4 * random.IntN(11)
			if random.IntN(4) == 0 { // at the very end
				copy(options[size-min(size, len(stamp)):], stamp[:min(size, len(stamp))])
			}
			b := packettest.TCP{
				Src: netip.AddrPortFrom(peer.addr, 1000), Dst: peer.server("ssh"), Flags: packet.SYN,
				Seq: fields.Seq, Window: fields.Window, Options: options[:size],
			}.Packet()
			h.Advance(2 * time.Second) // no longer marked
			f.Until(h.Mono())
			peer.h.gate.mu.Lock()
			_, expected := h.gate.knocks.MatchSYN(parsed(b), h.gate.Policy().Service(peer.server("ssh")), h.gate.Policy())
			peer.h.gate.mu.Unlock()
			if expected {
				found++
			}
			h.StepWall(-2 * time.Second) // but still expected
			if _, drops := h.filter(b); drops == expected {
				t.Fatalf("options %x: the filter drops it: %v; expected: %v", options[:size], drops, expected)
			}
		}
		if found < 100 {
			t.Errorf("only %d of the SYNs were knocks", found)
		}
	})
}

// The largest values that the gate accepts also pass the filter.
func TestFilterLimitsAgreeWithGate(t *testing.T) {
	filtertest.Require(t)
	forEachFamily(func(addr string) {
		h, _ := newFilteredHarness(t, allMethods(), fewHalfOpen)
		peer := h.peer(addr)
		peer.mustKnock(alice, "many", "")
		h.want(peer.syn(40000, "many"), ReasonGrant)
		peer.mustEnter(40000, "many", alice)
		// An error that quotes the minimum.
		whole := peer.reply(40000, "many", packet.ACK, 1, 1001, "")
		header := peer.headers() - 8
		for n := header; n <= len(whole); n++ {
			want := ReasonICMPError
			if n < header+8 {
				want = ReasonICMP
			}
			b := peer.icmpError(whole[:n])
			if _, drops := h.filter(b); drops != (want == ReasonICMP) {
				t.Errorf("%s: an error that quotes %d bytes is dropped: %v", addr, n, drops)
			}
			h.want(b, want)
		}
		// Answers to SYN cookies, once cookies were sent.
		if filter.CookieWindow < CookieWindow {
			t.Error("the filter forgets a flood before the gate does")
		}
		stray := peer.tcp(30000, "web", packet.ACK, 1, 1, "")
		h.want(stray, ReasonNoFlow)
		for port := range uint16(4) {
			h.want(peer.syn(31000+port, "web"), ReasonOpen)
		}
		h.Advance(CookieWindow)
		h.want(stray, ReasonCookie)
	})
	h, _ := newFilteredHarness(t)
	for first := range 256 {
		peer := testPeer{h, netip.AddrFrom4([4]byte{byte(first), 2, 3, 4})}
		p := parsed(peer.syn(1000, "web"))
		if _, drops := h.filter(p.Data); drops != (p.DropReason != packet.NotDropped) {
			t.Errorf("%v is dropped: %v; want it refused for %v", peer.addr, drops, p.DropReason)
		}
	}
	for _, a := range []string{"::", "::1", "::2", "1::", "fe80::1", "feff::1", "ff00::", "ff02::1", "fffe::", "::fffe:102:304", "::1:ffff:102:304"} {
		peer := h.peer(a)
		p := parsed(peer.syn(1000, "web"))
		if _, drops := h.filter(p.Data); drops != (p.DropReason != packet.NotDropped) {
			t.Errorf("%v is dropped: %v; want it refused for %v", peer.addr, drops, p.DropReason)
		}
	}
}

// FuzzFilterEquivalence sends any packet to the filter's program and to the
// gate: the gate must drop what the filter drops, for the same reason.
func FuzzFilterEquivalence(f *testing.F) {
	filtertest.Require(f)
	forEachFamily(func(addr string) {
		peer := newHarness(f, allMethods(withLegacySequences)).peer(addr)
		f.Add(peer.tcp(40000, "many", packet.ACK, 1001, 1, "data"))
		f.Add(peer.tcp(40000, "many", packet.RST, 1001, 0, ""))
		f.Add(peer.icmpError(peer.reply(40000, "many", packet.ACK, 1, 1001, "")))
		f.Add(peer.synKnock(bob, "ssh", 0))
		f.Add(peer.v2(bob, "ssh"))
		f.Add(peer.knock(bob, "ssh"))
		for _, b := range splitFragments(peer.tcp(40000, "many", packet.ACK, 1001, 1, "data of the flow"), 1, 24) {
			f.Add(b)
		}
	})
	h, _ := newFilteredHarness(f, allMethods(withLegacySequences))
	forEachFamily(func(addr string) {
		peer := h.peer(addr)
		peer.mustKnock(alice, "many", "")
		h.want(peer.syn(40000, "many"), ReasonGrant)
		peer.mustEnter(40000, "many", alice)
	})
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > filtertest.MaxPacket {
			return
		}
		h.failer = t
		const remembered = 1000 // packets, after which the harness is reset
		if n++; n%remembered == 0 {
			h.Advance(halfOpenTime + 1)
			h.rotateTable()
			h.sweep()
		}
		h.admit(b) // which compares
		h.decide()
		h.events = nil
		h.Advance(5 * time.Millisecond)
	})
}
