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

// refusals has a packet for every reason for which an unauthorized host's is
// dropped that does not need anything to have happened before.
func refusals(v testPeer) []unauthorizedPacket {
	flags := func(f uint8) []byte { return v.tcp(1234, "ssh", f, 7, 8, "") }
	elsewhere := func(addr netip.Addr, port uint16) []byte {
		return packettest.SYN(netip.AddrPortFrom(v.addr, 1234), netip.AddrPortFrom(addr, port), 7)
	}
	icmp := func(kind uint8, quoted []byte) []byte {
		return packettest.ICMP{Src: v.addr, Dst: v.gateway(), Type: kind, Payload: quoted}.Packet()
	}
	echo, unreachable := uint8(8), uint8(3)
	if v.addr.Is6() {
		echo, unreachable = 128, 1
	}
	broken := v.syn(1234, "ssh")
	broken[len(broken)-3] ^= 1
	neighbour := netip.MustParseAddr("10.77.1.1")
	if v.addr.Is6() {
		neighbour = netip.MustParseAddr("fd77:0:0:1::1")
	}
	return []unauthorizedPacket{
		{"SYN", v.syn(1234, "ssh"), ReasonNoGrant},
		{"SYN with data", v.tcp(1234, "db", packet.SYN, 7, 0, "data"), ReasonNoGrant},
		{"SYN with PSH and URG", flags(packet.SYN | packet.PSH | packet.URG), ReasonNoGrant},
		{"ACK", flags(packet.ACK), ReasonNoFlow},
		{"data", v.tcp(1234, "ssh", packet.ACK|packet.PSH, 7, 8, "data"), ReasonNoFlow},
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
		{"ACK to an open service", v.tcp(1234, "web", packet.ACK, 7, 8, ""), ReasonNoFlow},
		{"RST to an open service", v.tcp(1234, "web", packet.RST, 7, 8, ""), ReasonNoFlow},
		{"FIN to an open service", v.tcp(1234, "web", packet.FIN, 7, 8, ""), ReasonNoFlow},
		{"SYN to a port without service", elsewhere(v.gateway(), 23), ReasonNotService},
		{"SYN to another address", elsewhere(neighbour, 22), ReasonNotService},
		{"datagram to a port without service", v.udp(53, []byte("query")), ReasonNotService},
		{"datagram to an open service's port", v.udp(443, []byte("hello")), ReasonNotService},
		{"nothing to the knock port", v.udp(testKnockPort, nil), ReasonNotKnock},
		{"short datagram to the knock port", v.udp(testKnockPort, make([]byte, 60)), ReasonNotKnock},
		{"long datagram to the knock port", v.udp(testKnockPort, make([]byte, 1025)), ReasonNotKnock},
		{"zeros to the knock port", v.udp(testKnockPort, make([]byte, 140)), ReasonNotKnock},
		{"zeros to a service's own number", v.udp(22, make([]byte, 140)), ReasonNotKnock},
		{"echo request", icmp(echo, []byte("ping")), ReasonICMP},
		{"an error about nothing", icmp(unreachable, nil), ReasonICMP},
		{"an error about no flow", icmp(unreachable, v.reply(1234, "ssh", packet.ACK, 7, 8, "")), ReasonICMP},
		{"a bad checksum", broken, ReasonMalformed},
		{"another protocol", packettest.IP(v.addr, v.gateway(), 47, make([]byte, 8)), ReasonMalformed},
		{"a truncated packet", v.syn(1234, "ssh")[:30], ReasonMalformed},
	}
}

func TestUnauthorizedPacketReasons(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		for _, c := range refusals(w.at(addr)) {
			if v := w.admit(c.b); v.Action != Drop || v.Reason != c.want {
				t.Errorf("%s, %s: %v %v, want %v", addr, c.name, v.Action, v.Reason, c.want)
			}
		}
		w.empty()
	})
}

func TestUnauthorizedPacketsDuringSession(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		v.knocks(alice, "db", "")
		w.want(v.syn(40000, "db"), ReasonGrant)
		v.enters(40000, "db", alice)
		for _, c := range refusals(w.at(v.addr.Next().String())) {
			if v := w.admit(c.b); v.Action != Drop || v.Reason != c.want {
				t.Errorf("%s, %s: %v %v, want %v", addr, c.name, v.Action, v.Reason, c.want)
			}
		}
		// The client's own address is no key to other ports.
		for _, c := range refusals(v) {
			if got := w.admit(c.b); got.Action != Drop {
				t.Errorf("%s, %s from the client's address: %v %v", addr, c.name, got.Action, got.Reason)
			}
		}
	})
}

func TestStatsCountDropsByReason(t *testing.T) {
	w := newHarness(t)
	want := map[string]uint64{}
	for _, c := range refusals(w.at("192.0.2.1")) {
		w.admit(c.b)
		want[c.want.String()]++
	}
	total := uint64(0)
	for _, p := range w.gate.Stats().Packets {
		if p.Count > 0 && p.Action != Drop {
			t.Errorf("%d packets count as %v %s", p.Count, p.Action, p.Reason)
		}
		if n, ok := want[p.Reason]; ok && n != p.Count {
			t.Errorf("%s: %d, want %d", p.Reason, p.Count, n)
		}
		total += p.Count
	}
	if n := uint64(len(refusals(w.at("192.0.2.1")))); total != n {
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
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "many", "")
	w.want(v.syn(40000, "many"), ReasonGrant)
	v.enters(40000, "many", alice)
	w.gate.Drain()
	w.want(v.syn(40001, "many"), ReasonDraining)
	w.want(v.syn(40002, "web"), ReasonDraining)
	w.want(v.tcp(40000, "many", packet.ACK, 1001, 1, "more"), ReasonFlow)
	if !w.egress(v.reply(40000, "many", packet.ACK, 1, 1005, "reply")) {
		t.Error("an admitted flow is cut off")
	}
}

func TestDrainDropsDeferredSYN(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.syn(40000, "db"), ReasonDeferred)
	w.gate.Drain()
	w.decide()
	if len(w.delivered) != 0 {
		t.Error("delivered")
	}
}

func TestFlowTableLimit(t *testing.T) {
	w := newHarness(t, func(o *Options) { o.Limits.Flows = 3 })
	v := w.at("192.0.2.1")
	for port := range uint16(3) {
		v.knocks(alice, "db", "")
		w.want(v.syn(40000+port, "db"), ReasonGrant)
		v.enters(40000+port, "db", alice)
	}
	v.knocks(alice, "db", "")
	w.want(v.syn(40010, "db"), ReasonFlowLimit)
	w.want(v.syn(40011, "web"), ReasonFlowLimit)
	w.check()
	w.gate.Remove(v.tuple(40000, "db"))
	w.want(v.syn(40010, "db"), ReasonGrant)
	// A full table gives a newcomer with a grant the place of a flow that is not
	// let in.
	w.want(v.syn(40012, "db"), ReasonGrant)
	w.want(v.syn(40013, "web"), ReasonFlowLimit)
	w.tell()
	if len(w.evicted) != 1 || w.evicted[0] != v.tuple(40010, "db") {
		t.Errorf("evicted: %v", w.evicted)
	}
}
