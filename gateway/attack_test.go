package gateway_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// promptConnect is the maximum median time of a client's connection during
	// an attack, unless it takes a fifth of that without one, as on a busy
	// machine.
	promptConnect = 50 * time.Millisecond
	slowdown      = 5
	connects      = 20

	// attackFlows is the size of the flow table under attack: small, so that it
	// fills quickly.
	attackFlows = 4096
	// attackRate is the rate of an attack in packets per second, after it has
	// filled what it can.
	attackRate = 1000

	// resend is the interval between SYNs of an attacker.
	resend = 100 * time.Millisecond
)

// notUnderRace skips a test that measures a gateway under full load.
func notUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("with the race detector, an attack takes the whole processor; the tests of admission and flows look for races")
	}
}

// underAttack returns a harness whose open services have a long deadline.
func underAttack(t *testing.T, flows int) (*harness, *prometheus.Registry) {
	t.Helper()
	up := echoUpstream(t)
	registry := prometheus.NewRegistry()
	h := newHarness(t, true, fmt.Sprintf(`  - {name: open, listen: "10.77.0.1:1", upstream: %q, mode: auth, auth: {deadline: 60s}}
  - {name: open2, listen: "10.77.0.1:4", upstream: %q, mode: knock-auth, visible: true, auth: {deadline: 60s}}
  - {name: knock, listen: "10.77.0.1:2", upstream: %q, mode: knock, grant: {ttl: 30s}}
  - {name: hidden, listen: "10.77.0.1:3", upstream: %q, mode: knock-auth, grant: {ttl: 30s}}
limits: {flows: %d}
ban: {after: 0}
`, up, up, up, up, flows), func(o *gateway.Options) { o.Registry = registry })
	return h, registry
}

func (h *harness) inject(b []byte) { _ = h.wire.Write(packet.Offload{}, [][]byte{b}) }

// injectAll injects n packets no faster than the gateway reads them, and waits
// for that: packets that overflow the device are lost, including knocks.
func (h *harness) injectAll(n int, packet func(n int) []byte) {
	const burst = 256
	for i := range n {
		h.inject(packet(i))
		for i%burst == burst-1 && h.wire.Unread() > burst {
			time.Sleep(time.Millisecond)
		}
	}
	for h.wire.Unread() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// medianConnect returns the median time in which a client reaches a hidden
// service.
func (h *harness) medianConnect(port uint16) time.Duration {
	h.Helper()
	var took []time.Duration
	for range connects {
		began := time.Now()
		conn, err := h.connectAs(alice, clientAddrs[0], port)
		if err != nil {
			h.Fatalf("a client does not get in: %v", err)
		}
		took = append(took, time.Since(began))
		_ = conn.Close()
	}
	slices.Sort(took)
	return took[connects/2]
}

// attackerAddr returns the address of the n-th attacker.
func attackerAddr(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0xc6120000+uint32(n)%(1<<17)) // 198.18.0.0/15
	return netip.AddrFrom4(b)
}

func synFrom(a netip.Addr, n int, port uint16) []byte {
	return packettest.SYN(netip.AddrPortFrom(a, uint16(1024+n%60000)), target(a, port), rand.Uint32())
}

// An attack fills tables, and then continues with one packet after another.
type attack struct {
	name   string
	fill   int
	before func(h *harness)
	packet func(n int) []byte
}

// handshakesOf returns the attack of a client that knocks and completes no
// handshake.
func handshakesOf(c *protocol.Client, from netip.Addr) attack {
	const grants = 100
	to := target(from, modeKnockAuth)
	return attack{
		name: "handshakes of a client that completes none", fill: 20_000,
		before: func(h *harness) {
			for range grants {
				h.inject(packettest.UDP{
					Src: netip.AddrPortFrom(from, 5000), Dst: netip.AddrPortFrom(to.Addr(), config.DefaultUDPPort),
					Payload: knockFor(c, to, newSession(), time.Now()),
				}.Packet())
				time.Sleep(time.Millisecond)
			}
		},
		packet: func(n int) []byte { return synFrom(from, n, modeKnockAuth) },
	}
}

func TestGatewayAdmitsClientDuringAttack(t *testing.T) {
	notUnderRace(t)
	for _, a := range []attack{
		{name: "SYNs to open services", fill: 4 * attackFlows, packet: func(n int) []byte {
			return synFrom(attackerAddr(n), n, []uint16{modeAuth, modeVisible}[n%2])
		}},
		{name: "SYNs to a hidden service with the client's address", fill: 1000, packet: func(n int) []byte {
			return synFrom(clientAddrs[0], n, modeKnockAuth)
		}},
		{name: "SYNs to a service of mode knock with the client's address", fill: 1000, packet: func(n int) []byte {
			return synFrom(clientAddrs[0], n, modeKnock)
		}},
		handshakesOf(bob, netip.MustParseAddr("192.0.2.77")),
	} {
		t.Run(a.name, func(t *testing.T) {
			h, registry := underAttack(t, attackFlows)
			for _, port := range []uint16{modeKnockAuth, modeKnock} {
				quiet := h.medianConnect(port)
				if a.before != nil {
					a.before(h)
				}
				h.injectAll(a.fill, a.packet)
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					ticker := time.NewTicker(time.Second / attackRate)
					defer ticker.Stop()
					for n := a.fill; ctx.Err() == nil; n++ {
						h.inject(a.packet(n))
						<-ticker.C
					}
				})
				got := h.medianConnect(port)
				stop()
				wg.Wait()
				t.Logf("a visit at port %d takes %v, without the attack %v", port, got, quiet)
				if got > max(promptConnect, slowdown*quiet) {
					t.Errorf("a visit at port %d takes %v, without the attack %v", port, got, quiet)
				}
			}
			used, limit := usage(t, registry)
			for _, of := range []string{"handshakes", "open_service_flows", "hidden_handshakes", "flow_table_entries", "handshakes_per_source"} {
				t.Logf("%s: %v of %v", of, used[of], limit[of])
				if used[of] > limit[of] {
					t.Errorf("%s: %v of %v", of, used[of], limit[of])
				}
			}
		})
	}
}

func TestForgedSYNsDialOncePerGrantUse(t *testing.T) {
	const forged = 5000
	var dialed atomic.Int64
	h := newHarness(t, true, services(upstream(t, func(c net.Conn) {
		dialed.Add(1)
		_, _ = io.Copy(c, c)
	})))

	to, session := target(clientAddrs[0], modeKnock), newSession()
	h.datagram(clientAddrs[0], to, knockFor(alice, to, session, time.Now()))
	h.injectAll(forged, func(n int) []byte { return synFrom(clientAddrs[0], n, modeKnock) })
	// The client that owns the grant completes its handshake.
	conn, err := h.dial(clientAddrs[0], to, timeout)
	if err != nil {
		t.Fatal(err)
	}
	h.exchange(conn, 1<<10)
	// Whenever no handshake was in progress, the connection was closed, and
	// dialed again for the next one.
	t.Logf("%d forged SYNs, %d connections at the upstream", forged, dialed.Load())
	if n := dialed.Load(); n == 0 || n > forged/10 {
		t.Errorf("%d forged SYNs of a grant of one use, %d connections at the upstream", forged, n)
	}
}

// junkConnections completes n handshakes with an open service from one address,
// and returns the next sequence numbers of both sides, by source port.
func (h *harness) junkConnections(from netip.Addr, n int) map[uint16][2]uint32 {
	h.Helper()
	var mu sync.Mutex
	open := make(map[uint16][2]uint32)
	tap := func(p *packet.Packet) {
		if p.Tuple.Dst.Netip() != from || p.Flags&(packet.SYN|packet.ACK) != packet.SYN|packet.ACK {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		open[p.Tuple.DstPort] = [2]uint32{p.Ack, p.Seq + 1}
	}
	h.tap.Store(&tap)
	defer h.tap.Store(nil)
	to := target(from, modeAuth)
	for port := range uint16(n) {
		src := netip.AddrPortFrom(from, 1024+port)
		h.inject(packettest.SYN(src, to, 1000))
		for sent := time.Now(); ; {
			mu.Lock()
			numbers, ok := open[src.Port()]
			mu.Unlock()
			if ok {
				h.inject(packettest.TCP{Src: src, Dst: to, Flags: packet.ACK, Seq: numbers[0], Ack: numbers[1]}.Packet())
				break
			}
			if time.Since(sent) > resend {
				sent = time.Now()
				h.inject(packettest.SYN(src, to, 1000))
			}
			runtime.Gosched()
		}
	}
	return open
}

func liveHeap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first has put out of sync.Pools
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestJunkConnectionsHoldLittleMemory(t *testing.T) {
	const (
		connections = 1000
		segments    = 700
		maxMemory   = 64 << 20
	)
	notUnderRace(t)
	h, registry := underAttack(t, 1<<17)
	quiet := h.medianConnect(modeKnockAuth)
	before := liveHeap()

	from := netip.MustParseAddr("192.0.2.99")
	to := target(from, modeAuth)
	open := h.junkConnections(from, connections)
	for port, numbers := range open {
		src := netip.AddrPortFrom(from, port)
		h.injectAll(segments, func(n int) []byte { // of a byte, with holes between them
			return packettest.TCP{Src: src, Dst: to, Flags: packet.ACK, Seq: numbers[0] + 10 + 2*uint32(n), Ack: numbers[1], Payload: []byte("x")}.Packet()
		})
	}

	got := h.medianConnect(modeKnockAuth)
	grown := liveHeap() - before
	used, limit := usage(t, registry)
	t.Logf("heap: %+.1f MiB; unauthenticated: %v connections, %.1f of %.1f MiB; a visit takes %v, before %v", float64(grown)/(1<<20),
		used["open_service_connections"], used["unauthenticated_bytes"]/(1<<20), limit["unauthenticated_bytes"]/(1<<20), got, quiet)
	if grown > maxMemory {
		t.Errorf("%d connections hold %d MiB", connections, grown>>20)
	}
	if used["open_service_connections"] < connections*9/10 || used["unauthenticated_bytes"] < 10<<20 {
		t.Errorf("the attack fails: %v connections, %v bytes", used["open_service_connections"], used["unauthenticated_bytes"])
	}
	if got > max(promptConnect, slowdown*quiet) {
		t.Errorf("a visit takes %v, without the attack %v", got, quiet)
	}
}
