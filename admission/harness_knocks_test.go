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

// What the tests of the other knock methods need of a harness: services that
// take every method, and the packets by which each knocks.

const (
	allFamilies = policy.MethodsUDP | policy.MethodsSYN
	testGateway = "gw.example.net"
)

// every returns a policy like testPolicy, but with every method taken.
func every(change ...func(*policy.Options)) func(*Options) {
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

// taking changes the methods of all services.
func taking(methods policy.MethodSet) func(*policy.Options) {
	return func(o *policy.Options) {
		for i := range o.Services {
			o.Services[i].Methods = methods
		}
	}
}

// having has other clients use all services.
func having(clients ...*policy.Client) func(*policy.Options) {
	return func(o *policy.Options) {
		for i := range o.Services {
			o.Services[i].Clients = clients
		}
	}
}

// parts sets the length of sequences.
func parts(n int) func(*policy.Options) {
	return func(o *policy.Options) { o.Sequence.Length = n }
}

// legacy takes SYN sequences in the legacy form too.
func legacy(o *policy.Options) { o.Sequence.Legacy = true }

// turn does what Run does when the clock may have moved.
func (w *harness) turn() {
	w.Helper()
	w.gate.rotateTable(w.builder)
	w.check()
}

// slot is the current slot of a kind of knock.
func (w *harness) slot(kind expectedKind) int64 {
	return protocol.Slot(w.options().Now(), slotTime(w.gate.Policy(), kind))
}

// until lets time pass until d before a slot of a kind begins.
func (w *harness) until(kind expectedKind, d time.Duration) {
	w.Helper()
	length := slotTime(w.gate.Policy(), kind).Truncate(time.Second)
	now := w.options().Now()
	next := time.Unix((w.slot(kind)+1)*int64(length/time.Second), 0)
	wait := next.Sub(now) - d
	if wait < 0 {
		wait += length
	}
	w.pass(wait)
	w.turn()
}

// options of a SYN knock: two NOPs and the Timestamps option.
func timestamps(val uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, val), 0)
}

// synAs is a SYN with fields to the dialled port of a service.
func (v testPeer) synAs(f protocol.SYNFields, to netip.AddrPort) []byte {
	return v.fieldsAs(f, to).Packet()
}

func (v testPeer) fieldsAs(f protocol.SYNFields, to netip.AddrPort) packettest.TCP {
	v.w.ids++
	return packettest.TCP{
		Src: netip.AddrPortFrom(v.addr, uint16(20000+v.w.ids%10000)), Dst: to,
		Flags: packet.SYN, Seq: f.Seq, Window: f.Window, Options: timestamps(f.TSVal),
	}
}

// synKnock is a SYN knock of c for a service, in a slot so far from the current
// one.
func (v testPeer) synKnock(c *protocol.Client, service string, off int64) []byte {
	return v.synAs(v.synFields(c, service, off), v.server(service))
}

func (v testPeer) synFields(c *protocol.Client, service string, off int64) protocol.SYNFields {
	return c.SYN(protocol.NewScratch(), v.server(service).Port(), v.w.slot(expectSYN)+off)
}

// synPart is a part of a SYN sequence, in a slot so far from the current one.
func (v testPeer) synPart(c *protocol.Client, service string, off int64, index int) []byte {
	f := c.SYNPart(protocol.NewScratch(), v.server(service).Port(), v.w.slot(expectPart)+off, index)
	return v.synAs(f, v.server(service))
}

// legacyPart is synPart in the legacy form.
func (v testPeer) legacyPart(c *protocol.Client, service string, off int64, index int) []byte {
	to := v.server(service)
	f, port := c.SYNPartLegacy(protocol.NewScratch(), to.Port(), v.w.slot(expectLegacyPart)+off, index)
	return v.synAs(f, netip.AddrPortFrom(to.Addr(), port))
}

// v2 is a datagram udp-v2 of c, which change may bind.
func (v testPeer) v2(c *protocol.Client, service string, change ...func(*protocol.KnockV2Message)) []byte {
	return v.v2At(c, service, testGateway, 0, change...)
}

func (v testPeer) v2At(
	c *protocol.Client, service, gateway string, off int64, change ...func(*protocol.KnockV2Message),
) []byte {
	m := protocol.KnockV2Message{Time: v.w.options().Now().UnixMilli()}
	for _, f := range change {
		f(&m)
	}
	b, err := protocol.AppendKnockV2(nil, c, gateway, v.server(service).Port(), v.w.slot(expectV2)+off, &m, v.w.random)
	if err != nil {
		panic(err)
	}
	return v.udp(testKnockPort, b)
}

// part is a part of a UDP sequence.
func (v testPeer) part(c *protocol.Client, service, id string, index, total int, change ...func(*protocol.KnockMessage)) []byte {
	m := v.message("the session of sequence " + id)
	m.Method = protocol.MethodUDPSeq
	m.SequenceID, m.Index, m.Total = append([]byte(id), make([]byte, protocol.SequenceID)...)[:protocol.SequenceID], uint8(index), uint8(total)
	for _, f := range change {
		f(&m)
	}
	return v.sealed(c, service, m)
}

// payload is what a datagram of v carries.
func (v testPeer) payload(b []byte) []byte {
	if v.addr.Is4() {
		return b[28:]
	}
	return b[48:]
}

// from is the same packet as v would send it.
func (v testPeer) from(b []byte) []byte {
	b = slices.Clone(b)
	if v.addr.Is4() {
		s := v.addr.As4()
		copy(b[12:], s[:])
	} else {
		s := v.addr.As16()
		copy(b[8:], s[:])
	}
	packettest.Checksums(b)
	return b
}

// result decides what waits and returns how the last knock ended;
// knock.Incomplete if none waited.
func (w *harness) result(b []byte) knock.Result {
	w.Helper()
	n := len(w.events)
	if v := w.admit(b); v.Action != Hold {
		w.Fatalf("%v %v, want it held", v.Action, v.Reason)
	}
	w.decide()
	if len(w.events) == n {
		return knock.Incomplete
	}
	return w.lastKnock()
}

// grantsOf counts the grants at an address.
func (w *harness) grantsOf(addr netip.Addr) int {
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()
	if s := w.gate.sources.byAddr[packet.AddrFrom(addr)]; s != nil {
		return len(s.grants)
	}
	return 0
}

// wantGrants expects so many grants at v's address.
func (v testPeer) wantGrants(n int) {
	v.w.Helper()
	if got := v.w.grantsOf(v.addr); got != n {
		v.w.Fatalf("%v has %d grants, want %d", v.addr, got, n)
	}
}

// spoofed are n addresses of v's family, none of them v's nor each other's.
func (v testPeer) spoofed(n int) testPeer {
	if v.addr.Is4() {
		return v.w.at(netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)}).String())
	}
	return v.w.at(netip.AddrFrom16([16]byte{0: 0x24, 2: byte(n >> 16), 3: byte(n >> 8), 4: byte(n), 15: 1}).String())
}

// at is address n of many.
func at(n int) packet.Addr {
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

// precomputed is how many HMACs were computed ahead.
func (w *harness) precomputed() uint64 {
	ahead, _ := w.gate.knocks.Computed()
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
