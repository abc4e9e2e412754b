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

// The filter in the kernel and the gate are to agree: what the one drops, the
// other would drop for the same reason. So in a filtered harness every packet
// of whatever test goes through the filter's program first, and harness.admit
// compares.

// tidy is a test at whose end something can be done.
type tidy interface {
	failer
	Cleanup(func())
}

// newFiltered is newHarness with a filter in front of the gate.
func newFiltered(t tidy, change ...func(*Options)) (*harness, *filtertest.Filter) {
	t.Helper()
	var front *filtertest.Filter
	w := newHarness(t, append(change, func(o *Options) {
		f, err := filtertest.New(filter.Options{
			Flows: 1000, Sources: 1000, Expected: o.Policy.NumPrecomputed(), Policy: o.Policy,
		})
		if err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() { _ = f.Close() })
		front, o.Offload = f, f
	})...)
	w.front = func(b []byte) (string, bool) {
		w.Helper()
		front.Until(w.options().Mono())
		reason, drops, err := front.Drops(b)
		if err != nil {
			w.Fatalf("%v", err)
		}
		return reason, drops
	}
	return w, front
}

// What an unauthorized host sends is dropped by the filter already, unless it
// looks like a knock or its checksum is what is wrong with it.
func TestFilterAgreesWithGate(t *testing.T) {
	filtertest.Require(t)
	for name, change := range map[string][]func(*Options){
		"v1": nil, "every method": {every()}, "legacy": {every(legacy)},
	} {
		everywhere(func(addr string) {
			w, _ := newFiltered(t, change...)
			for _, c := range refusals(w.at(addr)) {
				if _, dropped := w.front(c.b); !dropped && c.name != "a bad checksum" {
					t.Errorf("%s, %s: %s passes the filter", name, addr, c.name)
				}
				w.want(c.b, c.want)
			}
			w.empty()
		})
	}
}

// always has rapid draw the same in every run.
func always(t *testing.T) {
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

// What holds of the gate alone holds with the filter before it, which drops
// nothing that the gate would not.
func TestFilterProperties(t *testing.T) {
	filtertest.Require(t)
	always(t)
	rapid.Check(t, func(t *rapid.T) {
		w, _ := newFiltered(t, fewHalfOpen)
		modelOf(w).whateverGoesIn(t)
	})
}

func TestFilterPassesEveryKnock(t *testing.T) {
	filtertest.Require(t)
	always(t)
	rapid.Check(t, func(t *rapid.T) {
		w, _ := newFiltered(t, every(legacy), bans)
		besiegedOf(w).whateverComes(t)
	})
}

// mutilated is how many packets are looked at, of either family.
const mutilated = 6000

// The program reads headers as Packet.Parse does: whatever is wrong with them.
func TestFilterMutatedPackets(t *testing.T) {
	filtertest.Require(t)
	random := rand.New(rand.NewPCG(7, 7))
	everywhere(func(addr string) {
		w, _ := newFiltered(t, every(legacy))
		v := w.at(addr)
		v.knocks(alice, "many", "")
		w.want(v.syn(40000, "many"), ReasonGrant)
		v.enters(40000, "many", alice)
		w.want(v.syn(40000, "vpn"), ReasonOpen)
		good := [][]byte{
			v.tcp(40000, "many", packet.ACK, 1001, 1, "data"), v.syn(40000, "ssh"), v.syn(40000, "web"),
			v.knock(bob, "ssh"), v.v2(bob, "ssh"), v.synKnock(bob, "ssh", 0), v.legacyPart(bob, "ssh", 0, 0),
			v.icmpError(v.reply(40000, "many", packet.ACK, 1, 1001, "")),
			w.at(v.addr.Next().Next().String()).knock(bob, "ssh"),
		}
		good = append(good, inFragments(good[0], 1, 8)...)
		for _, c := range refusals(v) {
			good = append(good, c.b)
		}
		dropped := 0
		for range mutilated {
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
			if _, drops := w.front(b); drops {
				dropped++
			}
			w.admit(b)
			w.decide()
			w.pass(5 * time.Millisecond)
		}
		t.Logf("%s: the filter dropped %d of %d", addr, dropped, mutilated)
	})
}

// What may be a knock is the protocol's to say; the filter has a copy of that.
func TestFilterKnockFormats(t *testing.T) {
	filtertest.Require(t)
	everywhere(func(addr string) {
		w, _ := newFiltered(t, every())
		v := w.at(addr)
		for n := range protocol.MaxKnock + 8 {
			payload := make([]byte, n)
			for _, more := range []int{-1, 0, 1} {
				for _, flags := range []uint16{0, 0x0700, 0x0800, 0x8000, 0x0001} {
					if n > protocol.KnockHeader+1 {
						binary.BigEndian.PutUint16(payload[24:], uint16(n-protocol.KnockHeader+more))
						binary.BigEndian.PutUint16(payload[26:], flags)
					}
					_, err := protocol.ParseKnock(payload)
					b := v.udp(testKnockPort, payload)
					if _, drops := w.front(b); drops != (err != nil) {
						t.Fatalf("%d bytes, length off by %d, flags %04x: the filter drops it: %v; it is %v", n, more, flags, drops, err)
					}
				}
			}
		}
	})
}

// A SYN's options are read as admission reads them, however they are arranged.
func TestFilterTCPOptions(t *testing.T) {
	filtertest.Require(t)
	random := rand.New(rand.NewPCG(8, 8))
	everywhere(func(addr string) {
		w, f := newFiltered(t, every())
		v := w.at(addr)
		fields := v.synFields(alice, "ssh", 0)
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
				Src: netip.AddrPortFrom(v.addr, 1000), Dst: v.server("ssh"), Flags: packet.SYN,
				Seq: fields.Seq, Window: fields.Window, Options: options[:size],
			}.Packet()
			w.pass(2 * time.Second) // no longer marked
			f.Until(w.options().Mono())
			v.w.gate.mu.Lock()
			_, expected := w.gate.knocks.MatchSYN(parsed(b), w.gate.Policy().Service(v.server("ssh")), w.gate.Policy())
			v.w.gate.mu.Unlock()
			if expected {
				found++
			}
			w.step(-2 * time.Second) // but still expected
			if _, drops := w.front(b); drops == expected {
				t.Fatalf("options %x: the filter drops it: %v; expected: %v", options[:size], drops, expected)
			}
		}
		if found < 100 {
			t.Errorf("only %d of the SYNs were knocks", found)
		}
	})
}

// What is just within the gate's bounds is within the filter's, too.
func TestFilterLimitsAgreeWithGate(t *testing.T) {
	filtertest.Require(t)
	everywhere(func(addr string) {
		w, _ := newFiltered(t, every(), fewHalfOpen)
		v := w.at(addr)
		v.knocks(alice, "many", "")
		w.want(v.syn(40000, "many"), ReasonGrant)
		v.enters(40000, "many", alice)
		// An error that quotes no more than it must.
		whole := v.reply(40000, "many", packet.ACK, 1, 1001, "")
		header := v.headers() - 8
		for n := header; n <= len(whole); n++ {
			want := ReasonICMPError
			if n < header+8 {
				want = ReasonICMP
			}
			b := v.icmpError(whole[:n])
			if _, drops := w.front(b); drops != (want == ReasonICMP) {
				t.Errorf("%s: an error that quotes %d bytes is dropped: %v", addr, n, drops)
			}
			w.want(b, want)
		}
		// Answers to SYN cookies, once there are any.
		if filter.CookieWindow < CookieWindow {
			t.Error("the filter forgets a flood before the gate does")
		}
		stray := v.tcp(30000, "web", packet.ACK, 1, 1, "")
		w.want(stray, ReasonNoFlow)
		for port := range uint16(4) {
			w.want(v.syn(31000+port, "web"), ReasonOpen)
		}
		w.pass(CookieWindow)
		w.want(stray, ReasonCookie)
	})
	w, _ := newFiltered(t)
	for first := range 256 {
		v := testPeer{w, netip.AddrFrom4([4]byte{byte(first), 2, 3, 4})}
		p := parsed(v.syn(1000, "web"))
		if _, drops := w.front(p.Data); drops != (p.DropReason != packet.NotDropped) {
			t.Errorf("%v is dropped: %v; it is to be refused for %v", v.addr, drops, p.DropReason)
		}
	}
	for _, a := range []string{"::", "::1", "::2", "1::", "fe80::1", "feff::1", "ff00::", "ff02::1", "fffe::", "::fffe:102:304", "::1:ffff:102:304"} {
		v := w.at(a)
		p := parsed(v.syn(1000, "web"))
		if _, drops := w.front(p.Data); drops != (p.DropReason != packet.NotDropped) {
			t.Errorf("%v is dropped: %v; it is to be refused for %v", v.addr, drops, p.DropReason)
		}
	}
}

// FuzzFilterEquivalence puts any packet through the filter's program and the
// gate: what the one drops, the other drops for the same reason.
func FuzzFilterEquivalence(f *testing.F) {
	filtertest.Require(f)
	everywhere(func(addr string) {
		v := newHarness(f, every(legacy)).at(addr)
		f.Add(v.tcp(40000, "many", packet.ACK, 1001, 1, "data"))
		f.Add(v.tcp(40000, "many", packet.RST, 1001, 0, ""))
		f.Add(v.icmpError(v.reply(40000, "many", packet.ACK, 1, 1001, "")))
		f.Add(v.synKnock(bob, "ssh", 0))
		f.Add(v.v2(bob, "ssh"))
		f.Add(v.knock(bob, "ssh"))
		for _, b := range inFragments(v.tcp(40000, "many", packet.ACK, 1001, 1, "data of the flow"), 1, 24) {
			f.Add(b)
		}
	})
	w, _ := newFiltered(f, every(legacy))
	everywhere(func(addr string) {
		v := w.at(addr)
		v.knocks(alice, "many", "")
		w.want(v.syn(40000, "many"), ReasonGrant)
		v.enters(40000, "many", alice)
	})
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > filtertest.MaxPacket {
			return
		}
		w.failer = t
		const remembered = 1000 // packets, after which what they have begun is forgotten
		if n++; n%remembered == 0 {
			w.pass(halfOpenTime + 1)
			w.turn()
			w.sweep()
		}
		w.admit(b) // which compares
		w.decide()
		w.events = nil
		w.pass(5 * time.Millisecond)
	})
}
