package admission

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The fixtures of the other knock methods: services that accept every method,
// and the packets of each.

const (
	allFamilies = policy.MethodsUDP | policy.MethodsSYN
	testGateway = "gw.example.net"
)

// allMethods returns a policy like testPolicy that accepts every method.
func allMethods(change ...func(*policy.Options)) func(*Options) {
	return func(o *Options) {
		p := policy.Options{KnockPort: testKnockPort, Window: testWindow, Gateway: testGateway}
		for _, s := range o.Policy.Services() {
			c := *s
			c.Methods = allFamilies
			p.Services = append(p.Services, c)
		}
		for _, f := range change {
			f(&p)
		}
		policy, err := policy.New(p)
		if err != nil {
			panic(err)
		}
		o.Policy = policy
	}
}

// withMethods changes the methods of all services.
func withMethods(methods policy.MethodSet) func(*policy.Options) {
	return func(o *policy.Options) {
		for i := range o.Services {
			o.Services[i].Methods = methods
		}
	}
}

// withClients replaces the clients of all services.
func withClients(clients ...*policy.Client) func(*policy.Options) {
	return func(o *policy.Options) {
		for i := range o.Services {
			o.Services[i].Clients = clients
		}
	}
}

// withSequenceLength sets the length of sequences.
func withSequenceLength(n int) func(*policy.Options) {
	return func(o *policy.Options) { o.Sequence.Length = n }
}

// withLegacySequences also accepts SYN sequences in the legacy encoding.
func withLegacySequences(o *policy.Options) { o.Sequence.Legacy = true }

// rotateTable does what Run does when the clock may have moved.
func (h *harness) rotateTable() {
	h.Helper()
	h.gate.rotateTable(h.builder)
	h.check()
}

// slot returns the current slot of a kind of knock.
func (h *harness) slot(kind expectedKind) int64 {
	return protocol.Slot(h.Now(), slotTime(h.gate.Policy(), kind))
}

// advanceToSlot moves the clocks until d before the next slot of a kind.
func (h *harness) advanceToSlot(kind expectedKind, d time.Duration) {
	h.Helper()
	length := slotTime(h.gate.Policy(), kind).Truncate(time.Second)
	now := h.Now()
	next := time.Unix((h.slot(kind)+1)*int64(length/time.Second), 0)
	wait := next.Sub(now) - d
	if wait < 0 {
		wait += length
	}
	h.Advance(wait)
	h.rotateTable()
}

// timestamps returns the options of a SYN knock: two NOPs and Timestamps.
func timestamps(val uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, val), 0)
}

// synAs returns a SYN with the given fields to a port of a service.
func (peer testPeer) synAs(f protocol.SYNFields, to netip.AddrPort) []byte {
	return peer.fieldsAs(f, to).Packet()
}

func (peer testPeer) fieldsAs(f protocol.SYNFields, to netip.AddrPort) packettest.TCP {
	peer.h.ids++
	return packettest.TCP{
		Src: netip.AddrPortFrom(peer.addr, uint16(20000+peer.h.ids%10000)), Dst: to,
		Flags: packet.SYN, Seq: f.Seq, Window: f.Window, Options: timestamps(f.TSVal),
	}
}

// synKnock returns a SYN knock of c for a service, off slots from the current
// one.
func (peer testPeer) synKnock(c *protocol.Client, service string, off int64) []byte {
	return peer.synAs(peer.synFields(c, service, off), peer.server(service))
}

func (peer testPeer) synFields(c *protocol.Client, service string, off int64) protocol.SYNFields {
	return c.SYN(protocol.NewScratch(), peer.server(service).Port(), peer.h.slot(expectSYN)+off)
}

// synPart returns a part of a SYN sequence, off slots from the current one.
func (peer testPeer) synPart(c *protocol.Client, service string, off int64, index int) []byte {
	f := c.SYNPart(protocol.NewScratch(), peer.server(service).Port(), peer.h.slot(expectPart)+off, index)
	return peer.synAs(f, peer.server(service))
}

// legacyPart is synPart in the legacy encoding.
func (peer testPeer) legacyPart(c *protocol.Client, service string, off int64, index int) []byte {
	to := peer.server(service)
	f, port := c.SYNPartLegacy(protocol.NewScratch(), to.Port(), peer.h.slot(expectLegacyPart)+off, index)
	return peer.synAs(f, netip.AddrPortFrom(to.Addr(), port))
}

// v2 returns a udp-v2 knock of c; change may add bindings.
func (peer testPeer) v2(c *protocol.Client, service string, change ...func(*protocol.KnockV2Message)) []byte {
	return peer.v2At(c, service, testGateway, 0, change...)
}

func (peer testPeer) v2At(
	c *protocol.Client, service, gateway string, off int64, change ...func(*protocol.KnockV2Message),
) []byte {
	m := protocol.KnockV2Message{Time: peer.h.Now().UnixMilli()}
	for _, f := range change {
		f(&m)
	}
	b, err := protocol.AppendKnockV2(nil, c, gateway, peer.server(service).Port(), peer.h.slot(expectV2)+off, &m, peer.h.random)
	if err != nil {
		panic(err)
	}
	return peer.udp(testKnockPort, b)
}

// udpPart returns a part of a UDP sequence.
func (peer testPeer) udpPart(c *protocol.Client, service, id string, index, total int, change ...func(*protocol.KnockMessage)) []byte {
	m := peer.message("the session of sequence " + id)
	m.Method = protocol.MethodUDPSeq
	m.SequenceID, m.Index, m.Total = append([]byte(id), make([]byte, protocol.SequenceID)...)[:protocol.SequenceID], uint8(index), uint8(total)
	for _, f := range change {
		f(&m)
	}
	return peer.sealKnock(c, service, m)
}

// payload returns the payload of a datagram of peer.
func (peer testPeer) payload(b []byte) []byte {
	if peer.addr.Is4() {
		return b[28:]
	}
	return b[48:]
}

// readdress returns the same packet with peer's source address.
func (peer testPeer) readdress(b []byte) []byte {
	b = slices.Clone(b)
	if peer.addr.Is4() {
		s := peer.addr.As4()
		copy(b[12:], s[:])
	} else {
		s := peer.addr.As16()
		copy(b[8:], s[:])
	}
	packettest.Checksums(b)
	return b
}

// knockResult decides the queued knocks and returns the result of the last one;
// knock.Incomplete if none was queued.
func (h *harness) knockResult(b []byte) knock.Result {
	h.Helper()
	n := len(h.events)
	if v := h.admit(b); v.Action != Hold {
		h.Fatalf("%v %v, want it held", v.Action, v.Reason)
	}
	h.decide()
	if len(h.events) == n {
		return knock.Incomplete
	}
	return h.lastKnock()
}

// grantsOf counts the grants at an address.
func (h *harness) grantsOf(addr netip.Addr) int {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	if s := h.gate.sources.byAddr[packet.AddrFrom(addr)]; s != nil {
		return len(s.grants)
	}
	return 0
}

// wantGrants expects n grants at the peer's address.
func (peer testPeer) wantGrants(n int) {
	peer.h.Helper()
	if got := peer.h.grantsOf(peer.addr); got != n {
		peer.h.Fatalf("%v has %d grants, want %d", peer.addr, got, n)
	}
}

// spoofed returns the nth of many other addresses of peer's family.
func (peer testPeer) spoofed(n int) testPeer {
	if peer.addr.Is4() {
		return peer.h.peer(netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)}).String())
	}
	return peer.h.peer(netip.AddrFrom16([16]byte{0: 0x24, 2: byte(n >> 16), 3: byte(n >> 8), 4: byte(n), 15: 1}).String())
}

// testAddr returns the nth of many addresses.
func testAddr(n int) packet.Addr {
	return packet.AddrFrom(netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)}))
}

// expectedKind is a kind of knocks that are precomputed in slots.
type expectedKind uint8

const (
	expectSYN expectedKind = iota + 1
	expectPart
	expectLegacyPart
	expectV2
)

// slotTime returns the length of a kind's slots.
func slotTime(p *policy.Policy, kind expectedKind) time.Duration {
	switch kind {
	case expectSYN:
		return p.Window()
	case expectV2:
		return p.Slot()
	default:
		return p.Sequence().Slot
	}
}

// precomputed returns the number of HMACs computed ahead.
func (h *harness) precomputed() uint64 {
	ahead, _ := h.gate.knocks.Computed()
	return ahead
}

// The budgets of package knock, as its documentation states them.
const (
	testUnknownBurst       = 128     // datagrams from one unknown address
	testUnknownSubnetBurst = 512     // from one subnet
	testKnownBurst         = 1024    // from one known address, by one method
	testMatchedBurst       = 1024    // copies of one knock
	testHMACRate           = 1 << 20 // HMACs a second, in all
	testHMACBurst          = 1 << 18
)
