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
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// attack is a gate that takes every method, and what a test knows about it from
// outside: who has knocked, and what has gone over the wire.
type attack struct {
	*harness
	credit map[netip.Addr]int // valid knocks from there that are not accepted yet
	judged int                // events looked at
	heard  []heard
	spent  map[spentKnock]testPeer // SYN knocks, and who presented them
}

// heard is a packet of a client's knock, as seen on the path.
type heard struct {
	v       testPeer
	b       []byte
	renewed bool // presented again by the same pair, it may earn another grant
}

func (m *attack) randomPeer(t *rapid.T) testPeer {
	return m.at(rapid.SampledFrom(modelAddrs).Draw(t, "from"))
}

func (m *attack) aClient(t *rapid.T) *protocol.Client {
	return rapid.SampledFrom([]*protocol.Client{alice, bob}).Draw(t, "client")
}

func hiddenService(t *rapid.T) string {
	return rapid.SampledFrom([]string{"ssh", "db", "many", "vpn"}).Draw(t, "hidden service")
}

// judge looks at what was decided: no client is admitted that has not knocked.
func (m *attack) judge(t *rapid.T) {
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

// hear admits a packet of a knock, which others may copy from now on.
func (m *attack) hear(v testPeer, b []byte, renewed bool) Verdict {
	m.heard = append(m.heard, heard{v, b, renewed})
	return m.admit(b)
}

// junk is anything from a host that has no secret, but has seen every packet.
func (m *attack) junk(t *rapid.T) {
	m.pass(100 * time.Millisecond) // for the budgets
	v := m.randomPeer(t)
	switch rapid.IntRange(0, 7).Draw(t, "junk") {
	case 0:
		m.admit(v.junk())
	case 1:
		m.admit(v.syn(rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t)))
	case 2: // a SYN with timestamps
		f := protocol.SYNFields{Seq: rapid.Uint32().Draw(t, "seq"), Window: rapid.Uint16().Draw(t, "window"), TSVal: rapid.Uint32().Draw(t, "ts")}
		m.admit(v.synAs(f, v.server(modelService(t))))
	case 3:
		m.admit(v.udp(testKnockPort, rapid.SliceOfN(rapid.Byte(), protocol.KnockV2Size, protocol.KnockV2Size).Draw(t, "bytes")))
	case 4: // by a client that is none
		for _, b := range methods[rapid.SampledFrom(methodNames).Draw(t, "method")](v, carol, hiddenService(t)) {
			m.admit(b)
		}
	case 5, 6: // what was heard, from anywhere, perhaps changed
		m.replay(t, v)
	case 7: // what was heard, in fragments
		if len(m.heard) > 0 {
			for _, f := range inFragments(rapid.SampledFrom(m.heard).Draw(t, "heard").b, 5, 16) {
				m.admit(f)
			}
		}
	}
	m.judge(t)
}

func (m *attack) replay(t *rapid.T, v testPeer) {
	if len(m.heard) == 0 {
		return
	}
	h := rapid.SampledFrom(m.heard).Draw(t, "heard")
	b := slices.Clone(h.b)
	same := v.addr == h.v.addr
	if v.addr.Is4() == h.v.addr.Is4() {
		b = v.from(b)
	} else {
		same = true
	}
	if rapid.Bool().Draw(t, "changed") {
		at := rapid.IntRange(v.headers()-8, len(b)-1).Draw(t, "at")
		b[min(at, len(b)-1)] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		packettest.Checksums(b)
	}
	if got := m.admit(b); same && h.renewed && got.Action == Hold {
		m.credit[h.v.addr]++ // its owner's own; at most eight times
	}
}

var methodNames = []string{"udp", "udp-seq", "tcp-syn", "tcp-syn-seq", "legacy", "udp-v2"}

// client knocks by any method, with junk in between. It must get in.
func (m *attack) client(t *rapid.T) {
	m.pass(time.Second)
	m.until(expectPart, policy.DefaultSlot-2*time.Second) // not where a slot ends in between
	v, c, service := m.randomPeer(t), m.aClient(t), hiddenService(t)
	method := rapid.SampledFrom(methodNames).Draw(t, "method")
	kind := map[string]expectedKind{"tcp-syn": expectSYN, "tcp-syn-seq": expectPart, "legacy": expectLegacyPart}[method]
	if kind != 0 {
		key := spentKnock{c, v.server(service).Port(), kind, m.slot(kind)}
		if _, ok := m.spent[key]; ok {
			return // there is room for one in a slot
		}
		m.spent[key] = v
	}
	m.credit[v.addr]++
	before := len(m.events)
	all := methods[method](v, c, service)
	for i, b := range all {
		renewed := method == "tcp-syn" && service != "db" && service != "many"
		if got := m.hear(v, b, renewed); got.Action != Hold {
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
		if e.Result == knock.OK && e.Source == v.addr && e.Client == c.ID() && e.Service == service+family(v) {
			m.judge(t)
			return
		}
	}
	t.Fatalf("a valid knock by %s of %s for %s from %v came to nothing: %+v", method, c.ID(), service, v.addr, m.events[before:])
}

// half is a sequence that is given up.
func (m *attack) half(t *rapid.T) {
	m.until(expectPart, policy.DefaultSlot-time.Second)
	v := m.randomPeer(t)
	method := rapid.SampledFrom([]string{"udp-seq", "tcp-syn-seq", "legacy"}).Draw(t, "method")
	all := methods[method](v, m.aClient(t), hiddenService(t))
	for _, b := range all[:rapid.IntRange(1, 2).Draw(t, "parts")] {
		m.hear(v, b, false)
	}
	m.pass(policy.DefaultSequenceWindow + time.Second)
	m.judge(t)
}

// stack does something that the stack, or what is behind it, may do with a flow.
func (m *attack) stack(t *rapid.T) {
	v, port, service := m.randomPeer(t), rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t)
	tuple := v.tuple(port, service)
	m.stages[tuple] = rapid.SampledFrom([]CloseState{EndpointClosed, EndpointTimeWait, EndpointBusy}).Draw(t, "stage")
	switch rapid.IntRange(0, 5).Draw(t, "does") {
	case 0, 1:
		_ = m.gate.HandshakeDone(tuple)
	case 2:
		m.decide() // or it would wait for that
		_ = m.gate.Authenticate(tuple, m.aClient(t), "", ok)
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

// time passes, on both clocks or on one.
func (m *attack) time(t *rapid.T) {
	m.decide()
	m.pass(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond)
	if rapid.IntRange(0, 4).Draw(t, "set") == 0 {
		by := rapid.IntRange(-7200, 7200).Draw(t, "by")
		m.step(time.Duration(by) * time.Second)
		if by < 0 {
			m.heard = nil // what was forgotten may be fresh again: no store could know
		}
	}
	m.turn()
	m.sweep()
	m.judge(t)
}

func TestGatePropertyKnocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		besiegedOf(newHarness(t, every(legacy), bans)).whateverComes(t)
	})
}

func bans(o *Options) { o.Ban = Ban{After: 3, Within: time.Minute, For: time.Minute} }

func besiegedOf(w *harness) *attack {
	return &attack{harness: w, credit: map[netip.Addr]int{}, spent: map[spentKnock]testPeer{}}
}

func (m *attack) whateverComes(t *rapid.T) {
	t.Repeat(map[string]func(*rapid.T){
		"junk": m.junk, "client": m.client, "half a sequence": m.half, "stack": m.stack, "time": m.time,
		"reload": func(*rapid.T) { m.reloads() },
	})
	m.decide()
	m.judge(t)
	for tuple := range m.stages {
		m.stages[tuple] = EndpointClosed
		m.gate.Remove(tuple)
	}
	for range 3 {
		m.pass(2 * knock.KnownTime)
		m.step(12 * time.Hour) // whatever it was set to
		m.turn()
		m.sweep()
		m.worker.Sweep()
	}
	m.forgotten()
}

func TestKnockWithSharedStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clocks := newTestClocks()
		store := replay.NewMemoryStore(clocks.options())
		share := func(o *Options) { o.Store, o.Now, o.Mono = store, clocks.options().Now, clocks.options().Mono }
		gates := []*harness{newHarness(t, every(legacy), share), newHarness(t, every(legacy), share)}
		accepted := map[string]int{}
		type sent struct {
			name string
			b    []byte
		}
		var all []sent
		but := rapid.SampledFrom([]string{"legacy", "tcp-syn-seq"}).Draw(t, "but") // they bear one name
		for n, method := range methodNames {
			if method == but {
				continue
			}
			for _, c := range []*protocol.Client{alice, bob} {
				v := gates[0].at(modelAddrs[n%2])
				for _, b := range methods[method](v, c, "ssh") {
					all = append(all, sent{method + " of " + c.ID(), b})
				}
			}
		}
		for _, s := range all { // in order at each gate, by chance at the one or the other first
			for _, i := range rapid.SampledFrom([][]int{{0, 1}, {1, 0}, {0, 0, 1}, {1, 0, 1}}).Draw(t, "gates") {
				w := gates[i]
				w.admit(s.b)
				if rapid.Bool().Draw(t, "decided") {
					w.decide()
				}
			}
		}
		for i, w := range gates {
			w.decide()
			for _, e := range w.events {
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
	everywhere(func(addr string) {
		w := newHarness(t, every(legacy), func(o *Options) { o.Limits, o.Knocked = Limits{}, func(knock.Event) {} })
		v := w.at(addr)
		heardHint := v.v2(alice, "db", func(m *protocol.KnockV2Message) { m.SourcePort = 1 })
		known := v.spoofed(1)
		w.want(known.knock(bob, "many"), ReasonKnock)
		w.decide()
		heardHint[len(heardHint)-1] ^= 1
		packettest.Checksums(heardHint)
		for name, b := range map[string][]byte{
			"SYN with timestamps":         v.synAs(protocol.SYNFields{Seq: 1, Window: 2, TSVal: 3}, v.server("ssh")),
			"the same, to no service":     v.synAs(protocol.SYNFields{Seq: 1, Window: 2, TSVal: 3}, netip.AddrPortFrom(v.gateway(), 4444)),
			"a part that is not expected": v.synPart(carol, "ssh", 0, 0),
			"a part of an old slot":       v.synPart(alice, "ssh", -2, 0),
			"a second part":               v.synPart(alice, "ssh", 0, 1),
			"a legacy part, to another port": v.synAs(v.legacyFields(alice, "ssh", 0),
				netip.AddrPortFrom(v.gateway(), 4444)),
			"junk of the size of a udp-v2":   v.udp(testKnockPort, make([]byte, protocol.KnockV2Size)),
			"udp-v2 of an unauthorized host": v.v2(carol, "ssh"),
			"a copied hint":                  heardHint,
			"udp of an unauthorized host":    v.junk(),
			"udp of a known source":          known.junk(),
		} {
			var p packet.Packet
			one := func() {
				w.pass(time.Second) // for the budgets
				p = packet.Packet{Data: b}
				p.Parse()
				w.gate.Admit(&p)
				if k := w.worker.Next(); k != nil {
					w.worker.Process(k)
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
		v.wantGrants(0)
	})
}

// spentKnock identifies a SYN knock that was presented.
type spentKnock struct {
	client *protocol.Client
	port   uint16
	kind   expectedKind
	slot   int64
}
