package admission

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// The numbers of these tests' handshakes: the client's first segment after its
// SYN (which testPeer.syn sends with 1000), and ours.
const (
	clientNext = 1001
	ourISS     = 5000
)

// answered has a SYN of v admitted to a service, with a grant where it takes
// one, and the stack answer it.
func (v testPeer) answered(port uint16, service string) {
	v.w.Helper()
	if service != "web" {
		v.knocks(alice, service, "")
	}
	if got := v.w.admit(v.syn(port, service)); got.Action != Pass {
		v.w.Fatalf("SYN: %v", got.Reason)
	}
	if !v.w.egress(v.reply(port, service, packet.SYN|packet.ACK, ourISS, clientNext, "")) {
		v.w.Fatalf("no SYN-ACK")
	}
}

func TestGateDropsACKBeforeSYNACK(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"db", "ssh", "web", "vpn"} {
			w := newHarness(t)
			v := w.at(addr)
			if service == "db" || service == "ssh" {
				v.knocks(alice, service, "")
			}
			w.admit(v.syn(40000, service))
			for _, flags := range []uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.RST, packet.RST | packet.ACK, 0, packet.FIN} {
				for _, ack := range []uint32{0, 1, ourISS + 1} {
					w.want(v.tcp(40000, service, flags, clientNext, ack, "x"), ReasonOutOfWindow)
				}
			}
			if w.egress(v.reply(40000, service, packet.ACK, ourISS, clientNext, "data")) {
				t.Errorf("%s: data leaves before the SYN-ACK", service)
			}
			w.want(v.syn(40000, service), ReasonFlow)
		}
	})
}

func TestGateTakesOnlyACKOfSYNACKInHandshake(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"db", "ssh", "web", "vpn"} {
			w := newHarness(t)
			v := w.at(addr)
			v.answered(40000, service)
			for _, ack := range []uint32{ourISS, ourISS + 2, ourISS - 1, 0, 1, 0xdeadbeef, ourISS + 1 + 1<<31, math.MaxUint32} {
				w.want(v.tcp(40000, service, packet.ACK, clientNext, ack, ""), ReasonOutOfWindow)
				w.want(v.tcp(40000, service, packet.ACK|packet.PSH, clientNext, ack, "POST /EVIL"), ReasonOutOfWindow)
				w.want(v.tcp(40000, service, packet.ACK|packet.FIN, clientNext, ack, ""), ReasonOutOfWindow)
			}
			w.want(v.tcp(40000, service, packet.ACK, clientNext-1, ourISS+1, ""), ReasonOutOfWindow)
			w.want(v.tcp(40000, service, packet.ACK, clientNext+1<<20, ourISS+1, ""), ReasonOutOfWindow)
			if err := w.gate.HandshakeDone(v.tuple(40000, service)); !errors.Is(err, ErrFlowClosed) {
				t.Errorf("%s: completed without an ACK: %v", service, err)
			}
			if w.egress(v.reply(40000, service, packet.ACK, ourISS+1, clientNext, "secret")) {
				t.Errorf("%s: data leaves to an unproven address", service)
			}
			// The first that arrives need not be the bare ACK.
			w.want(v.tcp(40000, service, packet.ACK|packet.PSH, clientNext+7, ourISS+1, "second"), ReasonFlow)
			w.want(v.tcp(40000, service, packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
			v.enters(40000, service, alice)
		}
	})
}

func TestGateTakesOnlyExactRSTInHandshake(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.answered(40000, "db")
	for _, seq := range []uint32{clientNext - 1, clientNext + 1, clientNext + 1000, clientNext + math.MaxUint16, 0} {
		for _, flags := range []uint8{packet.RST, packet.RST | packet.ACK} {
			w.want(v.tcp(40000, "db", flags, seq, ourISS+1, ""), ReasonOutOfWindow)
		}
	}
	w.want(v.tcp(40000, "db", packet.RST, clientNext, 0, ""), ReasonFlow) // a host that has sent no SYN
}

func TestGateLeavesRSTInWindowToChallenge(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db") // window 65535
	for seq, want := range map[uint32]Reason{
		clientNext: ReasonFlow, clientNext + 1000: ReasonFlow, clientNext - 1: ReasonOutOfWindow, clientNext + 1<<20: ReasonOutOfWindow,
	} {
		w.want(v.tcp(40000, "db", packet.RST, seq, 0, ""), want)
	}
}

func TestGateDropsSYNThatWouldEndHandshake(t *testing.T) {
	for _, service := range []string{"db", "web"} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		v.answered(40000, service)
		for _, seq := range []uint32{clientNext, clientNext + 1, clientNext + 30000, clientNext + math.MaxUint16} {
			w.want(v.tcp(40000, service, packet.SYN, seq, 0, ""), ReasonOutOfWindow)
		}
		for _, flags := range []uint8{packet.SYN | packet.ACK, packet.SYN | packet.FIN, packet.SYN | packet.RST} {
			w.want(v.tcp(40000, service, flags, 1000, ourISS+1, ""), ReasonOutOfWindow)
		}
		w.want(v.tcp(40000, service, packet.SYN, 999, 0, ""), ReasonFlow) // answered with a challenge ACK
		if !w.egress(v.reply(40000, service, packet.ACK, ourISS+1, clientNext, "")) {
			t.Error("the challenge ACK is kept back")
		}
		w.want(v.tcp(40000, service, packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
		v.enters(40000, service, alice)
	}
}

// Under a flood the stack answers both, each with a cookie, and remembers
// neither.
func TestGateKeepsHandshakeBesideForgedSYN(t *testing.T) {
	const forged, forgedISS = 1 << 30, 7777
	for name, forgedFirst := range map[string]bool{"forged later": false, "forged first": true} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		answer := func(seq, iss uint32) {
			t.Helper()
			if got := w.admit(v.tcp(40000, "web", packet.SYN, seq, 0, "")); got.Action != Pass {
				t.Fatalf("%s: SYN %d: %v", name, seq, got.Reason)
			}
			if !w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, iss, seq+1, "")) {
				t.Fatalf("%s: SYN %d is not answered", name, seq)
			}
		}
		if forgedFirst {
			answer(forged, forgedISS)
		}
		answer(1000, ourISS)
		if !forgedFirst {
			answer(forged, forgedISS)
		}
		w.want(v.tcp(40000, "web", packet.ACK, forged+1, ourISS+1, ""), ReasonOutOfWindow)
		w.want(v.tcp(40000, "web", packet.ACK, clientNext, forgedISS+1, ""), ReasonOutOfWindow)
		w.want(v.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
		v.enters(40000, "web", alice)
		w.want(v.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, "data"), ReasonFlow)
		w.want(v.tcp(40000, "web", packet.ACK, forged+1, forgedISS+1, "data"), ReasonOutOfWindow)
	}
}

// The stack keeps its cookie, and may answer the SYN's retransmission with
// another number when the flood is over. The client has the first.
func TestGateTakesACKOfEitherSYNACK(t *testing.T) {
	for _, acked := range []uint32{ourISS, 900000} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		v.answered(40000, "web")
		w.want(v.syn(40000, "web"), ReasonFlow)
		if !w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, 900000, clientNext, "")) {
			t.Fatal("the second SYN-ACK is kept back")
		}
		w.want(v.tcp(40000, "web", packet.ACK, clientNext, acked+1, ""), ReasonFlow)
		v.enters(40000, "web", alice)
		w.want(v.tcp(40000, "web", packet.ACK, clientNext, acked+1, "data"), ReasonFlow)
	}
}

func TestGateDropsSYNACKToUnknownSYN(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.answered(40000, "web")
	if w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, 1, 4242, "")) {
		t.Error("an answer to a SYN that was not admitted leaves")
	}
	w.want(v.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
	v.enters(40000, "web", alice)
	if w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, 1, clientNext, "")) {
		t.Error("another SYN-ACK leaves on a live flow")
	}
	if !w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, ourISS, clientNext, "")) {
		t.Error("the SYN-ACK sent again is kept back")
	}
}

// RFC 5961, 5: not what was never sent, and nothing long acknowledged. The
// flow's numbers wrap around.
func TestGateTakesACKsWithinWindowOnly(t *testing.T) {
	for _, iss := range []uint32{ourISS, math.MaxUint32 - 100_000, math.MaxUint32, 1<<31 - 1} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		v.knocks(alice, "db", "")
		w.want(v.syn(40000, "db"), ReasonGrant)
		w.egress(v.reply(40000, "db", packet.SYN|packet.ACK, iss, clientNext, ""))
		first := iss + 1
		w.want(v.tcp(40000, "db", packet.ACK, clientNext, first, ""), ReasonFlow)
		v.enters(40000, "db", alice)
		const sent = 200_000
		for n := uint32(0); n < sent; n += 50_000 {
			w.egress(v.reply(40000, "db", packet.ACK, first+n, clientNext, string(make([]byte, 50_000))))
		}
		ack := func(n int) []byte { return v.tcp(40000, "db", packet.ACK, clientNext, first+uint32(n), "data") }
		w.want(ack(sent+1), ReasonOutOfWindow)
		w.want(ack(1<<31), ReasonOutOfWindow)
		w.want(ack(sent), ReasonFlow) // all that was in flight, which is what may be late from now on
		w.want(ack(0), ReasonFlow)
		w.want(ack(-1), ReasonOutOfWindow)
		w.want(ack(sent/2), ReasonFlow)
		w.want(ack(-1<<31), ReasonOutOfWindow)
	}
}

func TestGateTakesWhatWindowAllows(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "db"), ReasonGrant)
	announce := func(flags uint8, seq, ack uint32, window uint16, options ...byte) {
		t.Helper()
		b := packettest.TCP{Src: v.server("db"), Dst: netip.AddrPortFrom(v.addr, 40000), Flags: flags, Seq: seq, Ack: ack, Window: window, Options: options}.Packet()
		if !w.egress(b) {
			t.Fatal("kept back")
		}
	}
	announce(packet.SYN|packet.ACK, ourISS, clientNext, 29200, 2, 4, 5, 180, 1, 3, 3, 7) // scaled by 128 from now on
	at := func(seq uint32, want Reason) {
		t.Helper()
		w.want(v.tcp(40000, "db", packet.ACK, seq, ourISS+1, "x"), want)
	}
	at(clientNext+29202, ReasonOutOfWindow)
	at(clientNext+29200, ReasonFlow)
	v.enters(40000, "db", alice)
	at(clientNext+29202, ReasonOutOfWindow)
	announce(packet.ACK, ourISS+1, clientNext+100_000, 1000) // 128,000 bytes
	oldest := uint32(clientNext) + 100_000
	oldest -= 128_000 + keepaliveBefore
	at(clientNext+228_002, ReasonOutOfWindow)
	at(clientNext+228_001, ReasonFlow) // after a FIN that filled the window
	at(clientNext+228_000, ReasonFlow) // a window probe of one byte
	at(clientNext+99_999, ReasonFlow)  // a keepalive
	at(oldest, ReasonFlow)             // again, since our ACK was lost
	at(oldest-1, ReasonOutOfWindow)
	announce(packet.ACK, ourISS+1, clientNext+228_000, 0) // it is full
	at(clientNext+228_000, ReasonFlow)
	at(clientNext+227_999, ReasonFlow)
}

func TestGateDropsSegmentsWithoutACK(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db")
	for _, flags := range []uint8{0, packet.FIN, packet.PSH, packet.URG, packet.FIN | packet.PSH | packet.URG, packet.SYN | packet.ACK, packet.SYN | packet.FIN, packet.SYN | packet.RST} {
		w.want(v.tcp(40000, "db", flags, clientNext, ourISS+1, "x"), ReasonOutOfWindow)
	}
}

func TestGateAnswersFINAgainInTIMEWAIT(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db") // 100 bytes in flight from ourISS+1
	fin := v.tcp(40000, "db", packet.FIN|packet.ACK, clientNext, ourISS+102, "")
	w.egress(v.reply(40000, "db", packet.FIN|packet.ACK, ourISS+101, clientNext, ""))
	w.want(fin, ReasonFlow)
	w.egress(v.reply(40000, "db", packet.ACK, ourISS+102, clientNext+1, ""))
	w.stages[v.tuple(40000, "db")] = EndpointTimeWait
	w.gate.RelayDone(v.tuple(40000, "db"))
	w.want(fin, ReasonFlow)
	w.want(v.tcp(40000, "db", packet.FIN|packet.ACK, clientNext, ourISS+103, ""), ReasonOutOfWindow)
	if !w.egress(v.reply(40000, "db", packet.ACK, ourISS+102, clientNext+1, "")) {
		t.Error("its answer is kept back")
	}
}

// The stack alone can verify a cookie, so a forged ACK must not keep the
// client's from it.
func TestGateLeavesCookiesToStack(t *testing.T) {
	w := newHarness(t, fewHalfOpen, banning)
	v, flood := w.at("192.0.2.1"), w.at("198.51.100.1")
	for port := range uint16(4) {
		w.want(flood.syn(port+1, "web"), ReasonOpen)
	}
	w.want(v.tcp(40000, "web", packet.ACK, 1<<30, 1<<30, ""), ReasonCookie) // forged
	w.want(v.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
	v.handshakes(40000, "web") // the stack has found a cookie in one of them
	w.want(v.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, "data"), ReasonFlow)
	w.egress(v.reply(40000, "web", packet.ACK, ourISS+1, clientNext+4, "")) // it says which
	w.want(v.tcp(40000, "web", packet.ACK, clientNext+4, ourISS+1, "data"), ReasonFlow)
	w.want(v.tcp(40000, "web", packet.ACK, 1<<30, 1<<30, "data"), ReasonOutOfWindow)
}

func TestGateCountsNothingAgainstUnprovenAddress(t *testing.T) {
	w := newHarness(t, banning, func(o *Options) { o.Limits.FlowsPerSource = 2 })
	v := w.at("192.0.2.1")
	v.answered(1, "web")
	for range 10 {
		w.gate.Failed(v.tuple(1, "web"))
		w.gate.Failed(v.tuple(2, "web")) // of no flow
	}
	if n := len(w.gate.Bans(10)); n != 0 {
		t.Errorf("%d bans without a handshake", n)
	}
	for port := range uint16(10) {
		w.want(v.syn(100+port, "web"), ReasonOpen)
		w.want(v.tcp(100+port, "web", packet.ACK, clientNext, 4711, ""), ReasonOutOfWindow)
	}
	for n := range uint16(2) {
		w.want(v.syn(200+n, "web"), ReasonOpen)
		v.handshakes(200+n, "web")
	}
	w.want(v.syn(300, "web"), ReasonSourceLimit)
}

// A capture may have one direction only.
func TestSimulatorPassesOneDirection(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	judge, err := NewSimulator(Options{
		Policy: testPolicy(alice), Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(*packet.Packet, Verdict) {}, Evicted: func(packet.Tuple) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ack := v.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, "data")
	judge.Admit(parsed(v.syn(40000, "web")))
	if got := judge.Admit(parsed(ack)); got.Action != Pass {
		t.Errorf("the ACK of a SYN-ACK that the capture has not: %v", got.Reason)
	}
	var p packet.Packet
	p.DecodeTCP(v.reply(40001, "web", packet.SYN|packet.ACK, 1, 1, ""))
	judge.Egress(&p, 0)
	if got := judge.Admit(parsed(ack)); got.Reason != ReasonOutOfWindow {
		t.Errorf("with both directions: %v", got.Reason)
	}
}

func TestWindowScaleReadsOptions(t *testing.T) {
	for _, c := range []struct {
		options []byte
		want    uint8
		ok      bool
	}{
		{nil, 0, false},
		{[]byte{3, 3, 7}, 7, true},
		{[]byte{2, 4, 5, 180, 1, 3, 3, 0}, 0, true},
		{[]byte{1, 1, 3, 3, 15}, 14, true},
		{[]byte{0, 3, 3, 7}, 0, false},
		{[]byte{3, 2, 3, 3, 7}, 7, true},
		{[]byte{8, 10, 3, 3, 7}, 0, false},
		{[]byte{8, 1, 3, 3, 7}, 0, false},
		{[]byte{8, 0}, 0, false},
		{[]byte{3}, 0, false},
		{[]byte{3, 3}, 0, false},
	} {
		if got, ok := windowScale(c.options); got != c.want || ok != c.ok {
			t.Errorf("%v: %d, %v", c.options, got, ok)
		}
	}
}

// The half-open flow whose stack has given up is taken over by its client's
// next SYN.
func TestGateTakesNewSYNOfAbandonedHandshake(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.answered(40000, "web")
	w.want(v.tcp(40000, "web", packet.RST, clientNext, 0, ""), ReasonFlow)
	w.pass(time.Minute)
	w.want(v.tcp(40000, "web", packet.SYN, 1<<31, 0, ""), ReasonFlow)
	if !w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, 42, 1<<31+1, "")) {
		t.Fatal("it is not answered")
	}
	w.want(v.tcp(40000, "web", packet.ACK, 1<<31+1, 43, ""), ReasonFlow)
	v.enters(40000, "web", alice)
}
