//go:build linux

package filter_test

import (
	"fmt"
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

// harness is a filter under test.
type harness struct {
	*testing.T
	*filtertest.Filter

	now time.Duration
}

func open(t *testing.T, o filter.Options) *harness {
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
	return &harness{T: t, Filter: f}
}

func (h *harness) advance(d time.Duration) {
	h.now += d
	h.Until(h.now)
}

// passes fails the test unless a packet passes.
func (h *harness) passes(name string, packet []byte) {
	h.Helper()
	reason, drops, err := h.Drops(packet)
	if err != nil || drops {
		h.Fatalf("%s is dropped, %s, %v", name, reason, err)
	}
}

// drops fails the test unless a packet is dropped for a reason.
func (h *harness) drops(name string, packet []byte, want string) {
	h.Helper()
	reason, _, err := h.Drops(packet)
	if err != nil || reason != want {
		h.Fatalf("%s: %q, %v, want a drop for %q", name, reason, err, want)
	}
}

// testPeer is a host's address and the gateway's, in one family.
type testPeer struct{ addr, gateway netip.Addr }

func eachFamily(f func(p testPeer)) {
	f(testPeer{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.77.0.1")})
	f(testPeer{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fd77::1")})
}

func (p testPeer) tuple(port, service uint16) packet.Tuple {
	return packet.Tuple{Src: packet.AddrFrom(p.addr), Dst: packet.AddrFrom(p.gateway), SrcPort: port, DstPort: service}
}

func (p testPeer) tcp(port, service uint16, flags uint8) []byte {
	return packettest.TCP{Src: netip.AddrPortFrom(p.addr, port), Dst: netip.AddrPortFrom(p.gateway, service), Flags: flags}.Packet()
}

func (p testPeer) syn(port uint16) []byte { return p.tcp(port, 22, packet.SYN) }

func (p testPeer) udp(port uint16, payload []byte) []byte {
	return packettest.UDP{Src: netip.AddrPortFrom(p.addr, 50000), Dst: netip.AddrPortFrom(p.gateway, port), Payload: payload}.Packet()
}

// knock returns a datagram of a v1 knock's form.
func (p testPeer) knock() []byte {
	payload := make([]byte, 28+90)
	payload[25] = 90
	return p.udp(knockPort, payload)
}
