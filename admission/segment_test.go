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

// The numbers of the handshakes in these tests: the client's first segment
// after its SYN (testPeer.syn sends 1000), and the gateway's.
const (
	clientNext = 1001
	ourISS     = 5000
)

// mustGetSYNACK admits a SYN to a service, with a grant where the service
// requires one, and answers it.
func (peer testPeer) mustGetSYNACK(port uint16, service string) {
	peer.h.Helper()
	if service != "web" {
		peer.mustKnock(alice, service, "")
	}
	if got := peer.h.admit(peer.syn(port, service)); got.Action != Pass {
		peer.h.Fatalf("SYN: %v", got.Reason)
	}
	if !peer.h.egress(peer.reply(port, service, packet.SYN|packet.ACK, ourISS, clientNext, "")) {
		peer.h.Fatalf("no SYN-ACK")
	}
}

func TestGateDropsACKBeforeSYNACK(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"db", "ssh", "web", "vpn"} {
			h := newHarness(t)
			peer := h.peer(addr)
			if service == "db" || service == "ssh" {
				peer.mustKnock(alice, service, "")
			}
			h.admit(peer.syn(40000, service))
			for _, flags := range []uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.RST, packet.RST | packet.ACK, 0, packet.FIN} {
				for _, ack := range []uint32{0, 1, ourISS + 1} {
					h.want(peer.tcp(40000, service, flags, clientNext, ack, "x"), ReasonOutOfWindow)
				}
			}
			if h.egress(peer.reply(40000, service, packet.ACK, ourISS, clientNext, "data")) {
				t.Errorf("%s: data leaves before the SYN-ACK", service)
			}
			h.want(peer.syn(40000, service), ReasonFlow)
		}
	})
}

func TestGateTakesOnlyACKOfSYNACKInHandshake(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"db", "ssh", "web", "vpn"} {
			h := newHarness(t)
			peer := h.peer(addr)
			peer.mustGetSYNACK(40000, service)
			for _, ack := range []uint32{ourISS, ourISS + 2, ourISS - 1, 0, 1, 0xdeadbeef, ourISS + 1 + 1<<31, math.MaxUint32} {
				h.want(peer.tcp(40000, service, packet.ACK, clientNext, ack, ""), ReasonOutOfWindow)
				h.want(peer.tcp(40000, service, packet.ACK|packet.PSH, clientNext, ack, "POST /EVIL"), ReasonOutOfWindow)
				h.want(peer.tcp(40000, service, packet.ACK|packet.FIN, clientNext, ack, ""), ReasonOutOfWindow)
			}
			h.want(peer.tcp(40000, service, packet.ACK, clientNext-1, ourISS+1, ""), ReasonOutOfWindow)
			h.want(peer.tcp(40000, service, packet.ACK, clientNext+1<<20, ourISS+1, ""), ReasonOutOfWindow)
			if err := h.gate.HandshakeDone(peer.tuple(40000, service)); !errors.Is(err, ErrFlowClosed) {
				t.Errorf("%s: completed without an ACK: %v", service, err)
			}
			if h.egress(peer.reply(40000, service, packet.ACK, ourISS+1, clientNext, "secret")) {
				t.Errorf("%s: data leaves to an unproven address", service)
			}
			// The first segment that arrives need not be the bare ACK.
			h.want(peer.tcp(40000, service, packet.ACK|packet.PSH, clientNext+7, ourISS+1, "second"), ReasonFlow)
			h.want(peer.tcp(40000, service, packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
			peer.mustEnter(40000, service, alice)
		}
	})
}

func TestGateTakesOnlyExactRSTInHandshake(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustGetSYNACK(40000, "db")
	for _, seq := range []uint32{clientNext - 1, clientNext + 1, clientNext + 1000, clientNext + math.MaxUint16, 0} {
		for _, flags := range []uint8{packet.RST, packet.RST | packet.ACK} {
			h.want(peer.tcp(40000, "db", flags, seq, ourISS+1, ""), ReasonOutOfWindow)
		}
	}
	h.want(peer.tcp(40000, "db", packet.RST, clientNext, 0, ""), ReasonFlow) // a host that has sent no SYN
}

func TestGateLeavesRSTInWindowToChallenge(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db") // window 65535
	for seq, want := range map[uint32]Reason{
		clientNext: ReasonFlow, clientNext + 1000: ReasonFlow, clientNext - 1: ReasonOutOfWindow, clientNext + 1<<20: ReasonOutOfWindow,
	} {
		h.want(peer.tcp(40000, "db", packet.RST, seq, 0, ""), want)
	}
}

func TestGateDropsSYNThatWouldEndHandshake(t *testing.T) {
	for _, service := range []string{"db", "web"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		peer.mustGetSYNACK(40000, service)
		for _, seq := range []uint32{clientNext, clientNext + 1, clientNext + 30000, clientNext + math.MaxUint16} {
			h.want(peer.tcp(40000, service, packet.SYN, seq, 0, ""), ReasonOutOfWindow)
		}
		for _, flags := range []uint8{packet.SYN | packet.ACK, packet.SYN | packet.FIN, packet.SYN | packet.RST} {
			h.want(peer.tcp(40000, service, flags, 1000, ourISS+1, ""), ReasonOutOfWindow)
		}
		h.want(peer.tcp(40000, service, packet.SYN, 999, 0, ""), ReasonFlow) // answered with a challenge ACK
		if !h.egress(peer.reply(40000, service, packet.ACK, ourISS+1, clientNext, "")) {
			t.Error("the challenge ACK is kept back")
		}
		h.want(peer.tcp(40000, service, packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
		peer.mustEnter(40000, service, alice)
	}
}

// Under a flood the stack answers both, each with a cookie, and remembers
// neither.
func TestGateKeepsHandshakeBesideForgedSYN(t *testing.T) {
	const forged, forgedISS = 1 << 30, 7777
	for name, forgedFirst := range map[string]bool{"forged later": false, "forged first": true} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		answer := func(seq, iss uint32) {
			t.Helper()
			if got := h.admit(peer.tcp(40000, "web", packet.SYN, seq, 0, "")); got.Action != Pass {
				t.Fatalf("%s: SYN %d: %v", name, seq, got.Reason)
			}
			if !h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, iss, seq+1, "")) {
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
		h.want(peer.tcp(40000, "web", packet.ACK, forged+1, ourISS+1, ""), ReasonOutOfWindow)
		h.want(peer.tcp(40000, "web", packet.ACK, clientNext, forgedISS+1, ""), ReasonOutOfWindow)
		h.want(peer.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
		peer.mustEnter(40000, "web", alice)
		h.want(peer.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, "data"), ReasonFlow)
		h.want(peer.tcp(40000, "web", packet.ACK, forged+1, forgedISS+1, "data"), ReasonOutOfWindow)
	}
}

// The stack keeps its cookie, and may answer the retransmitted SYN with another
// number when the flood is over. The client has the first.
func TestGateTakesACKOfEitherSYNACK(t *testing.T) {
	for _, acked := range []uint32{ourISS, 900000} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		peer.mustGetSYNACK(40000, "web")
		h.want(peer.syn(40000, "web"), ReasonFlow)
		if !h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, 900000, clientNext, "")) {
			t.Fatal("the second SYN-ACK is kept back")
		}
		h.want(peer.tcp(40000, "web", packet.ACK, clientNext, acked+1, ""), ReasonFlow)
		peer.mustEnter(40000, "web", alice)
		h.want(peer.tcp(40000, "web", packet.ACK, clientNext, acked+1, "data"), ReasonFlow)
	}
}

func TestGateDropsSYNACKToUnknownSYN(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustGetSYNACK(40000, "web")
	if h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, 1, 4242, "")) {
		t.Error("an answer to a SYN that was not admitted leaves")
	}
	h.want(peer.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
	peer.mustEnter(40000, "web", alice)
	if h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, 1, clientNext, "")) {
		t.Error("another SYN-ACK leaves on a live flow")
	}
	if !h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, ourISS, clientNext, "")) {
		t.Error("the SYN-ACK sent again is kept back")
	}
}

// RFC 5961, 5: neither ACKs of unsent data nor of data long acknowledged. The
// flow's numbers wrap around.
func TestGateTakesACKsWithinWindowOnly(t *testing.T) {
	for _, iss := range []uint32{ourISS, math.MaxUint32 - 100_000, math.MaxUint32, 1<<31 - 1} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(40000, "db"), ReasonGrant)
		h.egress(peer.reply(40000, "db", packet.SYN|packet.ACK, iss, clientNext, ""))
		first := iss + 1
		h.want(peer.tcp(40000, "db", packet.ACK, clientNext, first, ""), ReasonFlow)
		peer.mustEnter(40000, "db", alice)
		const sent = 200_000
		for n := uint32(0); n < sent; n += 50_000 {
			h.egress(peer.reply(40000, "db", packet.ACK, first+n, clientNext, string(make([]byte, 50_000))))
		}
		ack := func(n int) []byte { return peer.tcp(40000, "db", packet.ACK, clientNext, first+uint32(n), "data") }
		h.want(ack(sent+1), ReasonOutOfWindow)
		h.want(ack(1<<31), ReasonOutOfWindow)
		h.want(ack(sent), ReasonFlow) // all that was in flight, which is what may be late from now on
		h.want(ack(0), ReasonFlow)
		h.want(ack(-1), ReasonOutOfWindow)
		h.want(ack(sent/2), ReasonFlow)
		h.want(ack(-1<<31), ReasonOutOfWindow)
	}
}

func TestGateTakesWhatWindowAllows(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "db"), ReasonGrant)
	announce := func(flags uint8, seq, ack uint32, window uint16, options ...byte) {
		t.Helper()
		b := packettest.TCP{Src: peer.server("db"), Dst: netip.AddrPortFrom(peer.addr, 40000), Flags: flags, Seq: seq, Ack: ack, Window: window, Options: options}.Packet()
		if !h.egress(b) {
			t.Fatal("kept back")
		}
	}
	announce(packet.SYN|packet.ACK, ourISS, clientNext, 29200, 2, 4, 5, 180, 1, 3, 3, 7) // scaled by 128 from now on
	at := func(seq uint32, want Reason) {
		t.Helper()
		h.want(peer.tcp(40000, "db", packet.ACK, seq, ourISS+1, "x"), want)
	}
	at(clientNext+29202, ReasonOutOfWindow)
	at(clientNext+29200, ReasonFlow)
	peer.mustEnter(40000, "db", alice)
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
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	for _, flags := range []uint8{0, packet.FIN, packet.PSH, packet.URG, packet.FIN | packet.PSH | packet.URG, packet.SYN | packet.ACK, packet.SYN | packet.FIN, packet.SYN | packet.RST} {
		h.want(peer.tcp(40000, "db", flags, clientNext, ourISS+1, "x"), ReasonOutOfWindow)
	}
}

func TestGateAnswersFINAgainInTIMEWAIT(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db") // 100 bytes in flight from ourISS+1
	fin := peer.tcp(40000, "db", packet.FIN|packet.ACK, clientNext, ourISS+102, "")
	h.egress(peer.reply(40000, "db", packet.FIN|packet.ACK, ourISS+101, clientNext, ""))
	h.want(fin, ReasonFlow)
	h.egress(peer.reply(40000, "db", packet.ACK, ourISS+102, clientNext+1, ""))
	h.closeStates[peer.tuple(40000, "db")] = EndpointTimeWait
	h.gate.RelayDone(peer.tuple(40000, "db"))
	h.want(fin, ReasonFlow)
	h.want(peer.tcp(40000, "db", packet.FIN|packet.ACK, clientNext, ourISS+103, ""), ReasonOutOfWindow)
	if !h.egress(peer.reply(40000, "db", packet.ACK, ourISS+102, clientNext+1, "")) {
		t.Error("its answer is kept back")
	}
}

// Only the stack can verify a cookie, so a forged ACK must not keep the
// client's ACK from it.
func TestGateLeavesCookiesToStack(t *testing.T) {
	h := newHarness(t, fewHalfOpen, withBans)
	peer, flood := h.peer("192.0.2.1"), h.peer("198.51.100.1")
	for port := range uint16(4) {
		h.want(flood.syn(port+1, "web"), ReasonOpen)
	}
	h.want(peer.tcp(40000, "web", packet.ACK, 1<<30, 1<<30, ""), ReasonCookie) // forged
	h.want(peer.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, ""), ReasonFlow)
	peer.mustHandshake(40000, "web") // the stack has found a cookie in one of them
	h.want(peer.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, "data"), ReasonFlow)
	h.egress(peer.reply(40000, "web", packet.ACK, ourISS+1, clientNext+4, "")) // it says which
	h.want(peer.tcp(40000, "web", packet.ACK, clientNext+4, ourISS+1, "data"), ReasonFlow)
	h.want(peer.tcp(40000, "web", packet.ACK, 1<<30, 1<<30, "data"), ReasonOutOfWindow)
}

func TestGateCountsNothingAgainstUnprovenAddress(t *testing.T) {
	h := newHarness(t, withBans, func(o *Options) { o.Limits.FlowsPerSource = 2 })
	peer := h.peer("192.0.2.1")
	peer.mustGetSYNACK(1, "web")
	for range 10 {
		h.gate.Failed(peer.tuple(1, "web"))
		h.gate.Failed(peer.tuple(2, "web")) // of no flow
	}
	if n := len(h.gate.Bans(10)); n != 0 {
		t.Errorf("%d bans without a handshake", n)
	}
	for port := range uint16(10) {
		h.want(peer.syn(100+port, "web"), ReasonOpen)
		h.want(peer.tcp(100+port, "web", packet.ACK, clientNext, 4711, ""), ReasonOutOfWindow)
	}
	for n := range uint16(2) {
		h.want(peer.syn(200+n, "web"), ReasonOpen)
		peer.mustHandshake(200+n, "web")
	}
	h.want(peer.syn(300, "web"), ReasonSourceLimit)
}

// A capture may have one direction only.
func TestSimulatorPassesOneDirection(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	judge, err := NewSimulator(Options{
		Policy: testPolicy(alice), Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(*packet.Packet, Verdict) {}, Evicted: func(packet.Tuple) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ack := peer.tcp(40000, "web", packet.ACK, clientNext, ourISS+1, "data")
	judge.Admit(parsed(peer.syn(40000, "web")))
	if got := judge.Admit(parsed(ack)); got.Action != Pass {
		t.Errorf("the ACK of a SYN-ACK that the capture has not: %v", got.Reason)
	}
	var p packet.Packet
	p.DecodeTCP(peer.reply(40001, "web", packet.SYN|packet.ACK, 1, 1, ""))
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

// A half-open flow whose stack has given up is reused by its client's next SYN.
func TestGateTakesNewSYNOfAbandonedHandshake(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustGetSYNACK(40000, "web")
	h.want(peer.tcp(40000, "web", packet.RST, clientNext, 0, ""), ReasonFlow)
	h.Advance(time.Minute)
	h.want(peer.tcp(40000, "web", packet.SYN, 1<<31, 0, ""), ReasonFlow)
	if !h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, 42, 1<<31+1, "")) {
		t.Fatal("it is not answered")
	}
	h.want(peer.tcp(40000, "web", packet.ACK, 1<<31+1, 43, ""), ReasonFlow)
	peer.mustEnter(40000, "web", alice)
}
