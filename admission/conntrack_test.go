package admission

import (
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// session has v let in to a service, the handshake done, with 100 bytes in
// flight to it.
func (v testPeer) session(port uint16, service string) {
	v.w.Helper()
	v.knocks(alice, service, "")
	v.w.want(v.syn(port, service), ReasonGrant)
	if !v.w.egress(v.reply(port, service, packet.SYN|packet.ACK, 5000, 1001, "")) {
		v.w.Fatalf("no SYN-ACK")
	}
	v.w.want(v.tcp(port, service, packet.ACK, 1001, 5001, ""), ReasonFlow)
	v.enters(port, service, alice)
	if !v.w.egress(v.reply(port, service, packet.ACK, 5001, 1001, string(make([]byte, 100)))) {
		v.w.Fatalf("no data")
	}
}

func (v testPeer) icmpError(b []byte) []byte {
	const mtu = 1400
	return v.tooBig(mtu, b)
}

func TestICMPErrorMustQuoteFlight(t *testing.T) {
	everywhere(func(addr string) {
		for _, c := range []struct {
			seq  uint32
			want Reason
		}{
			{5000, ReasonICMP}, {5001, ReasonICMPError}, {5100, ReasonICMPError}, {5101, ReasonICMPError},
			{5102, ReasonICMP}, {0, ReasonICMP}, {1 << 31, ReasonICMP}, {1<<32 - 1, ReasonICMP},
		} {
			w := newHarness(t)
			v := w.at(addr)
			v.session(40000, "db")
			w.want(v.icmpError(v.reply(40000, "db", packet.ACK, c.seq, 1001, "x")), c.want)
		}
	})
}

func TestICMPErrorFromRouter(t *testing.T) {
	w := newHarness(t)
	v, router := w.at("192.0.2.1"), w.at("203.0.113.9")
	v.session(40000, "db")
	w.want(router.icmpError(v.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMPError)
	// About a packet to another host, to another port, from another port, or
	// sent to another of our addresses than the one it quotes.
	w.want(router.icmpError(router.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
	w.want(router.icmpError(v.reply(40001, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
	w.want(router.icmpError(v.reply(40000, "ssh", packet.ACK, 5001, 1001, "x")), ReasonICMP)
	b := router.icmpError(v.reply(40000, "db", packet.ACK, 5001, 1001, "x"))
	b[19]++
	packettest.Checksums(b)
	w.want(b, ReasonICMP)
	// The flow is over, and so is that.
	w.gate.Remove(v.tuple(40000, "db"))
	w.want(router.icmpError(v.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
}

func TestICMPErrorBeforeSYNACK(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "db"), ReasonGrant)
	w.want(v.icmpError(v.reply(40000, "db", packet.ACK, 0, 1001, "x")), ReasonICMP)
}

func TestGateDropsACKOfUnsentData(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db")
	w.want(v.tcp(40000, "db", packet.ACK, 1001, 9999, ""), ReasonOutOfWindow)
	w.want(v.tcp(40000, "db", packet.ACK, 1001, 4000, ""), ReasonFlow) // an old one, late
	w.want(v.icmpError(v.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMPError)
	w.want(v.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
	w.want(v.icmpError(v.reply(40000, "db", packet.ACK, 5001, 1001, "x")), ReasonICMP)
}

func TestSequenceNumbersInFlightWrapAround(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "db"), ReasonGrant)
	w.egress(v.reply(40000, "db", packet.SYN|packet.ACK, 1<<32-10, 1001, ""))
	w.want(v.tcp(40000, "db", packet.ACK, 1001, 1<<32-9, ""), ReasonFlow)
	w.egress(v.reply(40000, "db", packet.ACK, 1<<32-9, 1001, string(make([]byte, 100))))
	for seq, want := range map[uint32]Reason{1<<32 - 10: ReasonICMP, 1<<32 - 9: ReasonICMPError, 0: ReasonICMPError, 91: ReasonICMPError, 92: ReasonICMP} {
		w.want(v.icmpError(v.reply(40000, "db", packet.ACK, seq, 1001, "x")), want)
	}
}

func TestEgressNeedsFlow(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		v.session(40000, "db")
		neighbour := w.at(v.addr.Next().String())
		for _, flags := range []uint8{packet.ACK, packet.RST, packet.RST | packet.ACK, packet.FIN | packet.ACK} {
			for name, b := range map[string][]byte{
				"another address": neighbour.reply(40000, "db", flags, 5001, 1001, ""),
				"another port":    v.reply(40001, "db", flags, 5001, 1001, ""),
				"another service": v.reply(40000, "ssh", flags, 5001, 1001, ""),
			} {
				if w.egress(b) {
					t.Errorf("flags %x to %s", flags, name)
				}
			}
			if !w.egress(v.reply(40000, "db", flags, 5001, 1001, "")) {
				t.Errorf("flags %x to the client itself are kept back", flags)
			}
		}
		if n := w.gate.Stats().EgressDropped; n != 12 {
			t.Errorf("%d packets counted as kept back", n)
		}
		w.gate.Remove(v.tuple(40000, "db"))
		if w.egress(v.reply(40000, "db", packet.RST, 5001, 0, "")) {
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
		w := newHarness(t)
		v := w.at("192.0.2.1")
		v.knocks(alice, "db", "")
		w.want(v.syn(40000, "db"), ReasonGrant)
		if got := w.egress(v.reply(40000, "db", c.flags, 0, c.ack, "")); got != c.want {
			t.Errorf("a reset %s: %v", c.name, got)
		}
	}
}

func TestGatePassesSYNOfAuthorizedFlow(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db")
	for _, seq := range []uint32{1000, 1001, 77777} {
		if got := w.want(v.tcp(40000, "db", packet.SYN, seq, 0, ""), ReasonFlow); got.TupleReused {
			t.Errorf("SYN with sequence %d: %+v", seq, got)
		}
	}
	v.knocks(alice, "db", "")
	w.want(v.tcp(40000, "db", packet.SYN, 77777, 0, ""), ReasonFlow)
	if n := w.gate.Stats().Grants; n != 1 {
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
		w := newHarness(t)
		v := w.at("192.0.2.1")
		v.session(40000, "db")
		tuple := v.tuple(40000, "db")
		w.stages[tuple] = c.stages[0]
		w.gate.RelayDone(tuple)
		w.check()
		for _, s := range c.stages[1:] {
			w.want(v.tcp(40000, "db", packet.FIN|packet.ACK, 1001, 5101, ""), ReasonFlow)
			w.stages[tuple] = s
			w.sweep()
		}
		if c.sweeps < 0 {
			w.pass(testTimeWait - 1)
			w.sweep()
			w.want(v.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
			w.pass(1)
			w.sweep()
		}
		w.want(v.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonNoFlow)
		if w.egress(v.reply(40000, "db", packet.RST, 5101, 0, "")) {
			t.Errorf("%s: answered after its end", c.name)
		}
		w.pass(testTTL)
		w.sweep()
		w.empty()
	}
}

func TestSYNReusesTimeWait(t *testing.T) {
	for _, service := range []string{"db", "web"} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		tuple := v.tuple(40000, service)
		if service == "db" {
			v.session(40000, service)
		} else {
			w.want(v.syn(40000, service), ReasonOpen)
			v.enters(40000, service, alice)
		}
		w.stages[tuple] = EndpointTimeWait
		w.gate.RelayDone(tuple)
		w.check()

		w.want(v.syn(40000, service), ReasonFlow) // the old SYN, late
		syn := v.tcp(40000, service, packet.SYN, 99999, 0, "")
		if service == "db" {
			w.want(syn, ReasonNoGrant) // it takes a knock, as any
			w.want(v.tcp(40000, service, packet.ACK, 1001, 5101, ""), ReasonFlow)
			v.knocks(alice, service, "")
		}
		got := w.admit(syn)
		if got.Action != Pass || !got.TupleReused || got.Open != (service == "web") {
			t.Fatalf("%s: %+v", service, got)
		}
		// What the stack still has of the old flow stays inside.
		if w.egress(v.reply(40000, service, packet.RST|packet.ACK, 5101, 1002, "")) {
			t.Error("the old flow's reset gets out")
		}
		v.enters(40000, service, alice)
		w.pass(testTimeWait + 1)
		w.sweep()
		w.want(v.tcp(40000, service, packet.ACK, 100000, 1, ""), ReasonFlow) // the old one's end is not its end
	}
}

func TestDeferredSYNReusesTimeWait(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db")
	w.stages[v.tuple(40000, "db")] = EndpointTimeWait
	w.gate.RelayDone(v.tuple(40000, "db"))
	w.want(v.knock(alice, "db"), ReasonKnock)
	w.want(v.tcp(40000, "db", packet.SYN, 99999, 0, ""), ReasonDeferred)
	w.decide()
	if len(w.delivered) != 1 || w.delivered[0].verdict != (Verdict{Action: Pass, Reason: ReasonGrant, Handling: Handling{TupleReused: true}}) {
		t.Errorf("%+v", w.delivered)
	}
}

func TestSweepPollsEachClosingFlowOnce(t *testing.T) {
	asked := map[packet.Tuple]int{}
	w := newHarness(t, func(o *Options) {
		o.CloseState = func(t packet.Tuple) CloseState { asked[t]++; return EndpointBusy }
	})
	v := w.at("192.0.2.1")
	const flows = 2*sweepBatch + 10
	for port := range uint16(flows) {
		w.gate.Admit(parsed(v.syn(10000+port, "web")))
		w.gate.RelayDone(v.tuple(10000+port, "web"))
	}
	w.sweep()
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
