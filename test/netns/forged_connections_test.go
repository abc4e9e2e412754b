//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// scatteredSegments of one byte are sent out of order in each connection.
	scatteredSegments = 700
	scatteredRate     = 40_000
	// scatteredMemory is what each connection may take of the gateway, in
	// bytes, and collectedLate what the garbage collector may leave besides.
	scatteredMemory = 48 << 10
	collectedLate   = 16 << 20
	// scatteredDeadline leaves the attacker the time to send all of it.
	scatteredDeadline = "60s"
	scatteredTime     = 40 * time.Second

	// junkAuthentications are tried each second, with as many secrets to try
	// them on.
	junkAuthentications = 100
	junkClients         = 2000
	junkEnvelope        = 200 // bytes
	junkDialing         = 32
)

// scatteredConnections is how many there are: a connection took half a MiB of
// the first version.
const scatteredConnections = 1000

// numbers are the first sequence numbers of both sides of connections, by the
// client's port.
type numbers struct {
	mu       sync.Mutex
	isn, iss map[uint16]uint32
}

func (n *numbers) see(direction int, packet []byte) {
	s, ok := lab.ReadSegment(packet)
	if !ok || s.Flags&lab.SYN == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if direction == 0 {
		n.isn[s.Src.Port()] = s.Seq
	} else {
		n.iss[s.Dst.Port()] = s.Seq
	}
}

// Connections to an open service that do not authenticate, but send segments
// out of order, take little of the gateway's memory.
func TestScatteredSegmentsTakeLittleMemory(t *testing.T) {
	testtool.RequireLong(t, "measures memory under attack")
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		n := numbers{isn: make(map[uint16]uint32), iss: make(map[uint16]uint32)}
		distant(t, l, n.see)
		r := recordUpstream(t, l)
		open := endpoint{name: "open", mode: "auth", listen: netip.MustParseAddrPort("10.77.0.1:8001"), upstream: r.addr}
		hidden := hiddenAt("10.77.0.1:8002", "knock-auth", r.addr, protocol.MethodUDPv2)
		text := strings.ReplaceAll(attackText("", open, hidden), "deadline: "+authDeadline.String(), "deadline: "+scatteredDeadline)
		gateway := l.NewSite(t, program.get(t), text).Start(t)
		dialer := attackedDialer(t, l, hidden, protocol.MethodUDPv2)
		medianAdmission(t, dialer, hidden, r.greeting, 3)

		before := gateway.Memory().Anonymous
		conns := dialJunk(t, l.Client, open, scatteredConnections)
		sent := scatter(t, l, open, conns, &n)
		medianAdmission(t, dialer, hidden, r.greeting, 3)
		took := gateway.Memory().Anonymous - before
		t.Logf("%d connections with %d segments took %d MiB", len(conns), sent, took>>20)
		if limit := len(conns)*scatteredMemory + collectedLate; took > limit {
			t.Errorf("%d connections took %d MiB, and may take %d", len(conns), took>>20, limit>>20)
		}
	})
}

// dialJunk opens connections that say nothing, until the test ends.
func dialJunk(t *testing.T, from *lab.Host, d endpoint, count int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, count)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	var dialing errgroup.Group
	dialing.SetLimit(junkDialing)
	for i := range conns {
		dialing.Go(func() (err error) {
			conns[i], err = from.Dial(t.Context(), "tcp", d.listen.String())
			return err
		})
	}
	if err := dialing.Wait(); err != nil {
		t.Fatal(err)
	}
	return conns
}

// scatter sends every second byte of what is the next to come in each
// connection, a segment each, and returns how many segments that were.
func scatter(t *testing.T, l *lab.Lab, d endpoint, conns []net.Conn, n *numbers) (sent int) {
	t.Helper()
	over := make(chan struct{})
	turn, all := 0, len(conns)*scatteredSegments
	next := func(b []byte) int {
		if turn == all {
			close(over)
		}
		if turn++; turn > all {
			return 0
		}
		src := conns[(turn-1)%len(conns)].LocalAddr().(*net.TCPAddr).AddrPort()
		n.mu.Lock()
		isn, iss := n.isn[src.Port()], n.iss[src.Port()]
		n.mu.Unlock()
		gap := uint32(2 + 2*((turn-1)/len(conns)))
		s := lab.Segment{Src: src, Dst: d.listen, Seq: isn + gap, Ack: iss + 1, Flags: lab.ACK | lab.PSH, Payload: []byte{'x'}}
		return len(s.Append(b[:0]))
	}
	return during(t, l, d.listen.Addr(), next, scatteredRate, func() {
		select {
		case <-over:
		case <-time.After(scatteredTime):
			t.Error("the segments have not been sent in time")
		}
	})
}

// Junk instead of authentications at an open service, with many secrets to try
// it on, keeps no client from a hidden one.
func TestJunkAuthenticationsKeepNoClientOut(t *testing.T) {
	testtool.RequireLong(t, "measures admission under attack")
	withEachFilter(t, func(t *testing.T, l *lab.Lab) {
		distant(t, l, nil)
		r := recordUpstream(t, l)
		open := endpoint{name: "open", mode: "auth", listen: netip.MustParseAddrPort("10.77.0.1:8001"), upstream: r.addr}
		hidden := hiddenAt("10.77.0.1:8002", "knock-auth", r.addr, protocol.MethodUDPv2)
		var text strings.Builder
		text.WriteString("knock: {udp_port: 62201, gateway: " + gatewayName + "}\nclients:\n")
		fmt.Fprintf(&text, "  - {id: alice, secret: %q}\n", aliceSecret)
		for i := range junkClients {
			fmt.Fprintf(&text, "  - {id: client-%d, secret: \"the secret of client %d\"}\n", i, i)
		}
		text.WriteString(services(open, hidden))
		l.NewSite(t, program.get(t), text.String()).Start(t)

		dialer := attackedDialer(t, l, hidden, protocol.MethodUDPv2)
		before := medianAdmission(t, dialer, hidden, r.greeting, junkNewcomers)
		ctx, stop := context.WithCancel(t.Context())
		var attack sync.WaitGroup
		attack.Go(func() { authenticateJunk(ctx, l.Attacker, open) })
		under := medianAdmission(t, dialer, hidden, r.greeting, junkNewcomers)
		stop()
		attack.Wait()
		t.Logf("median %v, under attack %v", before, under)
		if under > before+attackSlack {
			t.Errorf("junk authentications delay clients: median %v, under attack %v", before, under)
		}
		r.onlyClients(t)
	})
}

// authenticateJunk begins connections at a rate until ctx ends; each sends an
// envelope of random bytes and waits for the gateway to end it.
func authenticateJunk(ctx context.Context, from *lab.Host, d endpoint) {
	var all sync.WaitGroup
	defer all.Wait()
	random := rand.New(rand.NewPCG(attackSeed, attackSeed))
	tick := time.NewTicker(time.Second / junkAuthentications)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		envelope := make([]byte, junkEnvelope)
		for i := range envelope {
			envelope[i] = byte(random.Uint32())
		}
		all.Go(func() {
			conn, err := from.Dial(ctx, "tcp", d.listen.String())
			if err != nil {
				return // banned by then, or the test is over
			}
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			_, _ = conn.Write(envelope)
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		})
	}
}
