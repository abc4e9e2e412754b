package admission

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/testclock"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// methodModel is a gate that accepts every method, and what an observer knows
// of it: the sources that have knocked, and the packets on the wire.
type methodModel struct {
	*harness
	credit   map[netip.Addr]int // valid knocks from there that are not accepted yet
	judged   int                // events looked at
	observed []observedKnock
	spent    map[spentKnock]testPeer // SYN knocks, and who presented them
}

// observedKnock is a packet of a client's knock, as seen on the path.
type observedKnock struct {
	v       testPeer
	b       []byte
	renewed bool // presented again by the same pair, it may earn another grant
}

func (m *methodModel) randomPeer(t *rapid.T) testPeer {
	return m.peer(rapid.SampledFrom(modelAddrs).Draw(t, "from"))
}

func (m *methodModel) randomClient(t *rapid.T) *protocol.Client {
	return rapid.SampledFrom([]*protocol.Client{alice, bob}).Draw(t, "client")
}

func hiddenService(t *rapid.T) string {
	return rapid.SampledFrom([]string{"ssh", "db", "many", "vpn"}).Draw(t, "hidden service")
}

// checkInvariants verifies that only clients that have knocked were admitted.
func (m *methodModel) checkInvariants(t *rapid.T) {
	for ; m.judged < len(m.events); m.judged++ {
		if e := m.events[m.judged]; e.Result == knock.OK {
			if m.credit[e.Source]--; m.credit[e.Source] < 0 {
				t.Fatalf("%+v, without a valid knock from there", e)
			}
		}
	}
	for a, s := range m.gate.sources.byAddr {
		if _, ok := m.credit[a.Netip()]; !ok && len(s.grants) > 0 {
			t.Fatalf("%v has a grant and never knocked", a.Netip())
		}
	}
	if m.gate.Stats().KnocksQueued > 60 {
		m.decide() // within the documented limits
	}
}

// receive admits a packet of a knock, which others may copy from then on.
func (m *methodModel) receive(peer testPeer, b []byte, renewed bool) Verdict {
	m.observed = append(m.observed, observedKnock{peer, b, renewed})
	return m.admit(b)
}

// junk sends any packet of a host without a secret that has seen all traffic.
func (m *methodModel) junk(t *rapid.T) {
	m.Advance(100 * time.Millisecond) // for the budgets
	peer := m.randomPeer(t)
	switch rapid.IntRange(0, 7).Draw(t, "junk") {
	case 0:
		m.admit(peer.junk())
	case 1:
		m.admit(peer.syn(rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t)))
	case 2: // a SYN with timestamps
		f := protocol.SYNFields{Seq: rapid.Uint32().Draw(t, "seq"), Window: rapid.Uint16().Draw(t, "window"), TSVal: rapid.Uint32().Draw(t, "ts")}
		m.admit(peer.synAs(f, peer.server(modelService(t))))
	case 3:
		m.admit(peer.udp(testKnockPort, rapid.SliceOfN(rapid.Byte(), protocol.KnockV2Size, protocol.KnockV2Size).Draw(t, "bytes")))
	case 4: // by a client that is none
		for _, b := range methods[rapid.SampledFrom(methodNames).Draw(t, "method")](peer, carol, hiddenService(t)) {
			m.admit(b)
		}
	case 5, 6: // an observed packet, from anywhere, perhaps changed
		m.replay(t, peer)
	case 7: // an observed packet, in fragments
		if len(m.observed) > 0 {
			for _, f := range splitFragments(rapid.SampledFrom(m.observed).Draw(t, "observed").b, 5, 16) {
				m.admit(f)
			}
		}
	}
	m.checkInvariants(t)
}

func (m *methodModel) replay(t *rapid.T, peer testPeer) {
	if len(m.observed) == 0 {
		return
	}
	h := rapid.SampledFrom(m.observed).Draw(t, "observed")
	b := slices.Clone(h.b)
	same := peer.addr == h.v.addr
	if peer.addr.Is4() == h.v.addr.Is4() {
		b = peer.readdress(b)
	} else {
		same = true
	}
	if rapid.Bool().Draw(t, "changed") {
		at := rapid.IntRange(peer.headers()-8, len(b)-1).Draw(t, "at")
		b[min(at, len(b)-1)] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		packettest.Checksums(b)
	}
	if got := m.admit(b); same && h.renewed && got.Action == Hold {
		m.credit[h.v.addr]++ // its owner's own; at most eight times
	}
}

var methodNames = []string{"udp", "udp-seq", "tcp-syn", "tcp-syn-seq", "legacy", "udp-v2"}

// client knocks by any method, with junk in between, and must be admitted.
func (m *methodModel) client(t *rapid.T) {
	m.Advance(time.Second)
	m.advanceToSlot(expectPart, policy.DefaultSlot-2*time.Second) // not where a slot ends in between
	peer, c, service := m.randomPeer(t), m.randomClient(t), hiddenService(t)
	method := rapid.SampledFrom(methodNames).Draw(t, "method")
	kind := map[string]expectedKind{"tcp-syn": expectSYN, "tcp-syn-seq": expectPart, "legacy": expectLegacyPart}[method]
	if kind != 0 {
		key := spentKnock{c, peer.server(service).Port(), kind, m.slot(kind)}
		if _, ok := m.spent[key]; ok {
			return // there is room for one in a slot
		}
		m.spent[key] = peer
	}
	m.credit[peer.addr]++
	before := len(m.events)
	all := methods[method](peer, c, service)
	for i, b := range all {
		renewed := method == "tcp-syn" && service != "db" && service != "many"
		if got := m.receive(peer, b, renewed); got.Action != Hold {
			t.Fatalf("%s, packet %d: %v %v", method, i, got.Action, got.Reason)
		}
		for range rapid.IntRange(0, 3).Draw(t, "junk in between") {
			m.junk(t)
		}
		if rapid.Bool().Draw(t, "decided") {
			m.decide()
		}
	}
	m.decide()
	for _, e := range m.events[before:] {
		if e.Result == knock.OK && e.Source == peer.addr && e.Client == c.ID() && e.Service == service+addressFamily(peer) {
			m.checkInvariants(t)
			return
		}
	}
	t.Fatalf("a valid knock by %s of %s for %s from %v came to nothing: %+v", method, c.ID(), service, peer.addr, m.events[before:])
}

// partialKnock sends a part of a sequence and abandons it.
func (m *methodModel) partialKnock(t *rapid.T) {
	m.advanceToSlot(expectPart, policy.DefaultSlot-time.Second)
	peer := m.randomPeer(t)
	method := rapid.SampledFrom([]string{"udp-seq", "tcp-syn-seq", "legacy"}).Draw(t, "method")
	all := methods[method](peer, m.randomClient(t), hiddenService(t))
	for _, b := range all[:rapid.IntRange(1, 2).Draw(t, "parts")] {
		m.receive(peer, b, false)
	}
	m.Advance(policy.DefaultSequenceWindow + time.Second)
	m.checkInvariants(t)
}

// stack does something that the stack, or the server behind it, may do with a
// flow.
func (m *methodModel) stack(t *rapid.T) {
	peer, port, service := m.randomPeer(t), rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t)
	tuple := peer.tuple(port, service)
	m.closeStates[tuple] = rapid.SampledFrom([]CloseState{EndpointClosed, EndpointTimeWait, EndpointBusy}).Draw(t, "stage")
	switch rapid.IntRange(0, 5).Draw(t, "does") {
	case 0, 1:
		_ = m.gate.HandshakeDone(tuple)
	case 2:
		m.decide() // or it would wait for that
		_ = m.gate.Authenticate(tuple, m.randomClient(t), "", succeed)
	case 3:
		m.gate.RelayDone(tuple)
	case 4:
		m.gate.Remove(tuple)
	case 5:
		if m.flow(tuple) != nil {
			m.gate.Failed(tuple)
		}
	}
	m.check()
}

// advanceTime moves both clocks or one.
func (m *methodModel) advanceTime(t *rapid.T) {
	m.decide()
	m.Advance(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond)
	if rapid.IntRange(0, 4).Draw(t, "set") == 0 {
		by := rapid.IntRange(-7200, 7200).Draw(t, "by")
		m.StepWall(time.Duration(by) * time.Second)
		if by < 0 {
			m.observed = nil // an expired claim may be fresh again: no store could know
		}
	}
	m.rotateTable()
	m.sweep()
	m.checkInvariants(t)
}

func TestGatePropertyKnocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newMethodModel(newHarness(t, allMethods(withLegacySequences), withShortBans)).run(t)
	})
}

func withShortBans(o *Options) { o.Ban = Ban{After: 3, Within: time.Minute, For: time.Minute} }

func newMethodModel(h *harness) *methodModel {
	return &methodModel{harness: h, credit: map[netip.Addr]int{}, spent: map[spentKnock]testPeer{}}
}

func (m *methodModel) run(t *rapid.T) {
	t.Repeat(map[string]func(*rapid.T){
		"junk": m.junk, "client": m.client, "half a sequence": m.partialKnock, "stack": m.stack, "time": m.advanceTime,
		"reload": func(*rapid.T) { m.reload() },
	})
	m.decide()
	m.checkInvariants(t)
	for tuple := range m.closeStates {
		m.closeStates[tuple] = EndpointClosed
		m.gate.Remove(tuple)
	}
	for range 3 {
		m.Advance(2 * knock.KnownTime)
		m.StepWall(12 * time.Hour) // whatever it was set to
		m.rotateTable()
		m.sweep()
		m.worker.Sweep()
	}
	m.forgotten()
}

func TestKnockWithSharedStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clocks := testclock.New()
		store := replay.NewMemoryStore(storeOptions(clocks))
		share := func(o *Options) { o.Store, o.Now, o.Mono = store, clocks.Now, clocks.Mono }
		gates := []*harness{newHarness(t, allMethods(withLegacySequences), share), newHarness(t, allMethods(withLegacySequences), share)}
		accepted := map[string]int{}
		type sent struct {
			name string
			b    []byte
		}
		var all []sent
		but := rapid.SampledFrom([]string{"legacy", "tcp-syn-seq"}).Draw(t, "but") // both have the same name
		for n, method := range methodNames {
			if method == but {
				continue
			}
			for _, c := range []*protocol.Client{alice, bob} {
				peer := gates[0].peer(modelAddrs[n%2])
				for _, b := range methods[method](peer, c, "ssh") {
					all = append(all, sent{method + " of " + c.ID(), b})
				}
			}
		}
		for _, s := range all { // in order at each gate, by chance at the one or the other first
			for _, i := range rapid.SampledFrom([][]int{{0, 1}, {1, 0}, {0, 0, 1}, {1, 0, 1}}).Draw(t, "gates") {
				h := gates[i]
				h.admit(s.b)
				if rapid.Bool().Draw(t, "decided") {
					h.decide()
				}
			}
		}
		for i, h := range gates {
			h.decide()
			for _, e := range h.events {
				name := e.Method + " of " + e.Client
				if e.Result == knock.OK && accepted[name]&^(1<<i) != 0 {
					t.Fatalf("%s was accepted by both", name)
				}
				if e.Result == knock.OK {
					accepted[name] |= 1 << i
				}
			}
		}
	})
}

func TestGateWithstandsJunkFlood(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods(withLegacySequences), func(o *Options) { o.Limits, o.Knocked = Limits{}, func(knock.Event) {} })
		peer := h.peer(addr)
		heardHint := peer.v2(alice, "db", func(m *protocol.KnockV2Message) { m.SourcePort = 1 })
		known := peer.spoofed(1)
		h.want(known.knock(bob, "many"), ReasonKnock)
		h.decide()
		heardHint[len(heardHint)-1] ^= 1
		packettest.Checksums(heardHint)
		for name, b := range map[string][]byte{
			"SYN with timestamps":         peer.synAs(protocol.SYNFields{Seq: 1, Window: 2, TSVal: 3}, peer.server("ssh")),
			"the same, to no service":     peer.synAs(protocol.SYNFields{Seq: 1, Window: 2, TSVal: 3}, netip.AddrPortFrom(peer.gateway(), 4444)),
			"a part that is not expected": peer.synPart(carol, "ssh", 0, 0),
			"a part of an old slot":       peer.synPart(alice, "ssh", -2, 0),
			"a second part":               peer.synPart(alice, "ssh", 0, 1),
			"a legacy part, to another port": peer.synAs(peer.legacyFields(alice, "ssh", 0),
				netip.AddrPortFrom(peer.gateway(), 4444)),
			"junk of the size of a udp-v2":   peer.udp(testKnockPort, make([]byte, protocol.KnockV2Size)),
			"udp-v2 of an unauthorized host": peer.v2(carol, "ssh"),
			"a copied hint":                  heardHint,
			"udp of an unauthorized host":    peer.junk(),
			"udp of a known source":          known.junk(),
		} {
			var p packet.Packet
			one := func() {
				h.Advance(time.Second) // for the budgets
				p = packet.Packet{Data: b}
				p.Parse()
				h.gate.Admit(&p)
				if k := h.worker.Next(); k != nil {
					h.worker.Process(k)
				}
			}
			most := 0.0
			if name == "a copied hint" {
				most = 1 // the AEAD
			}
			if n := testing.AllocsPerRun(200, one); n > most {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
		peer.wantGrants(0)
	})
}

// spentKnock identifies a SYN knock that was presented.
type spentKnock struct {
	client *protocol.Client
	port   uint16
	kind   expectedKind
	slot   int64
}
