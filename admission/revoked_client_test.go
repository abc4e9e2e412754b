package admission

import (
	"testing"

	"github.com/knockgw/knockgw/packet"
)

func TestRevokedFlowSendsOnlyResets(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		peer.establish(40000, "db")
		h.gate.Revoke(Target{Client: "alice"})
		h.check()
		for _, flags := range []uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.SYN | packet.ACK} {
			if h.egress(peer.reply(40000, "db", flags, 5101, 1001, "")) {
				t.Errorf("%s: a packet with flags %x left", addr, flags)
			}
		}
		if !h.egress(peer.reply(40000, "db", packet.RST|packet.ACK, 5101, 1001, "")) {
			t.Errorf("%s: no reset left", addr)
		}
		// A segment that the client sends because the reset was lost is
		// answered.
		if r := h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, "data"), ReasonFlow); !r.Reset {
			t.Errorf("%s: its segment is no reason for a reset: %+v", addr, r)
		}
		h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101+1<<30, "forged"), ReasonOutOfWindow)
		if again := h.gate.Revoke(Target{Client: "alice"}); again.Flows != 0 {
			t.Errorf("%s: it was revoked twice: %+v", addr, again)
		}

		// The client may start another flow, and this one is removed.
		peer.mustKnock(alice, "db", "")
		h.want(peer.tcp(40000, "db", packet.SYN, 900000, 0, ""), ReasonGrant)
		h.gate.Remove(peer.tuple(40000, "db"))
		peer.establish(40001, "db")
		h.gate.Revoke(Target{})
		h.Advance(revokeTime + testTimeWait)
		h.sweep()
		h.want(peer.tcp(40001, "db", packet.ACK, 1001, 5101, "data"), ReasonNoFlow)
		if h.egress(peer.reply(40001, "db", packet.RST|packet.ACK, 5101, 1001, "")) {
			t.Errorf("%s: a reset left to a client that is forgotten", addr)
		}
	})
}

func TestRevokedHandshakeGetsNoReset(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		h.want(peer.syn(40000, "web"), ReasonOpen)
		h.egress(peer.reply(40000, "web", packet.SYN|packet.ACK, 5000, 1001, ""))
		h.want(peer.tcp(40000, "web", packet.ACK, 1001, 5001, ""), ReasonFlow)
		h.gate.Revoke(Target{})
		if h.egress(peer.reply(40000, "web", packet.RST|packet.ACK, 5001, 1001, "")) {
			t.Errorf("%s: a reset left", addr)
		}
		h.want(peer.tcp(40000, "web", packet.ACK, 1001, 5001, ""), ReasonNoFlow)
	})
}
