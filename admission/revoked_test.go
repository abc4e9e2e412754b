package admission

import (
	"testing"

	"github.com/knockgw/knockgw/packet"
)

func TestRevokedFlowSendsOnlyResets(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		v.session(40000, "db")
		w.gate.Revoke(Target{Client: "alice"})
		w.check()
		for _, flags := range []uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.SYN | packet.ACK} {
			if w.egress(v.reply(40000, "db", flags, 5101, 1001, "")) {
				t.Errorf("%s: a packet with flags %x left", addr, flags)
			}
		}
		if !w.egress(v.reply(40000, "db", packet.RST|packet.ACK, 5101, 1001, "")) {
			t.Errorf("%s: no reset left", addr)
		}
		// What the client sends because the reset was lost is answered.
		if r := w.want(v.tcp(40000, "db", packet.ACK, 1001, 5101, "data"), ReasonFlow); !r.Reset {
			t.Errorf("%s: its segment is no reason for a reset: %+v", addr, r)
		}
		w.want(v.tcp(40000, "db", packet.ACK, 1001, 5101+1<<30, "forged"), ReasonOutOfWindow)
		if again := w.gate.Revoke(Target{Client: "alice"}); again.Flows != 0 {
			t.Errorf("%s: it was revoked twice: %+v", addr, again)
		}

		// It may begin another, and this one is forgotten.
		v.knocks(alice, "db", "")
		w.want(v.tcp(40000, "db", packet.SYN, 900000, 0, ""), ReasonGrant)
		w.gate.Remove(v.tuple(40000, "db"))
		v.session(40001, "db")
		w.gate.Revoke(Target{})
		w.pass(revokeTime + testTimeWait)
		w.sweep()
		w.want(v.tcp(40001, "db", packet.ACK, 1001, 5101, "data"), ReasonNoFlow)
		if w.egress(v.reply(40001, "db", packet.RST|packet.ACK, 5101, 1001, "")) {
			t.Errorf("%s: a reset left to a client that is forgotten", addr)
		}
	})
}

func TestRevokedHandshakeGetsNoReset(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		w.want(v.syn(40000, "web"), ReasonOpen)
		w.egress(v.reply(40000, "web", packet.SYN|packet.ACK, 5000, 1001, ""))
		w.want(v.tcp(40000, "web", packet.ACK, 1001, 5001, ""), ReasonFlow)
		w.gate.Revoke(Target{})
		if w.egress(v.reply(40000, "web", packet.RST|packet.ACK, 5001, 1001, "")) {
			t.Errorf("%s: a reset left", addr)
		}
		w.want(v.tcp(40000, "web", packet.ACK, 1001, 5001, ""), ReasonNoFlow)
	})
}
