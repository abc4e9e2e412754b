package admission

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// model is what a test knows of a gate from outside, without its tables.
type model struct {
	*harness
	knocked  map[netip.Addr]bool   // a valid, new knock came from there
	admitted map[packet.Tuple]bool // a packet that begins a flow was admitted
	entered  map[netip.Addr]int    // flows of the address that used up a grant
	captured [][]byte              // knocks on the wire, each of some client
	checked  int                   // checked deliveries
}

var (
	modelAddrs = []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"}
	modelPorts = []uint16{1000, 1001, 40000}
)

func modelService(t *rapid.T) string {
	return rapid.SampledFrom([]string{"ssh", "db", "many", "web", "vpn"}).Draw(t, "service")
}

func (m *model) randomPeer(t *rapid.T) testPeer {
	return m.peer(rapid.SampledFrom(modelAddrs).Draw(t, "from"))
}

// receive admits b and judges the verdict by the model.
func (m *model) receive(t *rapid.T, b []byte) Verdict {
	v := m.admit(b)
	p := parsed(b)
	switch v.Reason {
	case ReasonOpen, ReasonCookie, ReasonGrant:
		m.admitted[p.Tuple] = true
	case ReasonFlow:
		if !m.admitted[p.Tuple] {
			t.Fatalf("%v belongs to a flow that was never admitted", p.Tuple)
		}
	}
	m.checkInvariants(t)
	return v
}

// checkInvariants verifies what must hold after any step.
func (m *model) checkInvariants(t *rapid.T) {
	for ; m.checked < len(m.delivered); m.checked++ {
		m.admitted[parsed([]byte(m.delivered[m.checked].data)).Tuple] = true
	}
	g := m.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	for a, s := range g.sources.byAddr {
		if len(s.grants) > 0 && !m.knocked[a.Netip()] {
			t.Fatalf("%v has a grant and never knocked", a.Netip())
		}
	}
	for tuple, f := range g.flows.byTuple {
		if !f.open && !m.knocked[tuple.Src.Netip()] {
			t.Fatalf("%v is in a hidden service and never knocked", tuple)
		}
		if !m.admitted[tuple] {
			t.Fatalf("%v is in the table and was never admitted", tuple)
		}
	}
}

// junk sends a packet of a host without a secret.
func (m *model) junk(t *rapid.T) {
	peer := m.randomPeer(t)
	switch rapid.IntRange(0, 5).Draw(t, "junk") {
	case 0: // any segment
		m.receive(t, peer.tcp(rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t), rapid.Byte().Draw(t, "flags"),
			rapid.Uint32Range(999, 1002).Draw(t, "seq"), rapid.Uint32Range(0, 3).Draw(t, "ack"), ""))
	case 1:
		m.receive(t, peer.syn(rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t)))
	case 2:
		m.receive(t, peer.udp(testKnockPort, parsed(peer.junk()).Data[peer.headers():]))
	case 3: // a knock that was captured, from anywhere, perhaps changed
		if len(m.captured) == 0 {
			return
		}
		b := slices.Clone(rapid.SampledFrom(m.captured).Draw(t, "captured"))
		if rapid.Bool().Draw(t, "tampered") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		m.receive(t, peer.udp(testKnockPort, b))
	case 4: // an error about whatever
		m.receive(t, peer.icmpError(m.randomPeer(t).reply(rapid.SampledFrom(modelPorts).Draw(t, "port"), modelService(t), packet.ACK,
			rapid.Uint32Range(0, 200).Draw(t, "seq"), 1001, "x")))
	case 5: // bytes
		m.receive(t, rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "bytes"))
	}
}

func (peer testPeer) headers() int {
	if peer.addr.Is4() {
		return 28
	}
	return 48
}

// client knocks, another host sends junk, and then the SYN arrives. It must be
// admitted.
func (m *model) client(t *rapid.T) {
	if fast, slow, limit := m.gate.knocks.Queued(); limit-max(fast, slow) < 40 {
		m.decide() // within the documented limits
	}
	peer := m.randomPeer(t)
	service := rapid.SampledFrom([]string{"ssh", "db", "many"}).Draw(t, "hidden service")
	knock := peer.knock(alice, service)
	m.knocked[peer.addr] = true
	m.captured = append(m.captured, knock[peer.headers():])
	if got := m.receive(t, knock); got.Reason != ReasonKnock {
		t.Fatalf("a valid knock: %v", got.Reason)
	}
	for range rapid.IntRange(0, 3).Draw(t, "junk in between") {
		m.junk(t)
	}
	if rapid.Bool().Draw(t, "decided first") {
		m.decide()
	}
	m.Advance(time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond)
	if rapid.Bool().Draw(t, "swept") {
		m.sweep()
	}
	port := uint16(50000 + m.ids)
	m.ids++
	got := m.receive(t, peer.syn(port, service))
	m.decide()
	m.checkInvariants(t)
	if got.Action == Drop || !m.admitted[peer.tuple(port, service)] {
		t.Fatalf("%v %v after a valid knock for %s", got.Action, got.Reason, service)
	}
}

// stack does something that the stack, or the server behind it, may do with a
// flow.
func (m *model) stack(t *rapid.T) {
	peer := m.randomPeer(t)
	port, service := rapid.SampledFrom(append([]uint16{uint16(50000 + m.ids - 1)}, modelPorts...)).Draw(t, "port"), modelService(t)
	tuple := peer.tuple(port, service)
	m.closeStates[tuple] = rapid.SampledFrom([]CloseState{EndpointClosed, EndpointTimeWait, EndpointBusy}).Draw(t, "stage")
	switch rapid.IntRange(0, 4).Draw(t, "does") {
	case 0:
		if m.gate.HandshakeDone(tuple) == nil && (service == "db" || service == "many") {
			m.entered[peer.addr]++
		}
	case 1:
		if m.gate.Stats().KnocksQueued > 0 {
			m.decide() // or it would wait for that
		}
		client := rapid.SampledFrom([]*protocol.Client{alice, bob}).Draw(t, "client")
		claim := rapid.SampledFrom([]error{nil, replay.ErrReplayed}).Draw(t, "claim")
		if m.gate.Authenticate(tuple, client, "", func() error { return claim }) == nil && service != "web" {
			m.entered[peer.addr]++
		}
	case 2:
		m.gate.RelayDone(tuple)
	case 3:
		m.gate.Remove(tuple)
	case 4:
		b := peer.reply(port, service, rapid.Byte().Draw(t, "flags"), rapid.Uint32Range(0, 200).Draw(t, "seq"), 1001, "data")
		if m.egress(b) && !m.admitted[tuple] {
			t.Fatalf("a packet gets out to %v, which has no flow", tuple)
		}
	}
	m.check()
	earned := 0
	for _, e := range m.events {
		switch {
		case e.Result != knock.OK || e.Source != peer.addr:
		case strings.HasPrefix(e.Service, "many"):
			earned += 3
		default:
			earned++
		}
	}
	if m.entered[peer.addr] > earned {
		t.Fatalf("%d flows of %v were admitted on knocks for %d", m.entered[peer.addr], peer.addr, earned)
	}
}

func newModel(t *rapid.T, change ...func(*Options)) *model {
	return newModelOf(newHarness(t, change...))
}

func newModelOf(h *harness) *model {
	return &model{
		harness: h, knocked: map[netip.Addr]bool{},
		admitted: map[packet.Tuple]bool{}, entered: map[netip.Addr]int{},
	}
}

func TestGateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newModel(t, fewHalfOpen).run(t)
	})
}

func fewHalfOpen(o *Options) { o.Limits.HalfOpen = 3 }

func (m *model) run(t *rapid.T) {
	t.Repeat(map[string]func(*rapid.T){
		"junk":   m.junk,
		"junk 2": m.junk,
		"client": m.client,
		"stack":  m.stack,
		"reload": func(*rapid.T) { m.reload() },
		"decide": func(*rapid.T) { m.decide() },
		"sweep":  func(*rapid.T) { m.sweep() },
		"time passes": func(t *rapid.T) {
			m.Advance(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
		},
		// Forward only: behind the time of an expired key the message is fresh
		// again (storekeys.go).
		"the clock is set": func(t *rapid.T) {
			m.StepWall(time.Duration(rapid.IntRange(0, 3600).Draw(t, "s")) * time.Second)
		},
		"": func(t *rapid.T) { m.checkInvariants(t) },
	})
	m.finish()
}

// finish ends all flows and expects no state to be left.
func (m *model) finish() {
	m.decide()
	clear(m.closeStates)
	for t := range m.admitted {
		if f := m.flow(t); f != nil && f.state == stateAuthorized {
			m.gate.RelayDone(t)
		}
	}
	for range 3 {
		m.Advance(testTTL + testDeadline + halfOpenTime + 1)
		m.sweep()
	}
	m.wantEmpty()
}

// Without a valid knock no hidden service opens, whatever is sent.
func TestHiddenServiceNeedsKnock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		for _, c := range []*protocol.Client{alice, bob} {
			// Knocks of last week, and for this service at another gateway's
			// port.
			b, err := protocol.AppendKnock(nil, c, 22, &protocol.KnockMessage{Method: "udp", Time: m.Now().Add(-time.Hour).UnixMilli()}, m.random)
			if err != nil {
				t.Fatalf("%v", err)
			}
			other, err := protocol.AppendKnock(nil, c, 2222, &protocol.KnockMessage{Method: "udp", Time: m.Now().UnixMilli()}, m.random)
			if err != nil {
				t.Fatalf("%v", err)
			}
			m.captured = append(m.captured, b, other)
		}
		t.Repeat(map[string]func(*rapid.T){
			"junk":        m.junk,
			"decide":      func(*rapid.T) { m.decide() },
			"sweep":       func(*rapid.T) { m.sweep() },
			"time passes": func(t *rapid.T) { m.Advance(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond) },
			"":            func(t *rapid.T) { m.checkInvariants(t) },
		})
		if n := m.gate.Stats().Grants; n != 0 {
			t.Fatalf("%d grants", n)
		}
		m.finish()
	})
}
