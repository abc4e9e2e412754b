package admission

import (
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// fewFlows lets a client have three flows at a time.
func fewFlows(o *Options) { o.Limits.FlowsPerClient = 3 }

// acknowledge sends a segment of peer on a flow.
func (peer testPeer) acknowledge(port uint16) {
	peer.h.Helper()
	peer.h.want(peer.tcp(port, "db", packet.ACK, 1001, 5001, ""), ReasonFlow)
}

func TestGateEvictsSilentFlowOfClient(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, fewFlows)
		peer := h.peer(addr)
		for port := range uint16(3) {
			peer.establish(40000+port, "db")
		}
		h.Advance(silentTime - time.Second)
		h.sweep()
		peer.acknowledge(40000)
		peer.acknowledge(40002)
		peer.mustKnock(alice, "db", "")
		h.want(peer.syn(40003, "db"), ReasonGrant)
		h.egress(peer.reply(40003, "db", packet.SYN|packet.ACK, 5000, 1001, ""))
		peer.acknowledge(40003)
		if err := h.gate.HandshakeDone(peer.tuple(40003, "db")); err != ErrLimitExceeded {
			t.Fatalf("%s: a fourth flow, while all are lively: %v", addr, err)
		}
		h.gate.Remove(peer.tuple(40003, "db"))

		h.Advance(2 * time.Second)
		h.sweep()
		peer.establish(40004, "db")
		h.notifyEvictions()
		if len(h.evicted) != 1 || h.evicted[0] != peer.tuple(40001, "db") {
			t.Errorf("%s: evicted %v, not the silent one", addr, h.evicted)
		}
		peer.acknowledge(40000)
		peer.acknowledge(40002)
	})
}

func TestSweepEvictsSilentFlowsWhenFull(t *testing.T) {
	for _, size := range []int{8, 16} {
		h := newHarness(t, func(o *Options) { o.Limits.Flows = size })
		peer := h.peer("192.0.2.1")
		for port := range uint16(8) {
			peer.establish(40000+port, "db")
		}
		h.Advance(silentTime - time.Second)
		h.sweep()
		peer.acknowledge(40000)
		h.Advance(time.Second)
		h.sweep()
		want := 0
		if size == 8 {
			want = 2 // down to three quarters
		}
		if len(h.evicted) != want {
			t.Errorf("a table of %d with 8: evicted %v", size, h.evicted)
		}
		peer.acknowledge(40000)
	}
}

func TestGateInFlight(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.establish(40000, "db")
	if n := h.gate.InFlight(peer.tuple(40000, "db")); n != 100 {
		t.Errorf("%d bytes", n)
	}
	h.want(peer.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
	if n := h.gate.InFlight(peer.tuple(40000, "db")); n != 0 {
		t.Errorf("%d bytes", n)
	}
	if n := h.gate.InFlight(peer.tuple(40001, "db")); n != 0 {
		t.Errorf("%d bytes of no flow", n)
	}
}
