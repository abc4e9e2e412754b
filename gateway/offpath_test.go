package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// An off-path attacker knows the addresses and ports of a connection, and can
// send anything with the client's address. It does not see the packets, so it
// knows no sequence number of either direction. A guess may hit the window or
// an acknowledgment, which are ranges, but not both at once, and no single
// number. Whatever it sends, at any time and in any number of fragments, the
// connection is what it would be without the attack, and no failure is counted
// for its client.
//
//	client of packets --.
//	                    wire ==== device -- netstack.Stack, asking the gate -- echo
//	attacker -----------'
func TestOffPathAttackerChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOffPath(t)
		defer o.end()
		o.connect()
		o.talk()
		o.closeConn()
		o.verify()
	})
}

const (
	offPathWait  = 10 * time.Second     // for what must happen
	offPathQuiet = 2 * time.Millisecond // for the stack to work off what it was given
	offPathKnock = 62201
	offPathISN   = 4_000_000_000 // wraps around after 295 MB
	offPathAuth  = "PASS"        // the authentication of this test
	offPathClose = "BYE!"        // has the service close first
)

// failer has the methods of *rapid.T and *testing.T that the test needs.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// offPath is a connection to a service, and an attacker.
type offPath struct {
	failer
	draws *rapid.T // nil where nothing is drawn
	gate  *admission.Gate
	stack *netstack.Stack
	wire  *tuntest.Device
	stop  context.CancelFunc
	wg    sync.WaitGroup
	put   uint64 // packets that were put on the wire

	alice    *protocol.Client
	mode     policy.Mode
	open     bool
	src, dst netip.AddrPort
	seq, ack uint32 // the client's next, and what it expects
	una      uint32 // of the service's numbers, what the client has acknowledged
	echoed   bytes.Buffer
	sent     bytes.Buffer
	fin      bool // the service's has come

	requests, completed, failed, bans atomic.Int64
	knocked                           chan knock.Event
	mu                                sync.Mutex
	heard                             bytes.Buffer // by the service
}

func newOffPath(t *rapid.T) *offPath {
	o := &offPath{failer: t, draws: t, knocked: make(chan knock.Event, 64), seq: offPathISN}
	service := rapid.SampledFrom([]policy.Service{
		{Name: "db", Port: 5432, Mode: policy.ModeKnock},
		{Name: "ssh", Port: 22, Mode: policy.ModeKnockAuth},
		{Name: "web", Port: 443, Mode: policy.ModeAuth},
	}).Draw(t, "service")
	o.src, o.dst = netip.MustParseAddrPort("192.0.2.1:40000"), netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), service.Port)
	if rapid.Bool().Draw(t, "IPv6") {
		o.src, o.dst = netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.AddrPortFrom(netip.MustParseAddr("fd77::1"), service.Port)
	}
	o.start(service, rapid.Bool().Draw(t, "offload"), admission.Ban{After: 1, Within: time.Hour, For: time.Hour})
	if o.mode != policy.ModeAuth {
		o.knock()
	}
	return o
}

// start starts a gate with this service, and the stack behind it.
func (o *offPath) start(service policy.Service, offload bool, ban admission.Ban) {
	var err error
	if o.alice, err = protocol.NewClient("alice", []byte("alice, whose secret is long enough")); err != nil {
		o.Fatal(err)
	}
	service.Listen = netip.PrefixFrom(o.dst.Addr(), o.dst.Addr().BitLen())
	service.GrantTTL, service.GrantUses, service.AuthDeadline = time.Minute, 1, time.Minute
	service.Clients = []*policy.Client{policy.NewClient(o.alice)}
	if o.mode = service.Mode; o.mode != policy.ModeAuth {
		service.Methods = policy.MethodUDP
	}
	o.open = service.Open()
	policy, err := policy.New(policy.Options{KnockPort: offPathKnock, Window: time.Minute, Services: []policy.Service{service}})
	if err != nil {
		o.Fatal(err)
	}
	decision := func(v admission.Verdict) netstack.Decision {
		return netstack.Decision{Pass: v.Action == admission.Pass, Open: v.Open, TupleReused: v.TupleReused}
	}
	o.gate, err = admission.New(admission.Options{
		Policy: policy, Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(p *packet.Packet, v admission.Verdict) { o.stack.Inject(p, decision(v)) },
		Evicted: func(t packet.Tuple) { o.stack.Abort(t) },
		Knocked: func(e knock.Event) { o.knocked <- e },
		Banned:  func(admission.BanEvent) { o.bans.Add(1) },
		CloseState: func(t packet.Tuple) admission.CloseState {
			return [...]admission.CloseState{netstack.Closed: admission.EndpointClosed, netstack.TimeWait: admission.EndpointTimeWait, netstack.Closing: admission.EndpointBusy}[o.stack.CloseState(t)]
		},
		TimeWait: netstack.TimeWaitTime,
		Ban:      ban,
		Limits:   admission.Limits{Knocks: 16, DeferredSYNs: 16},
	})
	if err != nil {
		o.Fatal(err)
	}
	device, wire := tuntest.Pair(testMTU, offload)
	o.wire = wire
	var ports []uint16
	if o.open {
		ports = append(ports, o.dst.Port())
	}
	o.stack, err = netstack.New(netstack.Options{
		Device: device, Egress: o.gate.Egress, OpenPorts: ports,
		Admit:  func(p *packet.Packet) netstack.Decision { return decision(o.gate.Admit(p)) },
		Handle: func(r *netstack.Request) { o.serve(r) },
	})
	if err != nil {
		o.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	o.wg.Go(func() { _ = o.gate.Run(ctx) })
	o.wg.Go(func() { _ = o.stack.Run(ctx) })
}

func (o *offPath) end() {
	o.stop()
	o.wg.Wait()
}

// serve acts as the flows do, with an authentication of four bytes and an echo.
func (o *offPath) serve(r *netstack.Request) {
	o.requests.Add(1)
	conn, err := r.Accept()
	if err != nil {
		o.gate.Remove(r.Tuple)
		return
	}
	if err := o.gate.HandshakeDone(r.Tuple); err != nil {
		conn.Abort()
		o.gate.Remove(r.Tuple)
		return
	}
	o.completed.Add(1)
	defer o.gate.RelayDone(r.Tuple)
	defer func() { _ = conn.Close() }()
	if o.mode != policy.ModeKnock {
		hello := make([]byte, len(offPathAuth))
		if _, err := io.ReadFull(conn, hello); err != nil || string(hello) != offPathAuth {
			o.failed.Add(1)
			o.gate.Failed(r.Tuple)
			conn.Abort()
			return
		}
		if err := o.gate.Authenticate(r.Tuple, o.alice, "", func() error { return nil }); err != nil {
			o.failed.Add(1)
			conn.Abort()
			return
		}
	}
	b := make([]byte, 64<<10)
	for {
		n, err := conn.Read(b)
		o.mu.Lock()
		o.heard.Write(b[:n])
		o.mu.Unlock()
		if _, werr := conn.Write(b[:n]); err != nil || werr != nil || bytes.HasSuffix(b[:n], []byte(offPathClose)) {
			return
		}
	}
}

func (o *offPath) knock() {
	m := protocol.KnockMessage{Method: protocol.MethodUDP, Time: time.Now().UnixMilli()}
	b, err := protocol.AppendKnock(nil, o.alice, o.dst.Port(), &m, rand.Reader)
	if err != nil {
		o.Fatal(err)
	}
	o.inject(packettest.UDP{Src: netip.AddrPortFrom(o.src.Addr(), 50000), Dst: netip.AddrPortFrom(o.dst.Addr(), offPathKnock), Payload: b}.Packet())
	select {
	case e := <-o.knocked:
		if e.Result != knock.OK {
			o.Fatalf("knock: %v", e.Result)
		}
	case <-time.After(offPathWait):
		o.Fatalf("the knock is not decided")
	}
}

// inject puts packets on the wire, and waits until the gate has processed them.
func (o *offPath) inject(packets ...[]byte) {
	o.Helper()
	for _, b := range packets {
		if err := o.wire.Write(packet.Offload{}, [][]byte{b}); err != nil {
			o.Fatal(err)
		}
		o.put++
	}
	for end := time.Now().Add(offPathWait); o.stack.Ticks() < 2*o.put; time.Sleep(10 * time.Microsecond) {
		if time.Now().After(end) {
			o.Fatalf("the gate has judged %d of %d packets", o.stack.Ticks()/2, o.put)
		}
	}
}

// send sends a segment of the client.
func (o *offPath) send(flags uint8, seq uint32, payload string) {
	o.Helper()
	s := packettest.TCP{Src: o.src, Dst: o.dst, Flags: flags, Seq: seq, Window: 60000, Payload: []byte(payload)}
	if flags&packet.ACK != 0 {
		s.Ack = o.ack
	}
	if flags&packet.SYN != 0 {
		s.Options = []byte{2, 4, 5, 180, 1, 3, 3, 7}
	}
	o.inject(s.Packet())
}

// receive reads packets until done, and acknowledges data as a client does.
func (o *offPath) receive(what string, done func(p *packet.Packet) bool) {
	o.Helper()
	var p packet.Packet
	for end := time.Now().Add(offPathWait); ; {
		if !o.wire.TryRead(&p) {
			if time.Now().After(end) {
				o.Fatalf("%s does not come: %s", what, o.state())
			}
			time.Sleep(20 * time.Microsecond)
			continue
		}
		if p.Parse(); o.draws == nil && p.Tuple.Destination() != o.src {
			continue // of an earlier connection
		}
		if p.DropReason != packet.NotDropped || p.Proto != packet.TCP || p.Tuple.Destination() != o.src || p.Tuple.Source() != o.dst {
			o.Fatalf("a packet leaves that is not for the client: %v %v", p.DropReason, p.Tuple)
		}
		if p.Flags&packet.RST != 0 {
			o.Fatalf("waiting for %s, the client is reset", what)
		}
		if p.Flags&packet.SYN == 0 && p.Seq == o.ack {
			o.take(&p)
		}
		if done(&p) {
			return
		}
	}
}

// take processes the next segment in order.
func (o *offPath) take(p *packet.Packet) {
	payload := p.Data[p.Payload:]
	o.echoed.Write(payload)
	o.ack += uint32(len(payload))
	if p.Flags&packet.FIN != 0 {
		o.ack++
		o.fin = true
	}
}

func (o *offPath) connect() {
	o.send(packet.SYN, o.seq, "")
	o.seq++
	o.attack("the SYN is on its way", true)
	o.receive("the SYN-ACK", func(p *packet.Packet) bool {
		if p.Flags != packet.SYN|packet.ACK {
			return false // a challenge ACK
		}
		o.ack, o.una = p.Seq+1, p.Seq+1
		return p.Ack == o.seq
	})
	o.attack("the SYN-ACK is on its way", true)
	time.Sleep(offPathQuiet)
	if n := o.completed.Load(); n != 0 {
		o.Fatalf("the handshake is done, and the client has said nothing yet")
	}
	o.send(packet.ACK, o.seq, "")
	o.attack("the handshake is done", true)
	if o.mode != policy.ModeKnock {
		o.send(packet.ACK|packet.PSH, o.seq, offPathAuth)
		o.seq += uint32(len(offPathAuth))
		o.attack("the authentication is under way", true)
	}
}

// talk exchanges messages, some of them out of order.
func (o *offPath) talk() {
	for n := range rapid.IntRange(1, 4).Draw(o.draws, "messages") {
		message := bytes.Repeat([]byte{byte('a' + n)}, rapid.IntRange(2, 1300).Draw(o.draws, "bytes"))
		half := len(message) / 2
		if rapid.Bool().Draw(o.draws, "out of order") {
			o.send(packet.ACK|packet.PSH, o.seq+uint32(half), string(message[half:]))
			o.attack("a segment is missing", true)
			o.send(packet.ACK, o.seq, string(message[:half]))
		} else {
			o.send(packet.ACK|packet.PSH, o.seq, string(message))
		}
		o.seq += uint32(len(message))
		o.sent.Write(message)
		o.attack("the echo is in flight", true)
		o.receive("the echo", func(*packet.Packet) bool { return o.echoed.Len() >= o.sent.Len() })
		if !bytes.Equal(o.echoed.Bytes(), o.sent.Bytes()) {
			o.Fatalf("the client hears something else than it said")
		}
		o.una = o.ack
		o.send(packet.ACK, o.seq, "")
		o.attack("the connection is idle", true)
	}
}

// closeConn closes the connection in an orderly way.
func (o *offPath) closeConn() {
	finished := func(p *packet.Packet) bool { return p.Ack == o.seq && o.fin }
	if rapid.Bool().Draw(o.draws, "the client closes first") {
		o.send(packet.FIN|packet.ACK, o.seq, "")
		o.seq++
		o.attack("the client's FIN is on its way", true)
		o.receive("the FIN", finished)
		o.send(packet.ACK, o.seq, "")
		return
	}
	o.send(packet.ACK|packet.PSH, o.seq, offPathClose)
	o.seq += uint32(len(offPathClose))
	o.sent.WriteString(offPathClose)
	o.receive("the service's FIN", finished)
	o.send(packet.ACK, o.seq, "")
	o.attack("the service's FIN is acknowledged", true)
	o.seq++
	for range 2 { // the answer to the first may have been lost
		o.send(packet.FIN|packet.ACK, o.seq-1, "")
		o.receive("the last ACK", func(p *packet.Packet) bool { return p.Ack == o.seq })
		// A SYN may reuse the tuple in TIME_WAIT (RFC 1122, 4.2.2.13).
		o.attack("the endpoint is in TIME_WAIT", false)
	}
}
