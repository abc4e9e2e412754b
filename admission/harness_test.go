package admission

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/testclock"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// failer is the part of *testing.T, *testing.B and *rapid.T that a harness
// needs.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// harness is a gate on clocks that only the test moves, without goroutines: the
// test decides knocks with decide and removes expired state with sweep. After
// every step check verifies the gate's tables.
type harness struct {
	failer
	*testclock.Clocks
	gate        *Gate
	worker      *knock.Worker
	builder     *knock.Builder // of the tables of precomputed knocks
	checks      int            // number of calls of check
	delivered   []delivery
	evicted     []packet.Tuple
	events      []knock.Event
	closeStates map[packet.Tuple]CloseState                // the stack's answer for a flow; closed by default
	ids         uint32                                     // makes each junk knock unique
	random      *rand.ChaCha8                              // of nonces; the same in every run
	filter      func(b []byte) (reason string, drops bool) // a filter before the gate; nil for none
}

type delivery struct {
	data    string
	verdict Verdict
}

const (
	testWindow    = 30 * time.Second
	testTTL       = 15 * time.Second
	testDeadline  = 3 * time.Second
	testTimeWait  = 10 * time.Second
	testKnockPort = 62201
)

// The clients of tests. Bob has the permissions of alice; carol has none.
var (
	alice = testClient("alice")
	bob   = testClient("bob")
	carol = testClient("carol")
)

func testClient(id string) *protocol.Client {
	c, err := protocol.NewClient(id, []byte(id+", whose secret is long enough"))
	if err != nil {
		panic(err)
	}
	return c
}

// The services of tests, in both families: by name and port.
var testServices = []struct {
	name string
	port uint16
	mode policy.Mode
	vis  bool
	uses int
}{
	{"ssh", 22, policy.ModeKnockAuth, false, 1},
	{"db", 5432, policy.ModeKnock, false, 1},
	{"many", 5433, policy.ModeKnock, false, 3},
	{"web", 443, policy.ModeAuth, false, 0},
	{"vpn", 8443, policy.ModeKnockAuth, true, 1},
}

func testPolicy(clients ...*protocol.Client) *policy.Policy {
	o := policy.Options{KnockPort: testKnockPort, Window: testWindow}
	for family, listen := range map[string]string{"4": "10.77.0.0/24", "6": "fd77::/64"} {
		for _, s := range testServices {
			o.Services = append(o.Services, policy.Service{
				Name: s.name + family, Listen: netip.MustParsePrefix(listen), Port: s.port, Mode: s.mode, Visible: s.vis,
				Methods: policy.MethodUDP, GrantTTL: testTTL, GrantUses: s.uses, AuthDeadline: testDeadline, Clients: policyClients(clients),
			})
		}
	}
	p, err := policy.New(o)
	if err != nil {
		panic(err)
	}
	return p
}

// policyClients returns clients with one key each.
func policyClients(ids []*protocol.Client) []*policy.Client {
	var all []*policy.Client
	for _, id := range ids {
		all = append(all, policy.NewClient(id))
	}
	return all
}

func newHarness(f failer, change ...func(*Options)) *harness {
	f.Helper()
	h := &harness{failer: f, Clocks: testclock.New(), closeStates: make(map[packet.Tuple]CloseState), random: rand.NewChaCha8([32]byte{})}
	now := storeOptions(h.Clocks)
	o := Options{
		Policy: testPolicy(alice, bob), Store: replay.NewMemoryStore(now), Now: now.Now, Mono: now.Mono,
		Deliver:    func(p *packet.Packet, v Verdict) { h.delivered = append(h.delivered, delivery{string(p.Data), v}) },
		Evicted:    func(t packet.Tuple) { h.evicted = append(h.evicted, t) },
		Knocked:    func(e knock.Event) { h.events = append(h.events, e) },
		CloseState: func(t packet.Tuple) CloseState { return h.closeStates[t] }, TimeWait: testTimeWait,
		Limits: Limits{Knocks: 128, DeferredSYNs: 256}, // less to check after every step
	}
	for _, c := range change {
		c(&o)
	}
	g, err := New(o)
	if err != nil {
		f.Fatalf("%v", err)
	}
	h.gate, h.worker, h.builder = g, g.knocks.NewWorker(), g.knocks.NewBuilder()
	return h
}

// admit parses and judges raw bytes, as the reader does.
func (h *harness) admit(b []byte) Verdict {
	h.Helper()
	p := packet.Packet{Data: slices.Clone(b)}
	reason, dropped := "", false
	if h.filter != nil {
		reason, dropped = h.filter(b)
	}
	p.Parse()
	v := h.gate.Admit(&p)
	if dropped {
		h.checkFilter(b, reason, v, p.DropReason)
	}
	clear(p.Data) // the device's next packet overwrites it
	h.check()
	return v
}

// checkFilter verifies that the gate drops what the filter has dropped, for the
// same reason. The filter does not verify checksums, so it reports another
// reason where they are wrong.
func (h *harness) checkFilter(b []byte, reason string, v Verdict, fault packet.DropReason) {
	h.Helper()
	why := v.Reason.String()
	if v.Reason == ReasonMalformed {
		why += "-" + fault.String()
		if fault == packet.DropChecksum || fault == packet.DropIPChecksum {
			return
		}
	}
	if v.Action != Drop || why != reason {
		h.Fatalf("the filter dropped %x (%s), and the gate says %v %s", b, reason, v.Action, why)
	}
}

// want admits b and expects a reason.
func (h *harness) want(b []byte, r Reason) Verdict {
	h.Helper()
	v := h.admit(b)
	if v.Reason != r || v.Action != r.action() {
		h.Fatalf("%v %v, want %v", v.Action, v.Reason, r)
	}
	return v
}

// decide decides all queued knocks.
func (h *harness) decide() {
	h.Helper()
	for h.worker.Step() {
		h.check()
	}
}

// lastKnock returns the result of the knock decided last.
func (h *harness) lastKnock() knock.Result {
	h.Helper()
	if len(h.events) == 0 {
		h.Fatalf("no knock was decided")
	}
	return h.events[len(h.events)-1].Result
}

// sweep sweeps and reports evictions.
func (h *harness) sweep() {
	h.Helper()
	h.gate.sweep()
	h.notifyEvictions()
	h.check()
}

func (h *harness) notifyEvictions() {
	for {
		select {
		case t := <-h.gate.flows.evicted:
			h.gate.flows.notifyEvicted(t)
		case t := <-h.gate.flows.evictedOpen:
			h.gate.flows.notifyEvicted(t)
		default:
			return
		}
	}
}

// testPeer is a host at an address, in the family of that address.
type testPeer struct {
	h    *harness
	addr netip.Addr
}

func (h *harness) peer(addr string) testPeer { return testPeer{h, netip.MustParseAddr(addr)} }

// server returns the protected address and port of a service, in peer's family.
func (peer testPeer) server(service string) netip.AddrPort {
	for _, s := range testServices {
		if s.name == service {
			return netip.AddrPortFrom(peer.gateway(), s.port)
		}
	}
	panic(service)
}

func (peer testPeer) gateway() netip.Addr {
	if peer.addr.Is4() {
		return netip.MustParseAddr("10.77.0.1")
	}
	return netip.MustParseAddr("fd77::1")
}

func (peer testPeer) tcp(port uint16, service string, flags uint8, seq, ack uint32, payload string) []byte {
	return packettest.TCP{
		Src: netip.AddrPortFrom(peer.addr, port), Dst: peer.server(service),
		Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload),
	}.Packet()
}

func (peer testPeer) syn(port uint16, service string) []byte {
	return peer.tcp(port, service, packet.SYN, 1000, 0, "")
}

func (peer testPeer) tuple(port uint16, service string) packet.Tuple {
	s := peer.server(service)
	return packet.Tuple{Src: packet.AddrFrom(peer.addr), Dst: packet.AddrFrom(s.Addr()), SrcPort: port, DstPort: s.Port()}
}

// reply returns a segment that the stack would send on a flow of peer.
func (peer testPeer) reply(port uint16, service string, flags uint8, seq, ack uint32, payload string) []byte {
	return packettest.TCP{
		Src: peer.server(service), Dst: netip.AddrPortFrom(peer.addr, port),
		Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload),
	}.Packet()
}

// egress asks the gate about a packet from the stack.
func (h *harness) egress(b []byte) bool {
	h.Helper()
	var p packet.Packet
	if !p.DecodeTCP(b) {
		h.Fatalf("no TCP: %x", b)
	}
	ok := h.gate.Egress(&p, len(b)-p.Payload)
	h.check()
	return ok
}

func (peer testPeer) udp(port uint16, payload []byte) []byte {
	return packettest.UDP{Src: netip.AddrPortFrom(peer.addr, 50000), Dst: netip.AddrPortFrom(peer.gateway(), port), Payload: payload}.Packet()
}

// message returns the content of a knock that is valid now.
func (peer testPeer) message(session string) protocol.KnockMessage {
	return protocol.KnockMessage{Method: protocol.MethodUDP, Time: peer.h.Now().UnixMilli(), SessionID: []byte(session)}
}

// sealKnock returns a knock of c for a service.
func (peer testPeer) sealKnock(c *protocol.Client, service string, m protocol.KnockMessage) []byte {
	b, err := protocol.AppendKnock(nil, c, peer.server(service).Port(), &m, peer.h.random)
	if err != nil {
		panic(err)
	}
	return peer.udp(testKnockPort, b)
}

func (peer testPeer) knock(c *protocol.Client, service string) []byte {
	return peer.sealKnock(c, service, peer.message(""))
}

// junk returns a datagram that looks like a knock of an unknown client.
func (peer testPeer) junk() []byte {
	peer.h.ids++
	m := peer.message(fmt.Sprintf("junk session no. %8d", peer.h.ids))
	return peer.sealKnock(carol, "ssh", m)
}

// mustKnock sends a knock of c, which must be accepted.
func (peer testPeer) mustKnock(c *protocol.Client, service, session string) {
	peer.h.Helper()
	peer.h.want(peer.sealKnock(c, service, peer.message(session)), ReasonKnock)
	peer.h.decide()
	if got := peer.h.lastKnock(); got != knock.OK {
		peer.h.Fatalf("knock: %v", got)
	}
}

// completeHandshake exchanges the packets of a flow's handshake, if it has not
// begun. The stack's initial sequence number is 0.
func (peer testPeer) completeHandshake(port uint16, service string) {
	peer.h.Helper()
	f := peer.h.flow(peer.tuple(port, service))
	if f == nil || f.phase != listen {
		return
	}
	if !peer.h.egress(peer.reply(port, service, packet.SYN|packet.ACK, 0, f.isn+1, "")) {
		peer.h.Fatalf("no SYN-ACK")
	}
	peer.h.want(peer.tcp(port, service, packet.ACK, f.isn+1, 1, ""), ReasonFlow)
}

// mustEnter authenticates a flow or, in mode knock, completes it.
func (peer testPeer) mustEnter(port uint16, service string, c *protocol.Client) {
	peer.h.Helper()
	t := peer.tuple(port, service)
	peer.completeHandshake(port, service)
	if err := peer.h.gate.HandshakeDone(t); err != nil {
		peer.h.Fatalf("Complete: %v", err)
	}
	if peer.h.flow(t).service.service.Authenticates() {
		if err := peer.h.gate.Authenticate(t, c, "", func() error { return nil }); err != nil {
			peer.h.Fatalf("Authenticate: %v", err)
		}
	}
	peer.h.check()
}

func (h *harness) flow(t packet.Tuple) *flow {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	return h.gate.flows.byTuple[t]
}

func sessionID(n int) string { return fmt.Sprintf("session %08d", n) }

// forEachFamily runs f for an address of either family.
func forEachFamily(f func(addr string)) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		f(a)
	}
}

// clientID returns the ID of the client that a flow was authorized as; "" for
// none.
func (h *harness) clientID(t packet.Tuple) string {
	if id := h.gate.Client(t); id != nil {
		return id.ID()
	}
	return ""
}
