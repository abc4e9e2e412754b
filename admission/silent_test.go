package admission

import (
	"testing"
	"time"

	"github.com/knockgw/knockgw/packet"
)

// fewFlows lets a client have three flows at a time.
func fewFlows(o *Options) { o.Limits.FlowsPerClient = 3 }

// hear has v send something on a flow.
func (v testPeer) hear(port uint16) {
	v.w.Helper()
	v.w.want(v.tcp(port, "db", packet.ACK, 1001, 5001, ""), ReasonFlow)
}

func TestGateEvictsSilentFlowOfClient(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, fewFlows)
		v := w.at(addr)
		for port := range uint16(3) {
			v.session(40000+port, "db")
		}
		w.pass(silentTime - time.Second)
		w.sweep()
		v.hear(40000)
		v.hear(40002)
		v.knocks(alice, "db", "")
		w.want(v.syn(40003, "db"), ReasonGrant)
		w.egress(v.reply(40003, "db", packet.SYN|packet.ACK, 5000, 1001, ""))
		v.hear(40003)
		if err := w.gate.HandshakeDone(v.tuple(40003, "db")); err != ErrLimitExceeded {
			t.Fatalf("%s: a fourth flow, while all are lively: %v", addr, err)
		}
		w.gate.Remove(v.tuple(40003, "db"))

		w.pass(2 * time.Second)
		w.sweep()
		v.session(40004, "db")
		w.tell()
		if len(w.evicted) != 1 || w.evicted[0] != v.tuple(40001, "db") {
			t.Errorf("%s: evicted %v, not the silent one", addr, w.evicted)
		}
		v.hear(40000)
		v.hear(40002)
	})
}

func TestSweepEvictsSilentFlowsWhenFull(t *testing.T) {
	for _, size := range []int{8, 16} {
		w := newHarness(t, func(o *Options) { o.Limits.Flows = size })
		v := w.at("192.0.2.1")
		for port := range uint16(8) {
			v.session(40000+port, "db")
		}
		w.pass(silentTime - time.Second)
		w.sweep()
		v.hear(40000)
		w.pass(time.Second)
		w.sweep()
		want := 0
		if size == 8 {
			want = 2 // down to three quarters
		}
		if len(w.evicted) != want {
			t.Errorf("a table of %d with 8: evicted %v", size, w.evicted)
		}
		v.hear(40000)
	}
}

func TestGateInFlight(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.session(40000, "db")
	if n := w.gate.InFlight(v.tuple(40000, "db")); n != 100 {
		t.Errorf("%d bytes", n)
	}
	w.want(v.tcp(40000, "db", packet.ACK, 1001, 5101, ""), ReasonFlow)
	if n := w.gate.InFlight(v.tuple(40000, "db")); n != 0 {
		t.Errorf("%d bytes", n)
	}
	if n := w.gate.InFlight(v.tuple(40001, "db")); n != 0 {
		t.Errorf("%d bytes of no flow", n)
	}
}
