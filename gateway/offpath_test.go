package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
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

// An attacker off the path knows the addresses and ports of a connection, and
// can send anything in the client's name. He does not see the packets, so he
// knows no number of either direction. A lucky guess may hit the window or an
// acknowledgement, which are ranges, but not both at once, and no single number.
// Whatever he sends, at any time and in any number of pieces, the connection is
// what it would be without him, and nothing is counted against its client.
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
		o.hangUp()
		o.judge()
	})
}

const (
	offPathWait  = 10 * time.Second     // for what must happen
	offPathHush  = 2 * time.Millisecond // for the stack to work off what it was given
	offPathKnock = 62201
	offPathISN   = 4_000_000_000 // wraps around after 295 MB
	offPathAuth  = "PASS"        // the authentication of this test
	offPathBye   = "BYE!"        // has the service close first
)

// failer is what a *rapid.T and a *testing.T have in common that is needed here.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// offPath is one connection to a service, and the attacker on it.
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

// start starts a gate with that service, and the stack behind it.
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

// serve is what the flows do, with an authentication of four bytes, and an echo.
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
		if _, werr := conn.Write(b[:n]); err != nil || werr != nil || bytes.HasSuffix(b[:n], []byte(offPathBye)) {
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
	o.puts(packettest.UDP{Src: netip.AddrPortFrom(o.src.Addr(), 50000), Dst: netip.AddrPortFrom(o.dst.Addr(), offPathKnock), Payload: b}.Packet())
	select {
	case e := <-o.knocked:
		if e.Result != knock.OK {
			o.Fatalf("knock: %v", e.Result)
		}
	case <-time.After(offPathWait):
		o.Fatalf("the knock is not decided")
	}
}

// puts puts packets on the wire, and waits until the gate has judged them.
func (o *offPath) puts(packets ...[]byte) {
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

// send is a segment of the client.
func (o *offPath) send(flags uint8, seq uint32, payload string) {
	o.Helper()
	s := packettest.TCP{Src: o.src, Dst: o.dst, Flags: flags, Seq: seq, Window: 60000, Payload: []byte(payload)}
	if flags&packet.ACK != 0 {
		s.Ack = o.ack
	}
	if flags&packet.SYN != 0 {
		s.Options = []byte{2, 4, 5, 180, 1, 3, 3, 7}
	}
	o.puts(s.Packet())
}

// receive takes what comes until done, acknowledging data as a client does.
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

// state is what has become of the connection.
func (o *offPath) state() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := fmt.Sprintf("%d connections, %d handshakes, %d failed authentications; the service has heard %d bytes, the client %d of %d",
		o.requests.Load(), o.completed.Load(), o.failed.Load(), o.heard.Len(), o.echoed.Len(), o.sent.Len())
	for _, c := range o.gate.Stats().Packets {
		if c.Count > 0 {
			s += fmt.Sprintf("; %d %v %s", c.Count, c.Action, c.Reason)
		}
	}
	return s
}

// take takes a segment that is the next.
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
	time.Sleep(offPathHush)
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

// talk has some messages echoed, some of which come in the wrong order.
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

// hangUp closes the connection in good order.
func (o *offPath) hangUp() {
	finished := func(p *packet.Packet) bool { return p.Ack == o.seq && o.fin }
	if rapid.Bool().Draw(o.draws, "the client closes first") {
		o.send(packet.FIN|packet.ACK, o.seq, "")
		o.seq++
		o.attack("the client's FIN is on its way", true)
		o.receive("the FIN", finished)
		o.send(packet.ACK, o.seq, "")
		return
	}
	o.send(packet.ACK|packet.PSH, o.seq, offPathBye)
	o.seq += uint32(len(offPathBye))
	o.sent.WriteString(offPathBye)
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

func (o *offPath) judge() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !bytes.Equal(o.heard.Bytes(), o.sent.Bytes()) {
		o.Fatalf("the service hears %d bytes, the client said %d", o.heard.Len(), o.sent.Len())
	}
	if n := o.requests.Load(); n != 1 {
		o.Fatalf("%d connections reach the service", n)
	}
	if o.completed.Load() != 1 || o.failed.Load() != 0 || o.bans.Load() != 0 {
		o.Fatalf("%d handshakes, %d failed authentications, %d bans", o.completed.Load(), o.failed.Load(), o.bans.Load())
	}
	for len(o.knocked) > 0 {
		if e := <-o.knocked; e.Result == knock.OK {
			o.Fatalf("the attacker has knocked: %+v", e)
		}
	}
}

// attack sends some forged packets. syns: SYNs may be among them.
func (o *offPath) attack(when string, syns bool) {
	o.Helper()
	if o.draws == nil {
		return
	}
	for range rapid.IntRange(0, 6).Draw(o.draws, when) {
		switch rapid.IntRange(0, 9).Draw(o.draws, "kind") {
		case 0:
			o.puts(o.forgedICMP())
		case 1, 2:
			o.puts(o.pieces(o.forgedTCP(syns))...)
		case 3:
			o.puts(packettest.UDP{
				Src: o.src, Dst: netip.AddrPortFrom(o.dst.Addr(), offPathKnock),
				Payload: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(o.draws, "datagram"),
			}.Packet())
		default:
			o.puts(o.forgedTCP(syns))
		}
	}
}

const (
	// aroundWindow is more than how far from the next number, in bytes, a segment's
	// may be to matter; aroundACKs the same of acknowledgements.
	aroundWindow = 1 << 25
	aroundACKs   = 1 << 20
)

// ahead is how far ahead of what the client has received, in bytes, an
// acknowledgement is of what was never sent: in the handshake by one.
func (o *offPath) ahead() uint32 {
	if o.sent.Len() == 0 {
		return 1
	}
	const mostInFlight = 4096
	return mostInFlight
}

// forgedTCP is a segment in the client's name.
func (o *offPath) forgedTCP(syns bool) []byte {
	s := packettest.TCP{
		Src: o.src, Dst: o.dst, Flags: rapid.Byte().Draw(o.draws, "flags"),
		Seq:     o.seq + rapid.Uint32Range(aroundWindow, 1<<32-1-aroundWindow).Draw(o.draws, "seq"),
		Ack:     o.ack + rapid.Uint32Range(o.ahead(), 1<<32-1-aroundACKs).Draw(o.draws, "ack"),
		Window:  rapid.Uint16().Draw(o.draws, "window"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(o.draws, "payload"),
	}
	if rapid.Bool().Draw(o.draws, "usual flags") {
		s.Flags = rapid.SampledFrom([]uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.RST, packet.RST | packet.ACK, packet.SYN, packet.SYN | packet.ACK}).Draw(o.draws, "which")
	}
	if !syns && s.Flags&packet.SYN != 0 {
		s.Flags ^= packet.SYN
	}
	switch rapid.IntRange(0, 3).Draw(o.draws, "luck") {
	case 0: // any number in the window but the next is as good for the attacker as another
		first := uint32(0)
		if s.Flags&packet.RST != 0 {
			first = 1
		}
		s.Seq = o.seq + rapid.Uint32Range(first, 1000).Draw(o.draws, "seq in the window")
	case 1: // in the handshake there is one acknowledgement only
		s.Ack = o.ack
	}
	if rapid.IntRange(0, 3).Draw(o.draws, "has options") == 0 {
		s.Options = rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(o.draws, "options")
	}
	return s.Packet()
}

// forgedICMP is an error about something that the service may have sent.
func (o *offPath) forgedICMP() []byte {
	quoted := packettest.TCP{
		Src: o.dst, Dst: o.src, Flags: packet.ACK,
		Seq: o.ack + rapid.Uint32Range(aroundACKs, 1<<32-1-aroundACKs).Draw(o.draws, "quoted seq"),
		Ack: o.seq, Payload: make([]byte, 8),
	}.Packet()
	m := packettest.ICMP{
		Src: o.src.Addr(), Dst: o.dst.Addr(), Type: rapid.SampledFrom([]uint8{3, 11, 12, 0, 5}).Draw(o.draws, "type"),
		Code: rapid.Byte().Draw(o.draws, "code"), Payload: quoted,
	}
	if o.src.Addr().Is6() {
		m.Type = rapid.SampledFrom([]uint8{1, 2, 3, 4, 128, 137}).Draw(o.draws, "type of IPv6")
	}
	b := m.Packet()
	at := len(b) - len(quoted) - 4 // the rest of the header: MTU, pointer
	binary.BigEndian.PutUint32(b[at:], rapid.Uint32Range(0, 2000).Draw(o.draws, "MTU"))
	packettest.Checksums(b)
	return b
}

// pieces cuts a packet into fragments.
func (o *offPath) pieces(b []byte) (all [][]byte) {
	size := 8 * rapid.IntRange(1, 6).Draw(o.draws, "bytes of a piece / 8")
	id := rapid.Uint32().Draw(o.draws, "id")
	header := 20
	if b[0]>>4 == 6 {
		header = 40
	}
	body := b[header:]
	for from := 0; from < len(body); from += size {
		part := body[from:min(from+size, len(body))]
		more := from+size < len(body)
		all = append(all, piece(b[:header], id, from, more, part))
	}
	return all
}

// piece is one fragment of a packet with that header.
func piece(header []byte, id uint32, offset int, more bool, part []byte) []byte {
	b := bytes.Clone(header)
	if b[0]>>4 == 4 {
		const moreFragments = 0x2000
		flags := uint16(offset >> 3)
		if more {
			flags |= moreFragments
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(part)))
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		binary.BigEndian.PutUint16(b[6:], flags)
		packettest.Checksums(b) // of the header alone: nothing follows yet
		return append(b, part...)
	}
	const fragmentHeader = 44
	flags := uint16(offset)
	if more {
		flags |= 1
	}
	b = append(b, b[6], 0)
	b[6] = fragmentHeader
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, flags), id)
	b = append(b, part...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-len(header)))
	return b
}
