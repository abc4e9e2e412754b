package admission

import (
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// unauthorizedPacket is something that an unauthorized host may send, and what
// becomes of it.
type unauthorizedPacket struct {
	name string
	b    []byte
	want Reason
}

// unauthorizedPackets returns a packet for every reason for which the packet of
// an unauthorized host is dropped that needs no earlier packets.
func unauthorizedPackets(peer testPeer) []unauthorizedPacket {
	flags := func(f uint8) []byte { return peer.tcp(1234, "ssh", f, 7, 8, "") }
	elsewhere := func(addr netip.Addr, port uint16) []byte {
		return packettest.SYN(netip.AddrPortFrom(peer.addr, 1234), netip.AddrPortFrom(addr, port), 7)
	}
	icmp := func(kind uint8, quoted []byte) []byte {
		return packettest.ICMP{Src: peer.addr, Dst: peer.gateway(), Type: kind, Payload: quoted}.Packet()
	}
	echo, unreachable := uint8(8), uint8(3)
	if peer.addr.Is6() {
		echo, unreachable = 128, 1
	}
	broken := peer.syn(1234, "ssh")
	broken[len(broken)-3] ^= 1
	neighbor := netip.MustParseAddr("10.77.1.1")
	if peer.addr.Is6() {
		neighbor = netip.MustParseAddr("fd77:0:0:1::1")
	}
	return []unauthorizedPacket{
		{"SYN", peer.syn(1234, "ssh"), ReasonNoGrant},
		{"SYN with data", peer.tcp(1234, "db", packet.SYN, 7, 0, "data"), ReasonNoGrant},
		{"SYN with PSH and URG", flags(packet.SYN | packet.PSH | packet.URG), ReasonNoGrant},
		{"ACK", flags(packet.ACK), ReasonNoFlow},
		{"data", peer.tcp(1234, "ssh", packet.ACK|packet.PSH, 7, 8, "data"), ReasonNoFlow},
		{"FIN", flags(packet.FIN), ReasonNoFlow},
		{"FIN and ACK", flags(packet.FIN | packet.ACK), ReasonNoFlow},
		{"RST", flags(packet.RST), ReasonNoFlow},
		{"RST and ACK", flags(packet.RST | packet.ACK), ReasonNoFlow},
		{"NULL", flags(0), ReasonNoFlow},
		{"XMAS", flags(packet.FIN | packet.PSH | packet.URG), ReasonNoFlow},
		{"SYN and ACK", flags(packet.SYN | packet.ACK), ReasonNoFlow},
		{"SYN and FIN", flags(packet.SYN | packet.FIN), ReasonNoFlow},
		{"SYN and RST", flags(packet.SYN | packet.RST), ReasonNoFlow},
		{"every flag", flags(0xff), ReasonNoFlow},
		{"ACK to an open service", peer.tcp(1234, "web", packet.ACK, 7, 8, ""), ReasonNoFlow},
		{"RST to an open service", peer.tcp(1234, "web", packet.RST, 7, 8, ""), ReasonNoFlow},
		{"FIN to an open service", peer.tcp(1234, "web", packet.FIN, 7, 8, ""), ReasonNoFlow},
		{"SYN to a port without service", elsewhere(peer.gateway(), 23), ReasonNotService},
		{"SYN to another address", elsewhere(neighbor, 22), ReasonNotService},
		{"datagram to a port without service", peer.udp(53, []byte("query")), ReasonNotService},
		{"datagram to an open service's port", peer.udp(443, []byte("hello")), ReasonNotService},
		{"nothing to the knock port", peer.udp(testKnockPort, nil), ReasonNotKnock},
		{"short datagram to the knock port", peer.udp(testKnockPort, make([]byte, 60)), ReasonNotKnock},
		{"long datagram to the knock port", peer.udp(testKnockPort, make([]byte, 1025)), ReasonNotKnock},
		{"zeros to the knock port", peer.udp(testKnockPort, make([]byte, 140)), ReasonNotKnock},
		{"zeros to a service's own number", peer.udp(22, make([]byte, 140)), ReasonNotKnock},
		{"echo request", icmp(echo, []byte("ping")), ReasonICMP},
		{"an error about nothing", icmp(unreachable, nil), ReasonICMP},
		{"an error about no flow", icmp(unreachable, peer.reply(1234, "ssh", packet.ACK, 7, 8, "")), ReasonICMP},
		{"a bad checksum", broken, ReasonMalformed},
		{"another protocol", packettest.IP(peer.addr, peer.gateway(), 47, make([]byte, 8)), ReasonMalformed},
		{"a truncated packet", peer.syn(1234, "ssh")[:30], ReasonMalformed},
	}
}

func TestUnauthorizedPacketReasons(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		for _, c := range unauthorizedPackets(h.peer(addr)) {
			if v := h.admit(c.b); v.Action != Drop || v.Reason != c.want {
				t.Errorf("%s, %s: %v %v, want %v", addr, c.name, v.Action, v.Reason, c.want)
			}
		}
		h.wantEmpty()
	})
}

func TestUnauthorizedPacketsDuringSession(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(40000, "db"), ReasonGrant)
		peer.mustEnter(40000, "db", alice)
		for _, c := range unauthorizedPackets(h.peer(peer.addr.Next().String())) {
			if v := h.admit(c.b); v.Action != Drop || v.Reason != c.want {
				t.Errorf("%s, %s: %v %v, want %v", addr, c.name, v.Action, v.Reason, c.want)
			}
		}
		// The client's own address does not open other ports.
		for _, c := range unauthorizedPackets(peer) {
			if got := h.admit(c.b); got.Action != Drop {
				t.Errorf("%s, %s from the client's address: %v %v", addr, c.name, got.Action, got.Reason)
			}
		}
	})
}

func TestStatsCountDropsByReason(t *testing.T) {
	h := newHarness(t)
	want := map[string]uint64{}
	for _, c := range unauthorizedPackets(h.peer("192.0.2.1")) {
		h.admit(c.b)
		want[c.want.String()]++
	}
	total := uint64(0)
	for _, p := range h.gate.Stats().Packets {
		if p.Count > 0 && p.Action != Drop {
			t.Errorf("%d packets count as %v %s", p.Count, p.Action, p.Reason)
		}
		if n, ok := want[p.Reason]; ok && n != p.Count {
			t.Errorf("%s: %d, want %d", p.Reason, p.Count, n)
		}
		total += p.Count
	}
	if n := uint64(len(unauthorizedPackets(h.peer("192.0.2.1")))); total != n {
		t.Errorf("%d packets counted of %d", total, n)
	}
}

func TestReasonNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for r := range reasonCount {
		seen[r.String()] = true
	}
	for r := range knock.NumResults {
		seen["knock "+r.String()] = true
	}
	if len(seen) != int(reasonCount)+int(knock.NumResults) || seen[""] || seen["knock "] {
		t.Errorf("%d names", len(seen))
	}
	for r, want := range map[Reason]Action{
		ReasonFlow: Pass, ReasonGrant: Pass, ReasonKnock: Hold, ReasonDeferred: Hold, ReasonMalformed: Drop, ReasonDraining: Drop,
	} {
		if r.action() != want {
			t.Errorf("%v goes with %v", r, r.action())
		}
	}
}

func TestGateDrainKeepsFlows(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "many", "")
	h.want(peer.syn(40000, "many"), ReasonGrant)
	peer.mustEnter(40000, "many", alice)
	h.gate.Drain()
	h.want(peer.syn(40001, "many"), ReasonDraining)
	h.want(peer.syn(40002, "web"), ReasonDraining)
	h.want(peer.tcp(40000, "many", packet.ACK, 1001, 1, "more"), ReasonFlow)
	if !h.egress(peer.reply(40000, "many", packet.ACK, 1, 1005, "reply")) {
		t.Error("an admitted flow is cut off")
	}
}

func TestDrainDropsDeferredSYN(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.syn(40000, "db"), ReasonDeferred)
	h.gate.Drain()
	h.decide()
	if len(h.delivered) != 0 {
		t.Error("delivered")
	}
}

func TestFlowTableLimit(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.Limits.Flows = 3 })
	peer := h.peer("192.0.2.1")
	for port := range uint16(3) {
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(40000+port, "db"), ReasonGrant)
		peer.mustEnter(40000+port, "db", alice)
	}
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40010, "db"), ReasonFlowLimit)
	h.want(peer.syn(40011, "web"), ReasonFlowLimit)
	h.check()
	h.gate.Remove(peer.tuple(40000, "db"))
	h.want(peer.syn(40010, "db"), ReasonGrant)
	// In a full table a new flow with a grant replaces one that is not
	// authenticated.
	h.want(peer.syn(40012, "db"), ReasonGrant)
	h.want(peer.syn(40013, "web"), ReasonFlowLimit)
	h.notifyEvictions()
	if len(h.evicted) != 1 || h.evicted[0] != peer.tuple(40010, "db") {
		t.Errorf("evicted: %v", h.evicted)
	}
}
