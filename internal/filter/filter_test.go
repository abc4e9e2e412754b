//go:build linux

package filter_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

// A client's SYN follows its knock at once; the gate may not have read it yet.
func TestFilterPassesSYNAfterKnock(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{Policy: testPolicy(t, everyMethod)})
		h.Expect(2, func(yield func(uint64, uint16) bool) {
			_ = yield(7<<32|9, 8) && yield(0x0102030405060708, 0x090a)
		})
		hint := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
		stamped := func(seq, val uint32, window uint16) []byte {
			return packettest.TCP{
				Src: netip.AddrPortFrom(p.addr, 1000), Dst: netip.AddrPortFrom(p.gateway, 22), Flags: packet.SYN,
				Seq: seq, Window: window, Options: []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, byte(val), 0, 0, 0, 0},
			}.Packet()
		}
		for name, knock := range map[string][]byte{
			"v1": p.knock(), "udp-v2": p.udp(22, append(hint, make([]byte, 118)...)), "tcp-syn": stamped(7, 9, 8),
		} {
			h.drops("a SYN without a knock", p.syn(1000), "no-grant")
			h.passes(name, knock)
			h.passes("the SYN behind "+name, p.syn(1000))
			h.advance(time.Second)
			h.passes("the SYN a second after "+name, p.syn(1000))
			h.advance(2 * filter.TickInterval)
			h.drops("the SYN after that", p.syn(1000), "no-grant")
		}
		h.drops("an unexpected SYN knock", stamped(7, 9, 9), "no-grant")
		h.drops("an unexpected datagram", p.udp(22, append([]byte{9}, make([]byte, 127)...)), "not-a-knock")
		h.Expect(0, func(func(uint64, uint16) bool) {})
		h.drops("what was expected once", stamped(7, 9, 8), "no-grant")
	})
}

func TestFilterPassesPacketsOfFlows(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{Flows: 10})
		ack, other := p.tcp(1000, 22, packet.ACK), p.tcp(1001, 22, packet.ACK)
		quoted := packettest.TCP{Src: netip.AddrPortFrom(p.gateway, 22), Dst: netip.AddrPortFrom(p.addr, 1000)}.Packet()
		about := packettest.ICMP{Src: p.addr, Dst: p.gateway, Type: 3, Payload: quoted}
		if p.addr.Is6() {
			about.Type = 1
		}
		for range 2 {
			h.drops("an ACK before the flow", ack, "no-flow")
			h.drops("an error before the flow", about.Packet(), "icmp")
			h.Flow(p.tuple(1000, 22), true)
			h.Source(p.tuple(1000, 22).Src, true)
			h.passes("an ACK of the flow", ack)
			h.passes("an error about the flow", about.Packet())
			h.passes("a SYN from its source", p.syn(1001))
			h.drops("an ACK of another", other, "no-flow")
			h.Flow(p.tuple(1000, 22), false)
			h.Source(p.tuple(1000, 22).Src, false)
			h.drops("a SYN after it", p.syn(1001), "no-grant")
		}
	})
}

func TestFilterPassesReassembledFragments(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{})
		whole := p.tcp(1000, 22, packet.ACK)
		var fragment []byte
		site := packet.AddrFrom(p.addr)
		if p.addr.Is4() {
			fragment = append([]byte(nil), whole...)
			fragment[6] = 0x20
			packettest.Checksums(fragment)
		} else {
			fragment = append(append(append([]byte(nil), whole[:40]...), 6, 0, 0, 1, 0, 0, 0, 7), whole[40:]...)
			fragment[5] += 8
			fragment[6] = 44
			clear(site[8:])
		}
		h.drops("the fragment of an unknown source", fragment, "malformed-fragment")
		h.Source(packet.AddrFrom(p.addr), true)
		h.drops("the fragment of a known source", fragment, "malformed-fragment")
		h.Subnet(site, true)
		h.passes("the fragment of a source with a flow", fragment)
		h.Subnet(site, false)
		h.drops("the fragment of an unknown source again", fragment, "malformed-fragment")
	})
}

func TestFilterPassesCookieACKs(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{})
		ack := p.tcp(1000, 443, packet.ACK)
		h.passes("a SYN to an open service", p.tcp(1000, 443, packet.SYN))
		h.drops("a stray ACK", ack, "no-flow")
		h.CookieMode()
		h.advance(filter.CookieWindow)
		h.passes("a stray ACK in a flood", ack)
		h.drops("a stray RST in a flood", p.tcp(1000, 443, packet.RST|packet.ACK), "no-flow")
		h.drops("a stray ACK to a hidden service", p.tcp(1000, 22, packet.ACK), "no-flow")
		h.advance(2 * filter.TickInterval)
		h.drops("a stray ACK after the flood", ack, "no-flow")
	})
}

func TestBypassSourcePassesThatSource(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{})
		neighbour := testPeer{p.addr.Next(), p.gateway}
		for range 2 {
			h.BypassSource(p.addr, true)
			h.BypassSource(p.addr, true) // twice is once
			h.passes("a SYN", p.syn(1000))
			h.passes("a datagram", p.udp(53, nil))
			h.passes("echo", packettest.ICMP{Src: p.addr, Dst: p.gateway, Type: 8}.Packet())
			h.drops("a neighbour's SYN", neighbour.syn(1000), "no-grant")
			h.BypassSource(p.addr, false)
			h.drops("a SYN", p.syn(1000), "no-grant")
		}
	})
}

func TestBypassAllPassesEverything(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{})
		h.drops("a SYN", p.syn(1000), "no-grant")
		h.BypassAll(true)
		h.passes("a SYN", p.syn(1000))
		h.passes("a datagram", p.udp(53, nil))
		h.BypassAll(false)
		h.drops("a SYN", p.syn(1000), "no-grant")
	})
}

// A table without room delays no client: every packet passes.
func TestFilterPassesAllWhenFull(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{})
		const many = 2000
		h.drops("a SYN", p.syn(1000), "no-grant")
		for port := range uint16(many) {
			h.Flow(p.tuple(port+1, 22), true)
		}
		h.passes("a SYN while the table is full", p.syn(1000))
		for port := range uint16(many) {
			h.passes("a packet of a flow", p.tcp(port+1, 22, packet.ACK))
		}
		for port := range uint16(many) {
			h.Flow(p.tuple(port+1, 22), false)
		}
		h.passes("a SYN when there has just been room", p.syn(1000))
		h.advance(2 * time.Second)
		h.drops("a SYN", p.syn(1000), "no-grant")
	})
}

func TestTablesReportUsage(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{Flows: 10, Sources: 10})
		const flows, expected = 3, 5
		for port := range uint16(flows) {
			h.Flow(p.tuple(port+1, 22), true)
		}
		h.Flow(p.tuple(1, 22), false)
		h.Expect(expected, func(yield func(uint64, uint16) bool) {
			for i := 0; i < expected && yield(uint64(i), 1); i++ {
			}
		})
		want := map[string]int{"filter_flows_and_sources": flows - 1, "filter_expected_knocks": expected, "filter_service_ports": 0}
		for _, table := range h.Tables() {
			n, ok := want[table.Name]
			if table.Name == "filter_service_ports" {
				n = max(table.Used, 1) // depends on the policy
			}
			if delete(want, table.Name); !ok || table.Used != n || table.Limit < n {
				t.Errorf("%+v, want %d", table, n)
			}
		}
		if len(want) > 0 {
			t.Errorf("no table %v", want)
		}
		if err := h.Close(); err != nil || h.Tables() != nil {
			t.Errorf("closed, it has %v, %v", h.Tables(), err)
		}
	})
}

// With more expected knocks than there is room for, each possible one passes.
func TestExpectOverflowPassesKnocks(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{Policy: testPolicy(t, func(s *policy.Service) { s.Methods = policy.MethodSYN | policy.MethodUDPv2 })})
		expect := func(n int) {
			h.Expect(n, func(yield func(uint64, uint16) bool) {
				for i := range n {
					if !yield(uint64(i), 1) {
						return
					}
				}
			})
		}
		stamped := packettest.TCP{
			Src: netip.AddrPortFrom(p.addr, 1000), Dst: netip.AddrPortFrom(p.gateway, 22), Flags: packet.SYN,
			Options: []byte{1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0},
		}.Packet()
		neighbour := testPeer{p.addr.Next(), p.gateway}
		for _, n := range []int{3, 10_000, 3} {
			expect(n)
			h.advance(2 * time.Second)
			if n > 1000 {
				h.drops("a SYN without timestamps", neighbour.syn(1000), "no-grant")
				h.passes("a SYN with timestamps", stamped)
				h.passes("a datagram of udp-v2's size", p.udp(knockPort, make([]byte, 128)))
			} else {
				h.drops("a SYN with timestamps", stamped, "no-grant")
				h.drops("a datagram of udp-v2's size", p.udp(knockPort, make([]byte, 128)), "not-a-knock")
			}
		}
	})
}

func TestSetPolicyPassesAllMeanwhile(t *testing.T) {
	eachFamily(func(p testPeer) {
		h := open(t, filter.Options{})
		h.drops("a SYN", p.syn(1000), "no-grant")
		h.drops("a SYN to a service to come", p.tcp(1000, 25, packet.SYN), "no-service")
		next := testPolicy(t, func(s *policy.Service) { s.Port = 25 })
		if err := h.SetPolicy(next, func() {
			h.passes("a SYN while the policy changes", p.syn(1000))
			h.passes("a SYN to a new service", p.tcp(1000, 25, packet.SYN))
		}); err != nil {
			t.Fatal(err)
		}
		h.passes("a SYN right after", p.syn(1000))
		h.advance(2 * time.Second)
		h.drops("a SYN to a service that was", p.syn(1000), "no-service")
		h.drops("a SYN to a service that is", p.tcp(1000, 25, packet.SYN), "no-grant")
		h.drops("a datagram to its port", p.udp(25, nil), "not-a-knock")
		h.drops("a datagram to one that was", p.udp(22, nil), "no-service")
	})
}

// Of several prefixes that contain an address, all count.
func TestPolicyPrefixesInherit(t *testing.T) {
	nested := newPolicy(t,
		policy.Service{Port: 22, Mode: policy.ModeKnock, Methods: policy.MethodUDP, Listen: netip.MustParsePrefix("10.77.0.0/24")},
		policy.Service{Port: 23, Mode: policy.ModeKnock, Methods: policy.MethodUDPv2, Listen: netip.MustParsePrefix("10.77.0.0/28")},
		policy.Service{Port: 24, Mode: policy.ModeKnock, Listen: netip.MustParsePrefix("10.77.0.1/32")},
		policy.Service{Port: 25, Mode: policy.ModeKnock, Methods: policy.MethodUDP, Listen: netip.MustParsePrefix("::/0")},
	)
	h := open(t, filter.Options{Policy: nested})
	p := testPeer{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.77.0.1")}
	h.passes("a knock to the innermost address", p.knock())
	h.drops("a SYN to the innermost service", p.tcp(1000, 24, packet.ACK), "no-flow")
	h.drops("a datagram to a service that takes none", p.udp(24, nil), "no-service")
	p.gateway = netip.MustParseAddr("10.77.0.200")
	h.passes("a knock to the outermost prefix", p.knock())
	h.drops("a SYN where the inner service is not", p.tcp(1000, 23, packet.ACK), "no-service")
	p.gateway = netip.MustParseAddr("10.77.1.1")
	h.drops("a knock to an address of none", p.knock(), "no-service")
	h.drops("an IPv4 packet to an IPv6 service", p.tcp(1000, 25, packet.SYN), "no-service")
}

// The program finds an entry by the hash that Go has computed: of each kind of
// key, and under any secret. Each filter draws its own.
func TestProgramHashesAsGo(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	eachFamily(func(p testPeer) {
		for range 20 {
			h := open(t, filter.Options{
				Flows: 100, Sources: 100,
				Policy: testPolicy(t, func(s *policy.Service) { s.Methods |= policy.MethodSYN }),
			})
			for range 50 {
				addr := p.addr.AsSlice()
				for i := len(addr) - 3; i < len(addr); i++ {
					addr[i] = byte(random.IntN(256))
				}
				p.addr, _ = netip.AddrFromSlice(addr)
				source, port := packet.AddrFrom(p.addr), uint16(1+random.IntN(65535))
				seq, window, stamp := random.Uint32(), uint16(random.IntN(65536)), random.Uint32()
				knock := packettest.TCP{
					Src: netip.AddrPortFrom(p.addr, port), Dst: netip.AddrPortFrom(p.gateway, 22), Flags: packet.SYN,
					Seq: seq, Window: window,
					Options: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, stamp), 0),
				}.Packet()

				h.drops("an ACK without a flow", p.tcp(port, 22, packet.ACK), "no-flow")
				h.Flow(p.tuple(port, 22), true)
				h.passes("an ACK of a flow", p.tcp(port, 22, packet.ACK))
				h.Flow(p.tuple(port, 22), false)

				h.drops("a SYN of an unknown source", p.syn(port), "no-grant")
				h.Source(source, true)
				h.passes("a SYN of a known source", p.syn(port))
				h.Source(source, false)

				h.BypassSource(p.addr, true)
				h.passes("a SYN of a traced source", p.syn(port))
				h.BypassSource(p.addr, false)

				h.drops("an unexpected knock", knock, "no-grant")
				h.Expect(1, func(yield func(uint64, uint16) bool) { yield(uint64(seq)<<32|uint64(stamp), window) })
				h.passes("an expected knock", knock)
				h.advance(2 * time.Second) // its mark is over, which sources may share
			}
		}
	})
}

func TestUpdatesAllocateNothing(t *testing.T) {
	h := open(t, filter.Options{Flows: 100})
	p := testPeer{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.77.0.1")}
	tuple := p.tuple(1000, 22)
	if n := testing.AllocsPerRun(100, func() {
		h.Flow(tuple, true)
		h.Source(tuple.Src, true)
		h.Subnet(tuple.Src, true)
		h.CookieMode()
		h.Tick()
		h.Subnet(tuple.Src, false)
		h.Source(tuple.Src, false)
		h.Flow(tuple, false)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestClosedFilterIsHarmless(t *testing.T) {
	h := open(t, filter.Options{})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.Flow(packet.Tuple{}, true)
	h.Source(packet.Addr{}, true)
	h.Subnet(packet.Addr{}, false)
	h.CookieMode()
	h.Tick()
	h.BypassSource(netip.MustParseAddr("192.0.2.1"), true)
	h.Expect(1, func(func(uint64, uint16) bool) {})
	if _, err := h.Counts(); err == nil {
		t.Error("a closed filter has counts")
	}
	if err := h.Filter.Filter.Close(); err != nil {
		t.Error(err)
	}
}
