//go:build linux

package filter_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/filter/filtertest"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
)

const knockPort = 62201

// newPolicy returns a policy of services that take knocks.
func newPolicy(tb testing.TB, services ...policy.Service) *policy.Policy {
	tb.Helper()
	for i := range services {
		services[i].Name = fmt.Sprint("service", i)
	}
	p, err := policy.New(policy.Options{Services: services, KnockPort: knockPort, Window: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// testPolicy returns the policy of most tests: one hidden and one open service,
// on the same addresses.
func testPolicy(tb testing.TB, change ...func(hidden *policy.Service)) *policy.Policy {
	tb.Helper()
	var services []policy.Service
	for _, prefix := range []string{"10.77.0.0/24", "fd77::/64"} {
		listen := netip.MustParsePrefix(prefix)
		hidden := policy.Service{Listen: listen, Port: 22, Mode: policy.ModeKnock, Methods: policy.MethodUDP}
		for _, f := range change {
			f(&hidden)
		}
		services = append(services, hidden, policy.Service{Listen: listen, Port: 443, Mode: policy.ModeAuth})
	}
	return newPolicy(tb, services...)
}

// everyMethod makes a service take every kind of knock.
func everyMethod(s *policy.Service) {
	s.Methods |= policy.MethodSYN | policy.MethodUDPv2
}

// lab is a filter under test.
type lab struct {
	*testing.T
	*filtertest.Filter

	now time.Duration
}

func open(t *testing.T, o filter.Options) *lab {
	t.Helper()
	filtertest.Require(t)
	if o.Policy == nil {
		o.Policy = testPolicy(t)
	}
	f, err := filtertest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &lab{T: t, Filter: f}
}

func (l *lab) pass(d time.Duration) {
	l.now += d
	l.Until(l.now)
}

// passes fails the test unless a packet does.
func (l *lab) passes(name string, packet []byte) {
	l.Helper()
	reason, drops, err := l.Drops(packet)
	if err != nil || drops {
		l.Fatalf("%s is dropped, %s, %v", name, reason, err)
	}
}

// drops fails the test unless a packet is dropped for a reason.
func (l *lab) drops(name string, packet []byte, want string) {
	l.Helper()
	reason, _, err := l.Drops(packet)
	if err != nil || reason != want {
		l.Fatalf("%s: %q, %v; it is to be dropped as %q", name, reason, err, want)
	}
}

// visitor is a client's address and the gateway's, in one family.
type visitor struct{ addr, gateway netip.Addr }

func everywhere(f func(v visitor)) {
	f(visitor{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.77.0.1")})
	f(visitor{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fd77::1")})
}

func (v visitor) tuple(port, service uint16) packet.Tuple {
	return packet.Tuple{Src: packet.AddrFrom(v.addr), Dst: packet.AddrFrom(v.gateway), SrcPort: port, DstPort: service}
}

func (v visitor) tcp(port, service uint16, flags uint8) []byte {
	return packettest.TCP{Src: netip.AddrPortFrom(v.addr, port), Dst: netip.AddrPortFrom(v.gateway, service), Flags: flags}.Packet()
}

func (v visitor) syn(port uint16) []byte { return v.tcp(port, 22, packet.SYN) }

func (v visitor) udp(port uint16, payload []byte) []byte {
	return packettest.UDP{Src: netip.AddrPortFrom(v.addr, 50000), Dst: netip.AddrPortFrom(v.gateway, port), Payload: payload}.Packet()
}

// knock has the form of a v1 knock.
func (v visitor) knock() []byte {
	payload := make([]byte, 28+90)
	payload[25] = 90
	return v.udp(knockPort, payload)
}

// A client's SYN is right behind its knock, which the gate may not have seen yet.
func TestASYNRightBehindItsKnockPasses(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{Policy: testPolicy(t, everyMethod)})
		l.Expect(2, func(yield func(uint64, uint16) bool) {
			_ = yield(7<<32|9, 8) && yield(0x0102030405060708, 0x090a)
		})
		hint := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
		stamped := func(seq, val uint32, window uint16) []byte {
			return packettest.TCP{
				Src: netip.AddrPortFrom(v.addr, 1000), Dst: netip.AddrPortFrom(v.gateway, 22), Flags: packet.SYN,
				Seq: seq, Window: window, Options: []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, byte(val), 0, 0, 0, 0},
			}.Packet()
		}
		for name, knock := range map[string][]byte{
			"v1": v.knock(), "udp-v2": v.udp(22, append(hint, make([]byte, 118)...)), "tcp-syn": stamped(7, 9, 8),
		} {
			l.drops("a SYN without a knock", v.syn(1000), "no-grant")
			l.passes(name, knock)
			l.passes("the SYN behind "+name, v.syn(1000))
			l.pass(time.Second)
			l.passes("the SYN a second after "+name, v.syn(1000))
			l.pass(2 * filter.TickInterval)
			l.drops("the SYN after that", v.syn(1000), "no-grant")
		}
		l.drops("a SYN that nobody expects", stamped(7, 9, 9), "no-grant")
		l.drops("a datagram that nobody expects", v.udp(22, append([]byte{9}, make([]byte, 127)...)), "not-a-knock")
		l.Expect(0, func(func(uint64, uint16) bool) {})
		l.drops("what was expected once", stamped(7, 9, 8), "no-grant")
	})
}

func TestAFlowsPacketsPassForAsLongAsItIsThere(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{Flows: 10})
		ack, other := v.tcp(1000, 22, packet.ACK), v.tcp(1001, 22, packet.ACK)
		quoted := packettest.TCP{Src: netip.AddrPortFrom(v.gateway, 22), Dst: netip.AddrPortFrom(v.addr, 1000)}.Packet()
		about := packettest.ICMP{Src: v.addr, Dst: v.gateway, Type: 3, Payload: quoted}
		if v.addr.Is6() {
			about.Type = 1
		}
		for range 2 {
			l.drops("an ACK before the flow", ack, "no-flow")
			l.drops("an error before the flow", about.Packet(), "icmp")
			l.Flow(v.tuple(1000, 22), true)
			l.Source(v.tuple(1000, 22).Src, true)
			l.passes("an ACK of the flow", ack)
			l.passes("an error about the flow", about.Packet())
			l.passes("a SYN from its source", v.syn(1001))
			l.drops("an ACK of another", other, "no-flow")
			l.Flow(v.tuple(1000, 22), false)
			l.Source(v.tuple(1000, 22).Src, false)
			l.drops("a SYN after it", v.syn(1001), "no-grant")
		}
	})
}

func TestFragmentsPassOnlyWhereTheyArePutTogether(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{})
		whole := v.tcp(1000, 22, packet.ACK)
		var fragment []byte
		site := packet.AddrFrom(v.addr)
		if v.addr.Is4() {
			fragment = append([]byte(nil), whole...)
			fragment[6] = 0x20
			packettest.Checksums(fragment)
		} else {
			fragment = append(append(append([]byte(nil), whole[:40]...), 6, 0, 0, 1, 0, 0, 0, 7), whole[40:]...)
			fragment[5] += 8
			fragment[6] = 44
			clear(site[8:])
		}
		l.drops("a stranger's fragment", fragment, "malformed-fragment")
		l.Source(packet.AddrFrom(v.addr), true)
		l.drops("the fragment of somebody known", fragment, "malformed-fragment")
		l.Site(site, true)
		l.passes("the fragment of somebody with a flow", fragment)
		l.Site(site, false)
		l.drops("a stranger's fragment again", fragment, "malformed-fragment")
	})
}

func TestStrayACKsPassWhileCookiesAreAbout(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{})
		ack := v.tcp(1000, 443, packet.ACK)
		l.passes("a SYN to an open service", v.tcp(1000, 443, packet.SYN))
		l.drops("a stray ACK", ack, "no-flow")
		l.Flooded()
		l.pass(filter.FloodTime)
		l.passes("a stray ACK in a flood", ack)
		l.drops("a stray RST in a flood", v.tcp(1000, 443, packet.RST|packet.ACK), "no-flow")
		l.drops("a stray ACK to a hidden service", v.tcp(1000, 22, packet.ACK), "no-flow")
		l.pass(2 * filter.TickInterval)
		l.drops("a stray ACK after the flood", ack, "no-flow")
	})
}

func TestWhatIsTracedPasses(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{})
		neighbour := visitor{v.addr.Next(), v.gateway}
		for range 2 {
			l.BypassSource(v.addr, true)
			l.BypassSource(v.addr, true) // twice is once
			l.passes("a SYN", v.syn(1000))
			l.passes("a datagram", v.udp(53, nil))
			l.passes("echo", packettest.ICMP{Src: v.addr, Dst: v.gateway, Type: 8}.Packet())
			l.drops("a neighbour's SYN", neighbour.syn(1000), "no-grant")
			l.BypassSource(v.addr, false)
			l.drops("a SYN", v.syn(1000), "no-grant")
		}
	})
}

func TestEverythingPassesForWhoWatchesIt(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{})
		l.drops("a SYN", v.syn(1000), "no-grant")
		l.BypassAll(true)
		l.passes("a SYN", v.syn(1000))
		l.passes("a datagram", v.udp(53, nil))
		l.BypassAll(false)
		l.drops("a SYN", v.syn(1000), "no-grant")
	})
}

// A table without room makes no client wait: everything passes.
func TestWhatHasNoRoomIsPassed(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{})
		const many = 2000
		l.drops("a SYN", v.syn(1000), "no-grant")
		for port := range uint16(many) {
			l.Flow(v.tuple(port+1, 22), true)
		}
		l.passes("a SYN while the table is full", v.syn(1000))
		for port := range uint16(many) {
			l.passes("a packet of a flow", v.tcp(port+1, 22, packet.ACK))
		}
		for port := range uint16(many) {
			l.Flow(v.tuple(port+1, 22), false)
		}
		l.passes("a SYN when there has just been room", v.syn(1000))
		l.pass(2 * time.Second)
		l.drops("a SYN", v.syn(1000), "no-grant")
	})
}

func TestTablesSayHowFullTheyAre(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{Flows: 10, Sources: 10})
		const flows, expected = 3, 5
		for port := range uint16(flows) {
			l.Flow(v.tuple(port+1, 22), true)
		}
		l.Flow(v.tuple(1, 22), false)
		l.Expect(expected, func(yield func(uint64, uint16) bool) {
			for i := 0; i < expected && yield(uint64(i), 1); i++ {
			}
		})
		want := map[string]int{"filter_flows_and_sources": flows - 1, "filter_expected_knocks": expected, "filter_service_ports": 0}
		for _, table := range l.Tables() {
			n, ok := want[table.Name]
			if table.Name == "filter_service_ports" {
				n = max(table.Used, 1) // how many a policy takes is its own affair
			}
			if delete(want, table.Name); !ok || table.Used != n || table.Limit < n {
				t.Errorf("%+v, want %d", table, n)
			}
		}
		if len(want) > 0 {
			t.Errorf("there is no table %v", want)
		}
		if err := l.Close(); err != nil || l.Tables() != nil {
			t.Errorf("closed, it has %v, %v", l.Tables(), err)
		}
	})
}

// More expected knocks than there is room for: whatever could be one is one.
func TestTooManyExpectedKnocksAreAllExpected(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{Policy: testPolicy(t, func(s *policy.Service) { s.Methods = policy.MethodSYN | policy.MethodUDPv2 })})
		expect := func(n int) {
			l.Expect(n, func(yield func(uint64, uint16) bool) {
				for i := range n {
					if !yield(uint64(i), 1) {
						return
					}
				}
			})
		}
		stamped := packettest.TCP{
			Src: netip.AddrPortFrom(v.addr, 1000), Dst: netip.AddrPortFrom(v.gateway, 22), Flags: packet.SYN,
			Options: []byte{1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0},
		}.Packet()
		neighbour := visitor{v.addr.Next(), v.gateway}
		for _, n := range []int{3, 10_000, 3} {
			expect(n)
			l.pass(2 * time.Second)
			if n > 1000 {
				l.drops("a SYN without timestamps", neighbour.syn(1000), "no-grant")
				l.passes("a SYN with timestamps", stamped)
				l.passes("a datagram of udp-v2's size", v.udp(knockPort, make([]byte, 128)))
			} else {
				l.drops("a SYN with timestamps", stamped, "no-grant")
				l.drops("a datagram of udp-v2's size", v.udp(knockPort, make([]byte, 128)), "not-a-knock")
			}
		}
	})
}

func TestWhileThePolicyChangesEverythingPasses(t *testing.T) {
	everywhere(func(v visitor) {
		l := open(t, filter.Options{})
		l.drops("a SYN", v.syn(1000), "no-grant")
		l.drops("a SYN to a service to come", v.tcp(1000, 25, packet.SYN), "no-service")
		next := testPolicy(t, func(s *policy.Service) { s.Port = 25 })
		if err := l.SetPolicy(next, func() {
			l.passes("a SYN while the policy changes", v.syn(1000))
			l.passes("a SYN to a new service", v.tcp(1000, 25, packet.SYN))
		}); err != nil {
			t.Fatal(err)
		}
		l.passes("a SYN right after", v.syn(1000))
		l.pass(2 * time.Second)
		l.drops("a SYN to a service that was", v.syn(1000), "no-service")
		l.drops("a SYN to a service that is", v.tcp(1000, 25, packet.SYN), "no-grant")
		l.drops("a datagram to its port", v.udp(25, nil), "not-a-knock")
		l.drops("a datagram to one that was", v.udp(22, nil), "no-service")
	})
}

// Of several prefixes that have an address, all count.
func TestAPortTakesWhatTheServicesAroundItTake(t *testing.T) {
	p := newPolicy(t,
		policy.Service{Port: 22, Mode: policy.ModeKnock, Methods: policy.MethodUDP, Listen: netip.MustParsePrefix("10.77.0.0/24")},
		policy.Service{Port: 23, Mode: policy.ModeKnock, Methods: policy.MethodUDPv2, Listen: netip.MustParsePrefix("10.77.0.0/28")},
		policy.Service{Port: 24, Mode: policy.ModeKnock, Listen: netip.MustParsePrefix("10.77.0.1/32")},
		policy.Service{Port: 25, Mode: policy.ModeKnock, Methods: policy.MethodUDP, Listen: netip.MustParsePrefix("::/0")},
	)
	l := open(t, filter.Options{Policy: p})
	v := visitor{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.77.0.1")}
	l.passes("a knock to the innermost address", v.knock())
	l.drops("a SYN to the innermost service", v.tcp(1000, 24, packet.ACK), "no-flow")
	l.drops("a datagram to a service that takes none", v.udp(24, nil), "no-service")
	v.gateway = netip.MustParseAddr("10.77.0.200")
	l.passes("a knock to the outermost prefix", v.knock())
	l.drops("a SYN where the inner service is not", v.tcp(1000, 23, packet.ACK), "no-service")
	v.gateway = netip.MustParseAddr("10.77.1.1")
	l.drops("a knock to an address of none", v.knock(), "no-service")
	l.drops("an IPv4 packet to an IPv6 service", v.tcp(1000, 25, packet.SYN), "no-service")
}

// The program finds an entry by the hash that Go has computed of it: of every
// kind of key, and under every secret, which each filter draws anew.
func TestProgramHashesAsGo(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	everywhere(func(v visitor) {
		for range 20 {
			l := open(t, filter.Options{
				Flows: 100, Sources: 100,
				Policy: testPolicy(t, func(s *policy.Service) { s.Methods |= policy.MethodSYN }),
			})
			for range 50 {
				addr := v.addr.AsSlice()
				for i := len(addr) - 3; i < len(addr); i++ {
					addr[i] = byte(random.IntN(256))
				}
				v.addr, _ = netip.AddrFromSlice(addr)
				source, port := packet.AddrFrom(v.addr), uint16(1+random.IntN(65535))
				seq, window, stamp := random.Uint32(), uint16(random.IntN(65536)), random.Uint32()
				knock := packettest.TCP{
					Src: netip.AddrPortFrom(v.addr, port), Dst: netip.AddrPortFrom(v.gateway, 22), Flags: packet.SYN,
					Seq: seq, Window: window,
					Options: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, stamp), 0),
				}.Packet()

				l.drops("an ACK without a flow", v.tcp(port, 22, packet.ACK), "no-flow")
				l.Flow(v.tuple(port, 22), true)
				l.passes("an ACK of a flow", v.tcp(port, 22, packet.ACK))
				l.Flow(v.tuple(port, 22), false)

				l.drops("a SYN of an unknown source", v.syn(port), "no-grant")
				l.Source(source, true)
				l.passes("a SYN of a known source", v.syn(port))
				l.Source(source, false)

				l.BypassSource(v.addr, true)
				l.passes("a SYN of a traced source", v.syn(port))
				l.BypassSource(v.addr, false)

				l.drops("an unexpected knock", knock, "no-grant")
				l.Expect(1, func(yield func(uint64, uint16) bool) { yield(uint64(seq)<<32|uint64(stamp), window) })
				l.passes("an expected knock", knock)
				l.pass(2 * time.Second) // its mark is over, which sources may share
			}
		}
	})
}

func TestWhatTheGateTellsCostsNoGarbage(t *testing.T) {
	l := open(t, filter.Options{Flows: 100})
	v := visitor{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.77.0.1")}
	tuple := v.tuple(1000, 22)
	if n := testing.AllocsPerRun(100, func() {
		l.Flow(tuple, true)
		l.Source(tuple.Src, true)
		l.Site(tuple.Src, true)
		l.Flooded()
		l.Tick()
		l.Site(tuple.Src, false)
		l.Source(tuple.Src, false)
		l.Flow(tuple, false)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAClosedFilterIsHarmless(t *testing.T) {
	l := open(t, filter.Options{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Flow(packet.Tuple{}, true)
	l.Source(packet.Addr{}, true)
	l.Site(packet.Addr{}, false)
	l.Flooded()
	l.Tick()
	l.BypassSource(netip.MustParseAddr("192.0.2.1"), true)
	l.Expect(1, func(func(uint64, uint16) bool) {})
	if _, err := l.Counts(); err == nil {
		t.Error("a closed filter has counts")
	}
	if err := l.Filter.Filter.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkDrop is what the program takes for a packet, by kind.
func BenchmarkDrop(b *testing.B) {
	filtertest.Require(b)
	f, err := filtertest.New(filter.Options{Flows: 1 << 17, Sources: 1 << 16, Expected: 200_000,
		Policy: testPolicy(b, everyMethod)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	everywhere(func(v visitor) {
		l := netip.AddrPortFrom(v.gateway, 22)
		f.Flow(v.tuple(2000, 22), true)
		stamps := []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
		for _, c := range []struct {
			name   string
			packet []byte
		}{
			{"SYN", v.syn(1000)},
			{"SYN with timestamps", packettest.TCP{Src: netip.AddrPortFrom(v.addr, 1000), Dst: l, Flags: packet.SYN, Options: stamps}.Packet()},
			{"ACK", v.tcp(1000, 22, packet.ACK)},
			{"SYN to no service", v.tcp(1000, 23, packet.SYN)},
			{"datagram to no port", v.udp(53, make([]byte, 40))},
			{"datagram that is no knock", v.udp(knockPort, make([]byte, 128))},
			{"knock (passes)", v.knock()},
			{"segment of a flow (passes)", v.tcp(2000, 22, packet.ACK)},
			{"echo", packettest.ICMP{Src: v.addr, Dst: v.gateway, Type: 8}.Packet()},
		} {
			b.Run(fmt.Sprintf("%s/%s", c.name, family(v)), func(b *testing.B) {
				each, err := f.Time(c.packet, b.N)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
			})
		}
	})
}

func family(v visitor) string {
	if v.addr.Is6() {
		return "IPv6"
	}
	return "IPv4"
}
