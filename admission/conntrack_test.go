package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// establish admits a flow to a service, completes its handshake and puts 100
// bytes in flight to it.
func (peer testPeer) establish(port uint16, service string) {
	peer.h.Helper()
	peer.mustKnock(alice, service, "")
	peer.h.want(peer.syn(port, service), ReasonGrant)
	if !peer.h.egress(peer.reply(port, service, packet.SYN|packet.ACK, 5000, 1001, "")) {
		peer.h.Fatalf("no SYN-ACK")
	}
	peer.h.want(peer.tcp(port, service, packet.ACK, 1001, 5001, ""), ReasonFlow)
	peer.mustEnter(port, service, alice)
	if !peer.h.egress(peer.reply(port, service, packet.ACK, 5001, 1001, string(make([]byte, 100)))) {
		peer.h.Fatalf("no data")
	}
}

func (peer testPeer) icmpError(b []byte) []byte {
	const mtu = 1400
	return peer.tooBig(mtu, b)
}

func TestICMPErrorMustQuoteFlight(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, c := range []struct {
			seq  uint32
			want Reason
		}{
			{5000, ReasonICMP}, {5001, ReasonICMPError}, {5100, ReasonICMPError}, {5101, ReasonICMPError},
			{5102, ReasonICMP}, {0, ReasonICMP}, {1 << 31, ReasonICMP}, {1<<32 - 1, ReasonICMP},
		} {
			h := newHarness(t)
			peer := h.peer(addr)
			peer.establish(40000, "db")
			h.want(peer.icmpError(peer.reply(40000, "db", packet.ACK, c.seq, 1001, "x")), c.want)
		}
	})
}

func TestICMPErrorFromRouter(t *testing.T) {
	h := newHarness(t)
	peer, router := h.peer("192.0.2.1"), h.peer("203.0.113.9")
	peer.establish(40000, "db")
	h.want(router.icmpError(peer.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMPError)
	// The quoted packet goes to another host, to another port, comes from
	// another port, or the error goes to another local address than the one it
	// quotes.
	h.want(router.icmpError(router.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
	h.want(router.icmpError(peer.reply(40001, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
	h.want(router.icmpError(peer.reply(40000, "ssh", packet.ACK, 5001, 1001, "x")), ReasonICMP)
	b := router.icmpError(peer.reply(40000, "db", packet.ACK, 5001, 1001, "x"))
	b[19]++
	packettest.Checksums(b)
	h.want(b, ReasonICMP)
	// After the end of the flow its errors are dropped too.
	h.gate.Remove(peer.tuple(40000, "db"))
	h.want(router.icmpError(peer.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
}

func TestICMPErrorBeforeSYNACK(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "db"), ReasonGrant)
	h.want(peer.icmpError(peer.reply(40000, "db", packet.ACK, 0, 1001, "x")), ReasonICMP)
}

func TestGateDropsACKOfUnsentData(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	h.want(peer.tcp(40000, "db", packet.ACK, 1001, 9999, ""), ReasonOutOfWindow)
	h.want(peer.tcp(40000, "db", packet.ACK, 1001, 4000, ""), ReasonFlow) // an old ACK, delayed
	h.want(peer.icmpError(peer.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMPError)
	h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
	h.want(peer.icmpError(peer.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
}

func TestSequenceNumbersInFlightWrapAround(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "db"), ReasonGrant)
	h.egress(peer.reply(40000, "db", packet.SYN|packet.ACK, 1<<32-10, 1001, ""))
	h.want(peer.tcp(40000, "db", packet.ACK, 1001, 1<<32-9, ""), ReasonFlow)
	h.egress(peer.reply(40000, "db", packet.ACK, 1<<32-9, 1001, string(make([]byte, 100))))
	for seq, want := range map[uint32]Reason{1<<32 - 10: ReasonICMP, 1<<32 - 9: ReasonICMPError, 0: ReasonICMPError, 91: ReasonICMPError, 92: ReasonICMP} {
		h.want(peer.icmpError(peer.reply(40000, "db", packet.ACK, seq, 1001, "x")), want)
	}
}

func TestEgressNeedsFlow(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		peer.establish(40000, "db")
		neighbor := h.peer(peer.addr.Next().String())
		for _, flags := range []uint8{packet.ACK, packet.RST, packet.RST | packet.ACK, packet.FIN | packet.ACK} {
			for name, b := range map[string][]byte{
				"another address": neighbor.reply(40000, "db", flags, 5001, 1001, ""),
				"another port":    peer.reply(40001, "db", flags, 5001, 1001, ""),
				"another service": peer.reply(40000, "ssh", flags, 5001, 1001, ""),
			} {
				if h.egress(b) {
					t.Errorf("flags %x to %s", flags, name)
				}
			}
			if !h.egress(peer.reply(40000, "db", flags, 5001, 1001, "")) {
				t.Errorf("flags %x to the client itself are kept back", flags)
			}
		}
		if n := h.gate.Stats().EgressDropped; n != 12 {
			t.Errorf("%d packets counted as kept back", n)
		}
		h.gate.Remove(peer.tuple(40000, "db"))
		if h.egress(peer.reply(40000, "db", packet.RST, 5001, 0, "")) {
			t.Error("a flow that was forgotten is reset")
		}
	})
}

func TestGateChecksRSTInHandshake(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags uint8
		ack   uint32
		want  bool
	}{
		{"that answers the SYN", packet.RST | packet.ACK, 1001, true},
		{"of an older flow", packet.RST | packet.ACK, 777, false},
		{"without an acknowledgement", packet.RST, 1001, false},
	} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(40000, "db"), ReasonGrant)
		if got := h.egress(peer.reply(40000, "db", c.flags, 0, c.ack, "")); got != c.want {
			t.Errorf("a reset %s: %v", c.name, got)
		}
	}
}

func TestGatePassesSYNOfAuthorizedFlow(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	for _, seq := range []uint32{1000, 1001, 77777} {
		if got := h.want(peer.tcp(40000, "db", packet.SYN, seq, 0, ""), ReasonFlow); got.TupleReused {
			t.Errorf("SYN with sequence %d: %+v", seq, got)
		}
	}
	peer.mustKnock(alice, "db", "")
	h.want(peer.tcp(40000, "db", packet.SYN, 77777, 0, ""), ReasonFlow)
	if n := h.gate.Stats().Grants; n != 1 {
		t.Error("a SYN on a live flow touched the grant")
	}
}

func TestFlowStaysUntilEndpointCloses(t *testing.T) {
	for _, c := range []struct {
		name   string
		stages []CloseState
		sweeps int // after which it is gone, without TIME_WAIT
	}{
		{"gone at once", []CloseState{EndpointClosed}, 0},
		{"something left to send", []CloseState{EndpointBusy, EndpointBusy, EndpointClosed}, 2},
		{"TIME_WAIT at once", []CloseState{EndpointTimeWait}, -1},
		{"TIME_WAIT later", []CloseState{EndpointBusy, EndpointBusy, EndpointTimeWait}, -1},
	} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		peer.establish(40000, "db")
		tuple := peer.tuple(40000, "db")
		h.closeStates[tuple] = c.stages[0]
		h.gate.RelayDone(tuple)
		h.check()
		for _, s := range c.stages[1:] {
			h.want(peer.tcp(40000, "db", packet.FIN|packet.ACK, 1001, 5101, ""), ReasonFlow)
			h.closeStates[tuple] = s
			h.sweep()
		}
		if c.sweeps < 0 {
			h.Advance(testTimeWait - 1)
			h.sweep()
			h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
			h.Advance(1)
			h.sweep()
		}
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonNoFlow)
		if h.egress(peer.reply(40000, "db", packet.RST, 5101, 0, "")) {
			t.Errorf("%s: answered after its end", c.name)
		}
		h.Advance(testTTL)
		h.sweep()
		h.wantEmpty()
	}
}

func TestSYNReusesTimeWait(t *testing.T) {
	for _, service := range []string{"db", "web"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		tuple := peer.tuple(40000, service)
		if service == "db" {
			peer.establish(40000, service)
		} else {
			h.want(peer.syn(40000, service), ReasonOpen)
			peer.mustEnter(40000, service, alice)
		}
		h.closeStates[tuple] = EndpointTimeWait
		h.gate.RelayDone(tuple)
		h.check()

		h.want(peer.syn(40000, service), ReasonFlow) // the old SYN, delayed
		syn := peer.tcp(40000, service, packet.SYN, 99999, 0, "")
		if service == "db" {
			h.want(syn, ReasonNoGrant) // it needs a knock, as any other
			h.want(peer.tcp(40000, service, packet.ACK, 1001, 5101, ""), ReasonFlow)
			peer.mustKnock(alice, service, "")
		}
		got := h.admit(syn)
		if got.Action != Pass || !got.TupleReused || got.Open != (service == "web") {
			t.Fatalf("%s: %+v", service, got)
		}
		// What the stack still has of the old flow is not sent.
		if h.egress(peer.reply(40000, service, packet.RST|packet.ACK, 5101, 1002, "")) {
			t.Error("the old flow's reset gets out")
		}
		peer.mustEnter(40000, service, alice)
		h.Advance(testTimeWait + 1)
		h.sweep()
		h.want(peer.tcp(40000, service, packet.ACK, 100000, 1, ""), ReasonFlow) // the end of the old flow does not end the new one
	}
}

func TestDeferredSYNReusesTimeWait(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	h.closeStates[peer.tuple(40000, "db")] = EndpointTimeWait
	h.gate.RelayDone(peer.tuple(40000, "db"))
	h.want(peer.knock(alice, "db"), ReasonKnock)
	h.want(peer.tcp(40000, "db", packet.SYN, 99999, 0, ""), ReasonDeferred)
	h.decide()
	if len(h.delivered) != 1 || h.delivered[0].verdict != (Verdict{Action: Pass, Reason: ReasonGrant, Handling: Handling{TupleReused: true}}) {
		t.Errorf("%+v", h.delivered)
	}
}

func TestSweepPollsEachClosingFlowOnce(t *testing.T) {
	asked := map[packet.Tuple]int{}
	h := newHarness(t, func(o *Options) {
		o.CloseState = func(t packet.Tuple) CloseState { asked[t]++; return EndpointBusy }
	})
	peer := h.peer("192.0.2.1")
	const flows = 2*sweepBatch + 10
	for port := range uint16(flows) {
		h.gate.Admit(parsed(peer.syn(10000+port, "web")))
		h.gate.RelayDone(peer.tuple(10000+port, "web"))
	}
	h.sweep()
	for tuple, n := range asked {
		if n != 2 { // once by Closed
			t.Fatalf("%v: %d times", tuple, n)
		}
	}
	if len(asked) != flows {
		t.Errorf("%d flows asked about", len(asked))
	}
}

func TestGateRequiresOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
	g, err := New(Options{
		Policy: testPolicy(alice), Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(*packet.Packet, Verdict) {}, Evicted: func(packet.Tuple) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if g.limits != (Limits{
		DefaultFlows, DefaultHalfOpen, DefaultGrants, DefaultGrantsPerSource,
		DefaultGrantsPerClient, DefaultFlowsPerClient, DefaultFlowsPerSource,
		DefaultKnocks, DefaultKnocksPerSource, DefaultDeferredSYNs, DefaultDeferredSYNsPerSource,
	}) {
		t.Errorf("limits %+v", g.limits)
	}
	if g.Policy() == nil || g.mono() < 0 || g.now().IsZero() || g.flows.closeState(packet.Tuple{}) != EndpointClosed {
		t.Error("defaults")
	}
}
