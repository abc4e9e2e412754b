package admission

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// manyFlows admits n flows of the clients in turn and returns them.
func manyFlows(b *testing.B, g *Gate, peer testPeer, clients []*policy.Client, n int) {
	b.Helper()
	for i := range n {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0a000001+uint32(i/100))
		peer.addr = netip.AddrFrom4(a)
		port := uint16(1000 + i%100)
		t := peer.tuple(port, "web")
		p := parsed(peer.syn(port, "web"))
		if got := g.Admit(p); got.Action != Pass {
			b.Fatal(got.Reason)
		}
		c := clients[i%len(clients)].Keys[0].Identity
		if err := g.HandshakeDone(t); err != nil {
			b.Fatal(err)
		}
		if err := g.Authenticate(t, c, "", succeed); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSetPolicyBesideMany measures a change of policy, and the part of it
// during which packets wait, with 10,000 clients, every method and 100,000
// flows.
func BenchmarkSetPolicyBesideMany(b *testing.B) {
	const clients, flows = 10_000, 100_000
	var all []*policy.Client
	for i := range clients {
		id, err := protocol.NewClient(fmt.Sprintf("client %d", i), fmt.Appendf(nil, "the secret of client %d", i))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, policy.NewClient(id))
	}
	h := newHarness(b, allMethods(withClients(all...)), func(o *Options) { o.Limits.HalfOpen = 100 })
	peer := h.peer("10.0.0.1")
	manyFlows(b, h.gate, peer, all, flows)
	g := h.gate
	gone := all[0].ID
	next := []*policy.Policy{reloadedPolicy(g.Policy(), removeClient(gone)), reloadedPolicy(g.Policy())}
	var longest, held time.Duration
	over := make(chan struct{})
	done := make(chan struct{})
	go func() { // a packet of a flow, again and again
		defer close(done)
		p := parsed(h.peer("10.0.0.1").tcp(1001, "web", packet.ACK, 1001, 1, "data"))
		for {
			select {
			case <-over:
				return
			default:
			}
			began := time.Now()
			g.Admit(p)
			longest = max(longest, time.Since(began))
			time.Sleep(10 * time.Microsecond)
		}
	}()
	n := 0
	for b.Loop() {
		i := stagePolicy(next[n%2], g.servicesByName)
		g.mu.Lock()
		began := time.Now()
		g.commit(i)
		held = max(held, time.Since(began))
		g.mu.Unlock()
		g.SetPolicy(next[n%2])
		n++
	}
	close(over)
	<-done
	b.ReportMetric(float64(held.Nanoseconds()), "swap-ns-max")
	b.ReportMetric(float64(longest.Microseconds()), "packet-µs-max")
}
