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
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// failer is what a harness needs of a *testing.T, *testing.B or *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// harness is a gate on clocks that only the test moves, without goroutines:
// knocks are decided when the test calls decide, the rest is forgotten when it
// calls sweep. After every step the gate's tables are checked (check).
type harness struct {
	failer
	*testClocks
	gate      *Gate
	worker    *knock.Worker
	builder   *knock.Builder // of the tables of precomputed knocks
	checks    int            // how often check was called
	delivered []delivery
	evicted   []packet.Tuple
	events    []knock.Event
	stages    map[packet.Tuple]CloseState                // what the stack says of a flow; Gone otherwise
	ids       uint32                                     // makes junk differ
	random    *rand.ChaCha8                              // of nonces; the same in every run
	front     func(b []byte) (reason string, drops bool) // a filter before the gate; nil for none
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

// The clients of tests. Bob may do what alice may; carol nothing.
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
				Methods: policy.MethodUDP, GrantTTL: testTTL, GrantUses: s.uses, AuthDeadline: testDeadline, Clients: members(clients),
			})
		}
	}
	p, err := policy.New(o)
	if err != nil {
		panic(err)
	}
	return p
}

// members are clients with one key each.
func members(ids []*protocol.Client) []*policy.Client {
	var all []*policy.Client
	for _, id := range ids {
		all = append(all, policy.NewClient(id))
	}
	return all
}

func newHarness(f failer, change ...func(*Options)) *harness {
	f.Helper()
	w := &harness{failer: f, testClocks: newTestClocks(), stages: make(map[packet.Tuple]CloseState), random: rand.NewChaCha8([32]byte{})}
	now := w.options()
	o := Options{
		Policy: testPolicy(alice, bob), Store: replay.NewMemoryStore(now), Now: now.Now, Mono: now.Mono,
		Deliver:    func(p *packet.Packet, v Verdict) { w.delivered = append(w.delivered, delivery{string(p.Data), v}) },
		Evicted:    func(t packet.Tuple) { w.evicted = append(w.evicted, t) },
		Knocked:    func(e knock.Event) { w.events = append(w.events, e) },
		CloseState: func(t packet.Tuple) CloseState { return w.stages[t] }, TimeWait: testTimeWait,
		Limits: Limits{Knocks: 128, DeferredSYNs: 256}, // less to check after every step
	}
	for _, c := range change {
		c(&o)
	}
	g, err := New(o)
	if err != nil {
		f.Fatalf("%v", err)
	}
	w.gate, w.worker, w.builder = g, g.knocks.NewWorker(), g.knocks.NewBuilder()
	return w
}

// admit parses and judges raw bytes, as the reader does.
func (w *harness) admit(b []byte) Verdict {
	w.Helper()
	p := packet.Packet{Data: slices.Clone(b)}
	reason, dropped := "", false
	if w.front != nil {
		reason, dropped = w.front(b)
	}
	p.Parse()
	v := w.gate.Admit(&p)
	if dropped {
		w.agree(b, reason, v, p.DropReason)
	}
	clear(p.Data) // the device's next packet overwrites it
	w.check()
	return v
}

// agree checks that what the filter has dropped, the gate drops for the same
// reason. The filter does not look at checksums, and so goes on where they are
// wrong.
func (w *harness) agree(b []byte, reason string, v Verdict, fault packet.DropReason) {
	w.Helper()
	why := v.Reason.String()
	if v.Reason == ReasonMalformed {
		why += "-" + fault.String()
		if fault == packet.DropChecksum || fault == packet.DropIPChecksum {
			return
		}
	}
	if v.Action != Drop || why != reason {
		w.Fatalf("the filter dropped %x (%s), and the gate says %v %s", b, reason, v.Action, why)
	}
}

// want admits b and expects a reason.
func (w *harness) want(b []byte, r Reason) Verdict {
	w.Helper()
	v := w.admit(b)
	if v.Reason != r || v.Action != r.action() {
		w.Fatalf("%v %v, want %v", v.Action, v.Reason, r)
	}
	return v
}

// decide decides every knock that waits.
func (w *harness) decide() {
	w.Helper()
	for w.worker.Step() {
		w.check()
	}
}

// lastKnock is the result of the knock that was decided last.
func (w *harness) lastKnock() knock.Result {
	w.Helper()
	if len(w.events) == 0 {
		w.Fatalf("no knock was decided")
	}
	return w.events[len(w.events)-1].Result
}

// sweep sweeps, and tells evictions.
func (w *harness) sweep() {
	w.Helper()
	w.gate.sweep()
	w.tell()
	w.check()
}

func (w *harness) tell() {
	for {
		select {
		case t := <-w.gate.flows.evicted:
			w.gate.flows.notifyEvicted(t)
		case t := <-w.gate.flows.evictedOpen:
			w.gate.flows.notifyEvicted(t)
		default:
			return
		}
	}
}

// testPeer is a host at an address, in the family of that address.
type testPeer struct {
	w    *harness
	addr netip.Addr
}

func (w *harness) at(addr string) testPeer { return testPeer{w, netip.MustParseAddr(addr)} }

// server is the protected address and port of a service as seen from v.
func (v testPeer) server(service string) netip.AddrPort {
	for _, s := range testServices {
		if s.name == service {
			return netip.AddrPortFrom(v.gateway(), s.port)
		}
	}
	panic(service)
}

func (v testPeer) gateway() netip.Addr {
	if v.addr.Is4() {
		return netip.MustParseAddr("10.77.0.1")
	}
	return netip.MustParseAddr("fd77::1")
}

func (v testPeer) tcp(port uint16, service string, flags uint8, seq, ack uint32, payload string) []byte {
	return packettest.TCP{
		Src: netip.AddrPortFrom(v.addr, port), Dst: v.server(service),
		Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload),
	}.Packet()
}

func (v testPeer) syn(port uint16, service string) []byte {
	return v.tcp(port, service, packet.SYN, 1000, 0, "")
}

func (v testPeer) tuple(port uint16, service string) packet.Tuple {
	s := v.server(service)
	return packet.Tuple{Src: packet.AddrFrom(v.addr), Dst: packet.AddrFrom(s.Addr()), SrcPort: port, DstPort: s.Port()}
}

// reply is what the stack would send on a flow of v.
func (v testPeer) reply(port uint16, service string, flags uint8, seq, ack uint32, payload string) []byte {
	return packettest.TCP{
		Src: v.server(service), Dst: netip.AddrPortFrom(v.addr, port),
		Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload),
	}.Packet()
}

// egress asks the gate about a packet of the stack's.
func (w *harness) egress(b []byte) bool {
	w.Helper()
	var p packet.Packet
	if !p.DecodeTCP(b) {
		w.Fatalf("no TCP: %x", b)
	}
	ok := w.gate.Egress(&p, len(b)-p.Payload)
	w.check()
	return ok
}

func (v testPeer) udp(port uint16, payload []byte) []byte {
	return packettest.UDP{Src: netip.AddrPortFrom(v.addr, 50000), Dst: netip.AddrPortFrom(v.gateway(), port), Payload: payload}.Packet()
}

// message is the content of a valid knock now.
func (v testPeer) message(session string) protocol.KnockMessage {
	return protocol.KnockMessage{Method: protocol.MethodUDP, Time: v.w.options().Now().UnixMilli(), SessionID: []byte(session)}
}

// sealed is a knock of c for a service.
func (v testPeer) sealed(c *protocol.Client, service string, m protocol.KnockMessage) []byte {
	b, err := protocol.AppendKnock(nil, c, v.server(service).Port(), &m, v.w.random)
	if err != nil {
		panic(err)
	}
	return v.udp(testKnockPort, b)
}

func (v testPeer) knock(c *protocol.Client, service string) []byte {
	return v.sealed(c, service, v.message(""))
}

// junk looks like a knock and is no client's.
func (v testPeer) junk() []byte {
	v.w.ids++
	m := v.message(fmt.Sprintf("junk session no. %8d", v.w.ids))
	return v.sealed(carol, "ssh", m)
}

// knocks has a knock of c accepted.
func (v testPeer) knocks(c *protocol.Client, service, session string) {
	v.w.Helper()
	v.w.want(v.sealed(c, service, v.message(session)), ReasonKnock)
	v.w.decide()
	if got := v.w.lastKnock(); got != knock.OK {
		v.w.Fatalf("knock: %v", got)
	}
}

// shakes does the packets of a flow's handshake, where that has not begun: the
// stack's initial sequence number is 0.
func (v testPeer) shakes(port uint16, service string) {
	v.w.Helper()
	f := v.w.flow(v.tuple(port, service))
	if f == nil || f.phase != listen {
		return
	}
	if !v.w.egress(v.reply(port, service, packet.SYN|packet.ACK, 0, f.isn+1, "")) {
		v.w.Fatalf("no SYN-ACK")
	}
	v.w.want(v.tcp(port, service, packet.ACK, f.isn+1, 1, ""), ReasonFlow)
}

// enters has a flow of v authenticated or, in mode knock, completed.
func (v testPeer) enters(port uint16, service string, c *protocol.Client) {
	v.w.Helper()
	t := v.tuple(port, service)
	v.shakes(port, service)
	if err := v.w.gate.HandshakeDone(t); err != nil {
		v.w.Fatalf("Complete: %v", err)
	}
	if v.w.flow(t).service.service.Authenticates() {
		if err := v.w.gate.Authenticate(t, c, "", func() error { return nil }); err != nil {
			v.w.Fatalf("Authenticate: %v", err)
		}
	}
	v.w.check()
}

func (w *harness) flow(t packet.Tuple) *flow {
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()
	return w.gate.flows.byTuple[t]
}

func sessionID(n int) string { return fmt.Sprintf("session %08d", n) }

// everywhere runs f for an address of either family, and one a neighbour might
// have.
func everywhere(f func(addr string)) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		f(a)
	}
}

// clientOf is the id of the client as which a flow was authorized; "" for none.
func (w *harness) clientOf(t packet.Tuple) string {
	if id := w.gate.Client(t); id != nil {
		return id.ID()
	}
	return ""
}
