package admission

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/tun"
)

// The knock pipeline. What makes a source pending, and what ends it:
//
//	           datagram that could be a knock
//	stranger -------------------------------------> pending (queued = 1)
//	   ^                                              |   ^  | its SYNs are parked:
//	   |    a knock decided: each of its parked SYNs  |   |  | at most 64 a source,
//	   '--- goes in, if a grant has room for it, or --'   |  | 4096 in all, 1 s
//	        if no knock that came before it waits,        '--'  more knocks: queued++
//	        goes in on any grant or is dropped
//
// A client sends its knock and then at once its SYN. The reader sees both in
// that order and marks the source before it looks at the SYN, so the SYN finds
// the grant, or the source pending. There is no third case. Knocks that come
// after a SYN do not hold it up: a neighbour's junk could do that for good.

// knockBatch is how many knocks a worker decides between two claims: one write
// of the replay store for all of them. Small enough that the first of a burst
// does not wait noticeably for the last (some 20 microseconds each).
const knockBatch = 16

// queuedKnock is a datagram waiting for a worker.
type queuedKnock struct {
	src, dst tun.Addr
	port     uint16
	size     int
	data     [protocol.MaxKnock]byte
}

// knockQueue is bounded: its entries are made once and go round.
type knockQueue struct {
	free, ready chan *queuedKnock
}

func (q *knockQueue) init(n int) {
	q.free, q.ready = make(chan *queuedKnock, n), make(chan *queuedKnock, n)
	for range n {
		q.free <- new(queuedKnock)
	}
}

// admitUDP queues what could be a knock. It does only what needs no key.
func (g *Gate) admitUDP(p *tun.Packet) Verdict {
	if !g.policy.Load().knockable(p.Tuple.Dst, p.Tuple.DstPort) {
		return Verdict{Reason: ReasonNotService}
	}
	payload := p.Data[p.Payload:]
	if _, err := protocol.ParseKnock(payload); err != nil {
		return Verdict{Reason: ReasonNotKnock}
	}
	var k *queuedKnock
	select {
	case k = <-g.knocks.free:
	default:
		return Verdict{Reason: ReasonQueueFull}
	}
	if !g.pend(p.Tuple.Src) {
		g.knocks.free <- k
		return Verdict{Reason: ReasonQueueFull}
	}
	k.src, k.dst, k.port = p.Tuple.Src, p.Tuple.Dst, p.Tuple.DstPort
	k.size = copy(k.data[:], payload)
	g.knocks.ready <- k // never blocks: there are no more entries than places
	return Verdict{Action: Hold, Reason: ReasonKnock}
}

// pend makes an address pending, or a little more so. It reports false where
// too many of its knocks wait already.
func (g *Gate) pend(a tun.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sourceOf(a)
	if s.queued >= g.limits.KnocksPerSource {
		return false
	}
	s.queued++
	return true
}

// A KnockEvent is a knock that was decided. Fields are zero as far as they are unknown.
type KnockEvent struct {
	Result  KnockResult
	Source  netip.Addr
	Client  string        // once a client's key fitted
	Service string        // likewise
	Method  string        // likewise
	Skew    time.Duration // the message's time less ours, once it opened
	Err     error         // KnockStoreFailed: why
}

// decision is a knock on its way through a worker.
type decision struct {
	event   KnockEvent
	src     tun.Addr
	service *Service
	client  *protocol.Client
	session string
	nonce   [protocol.KnockNonce]byte
}

// worker decides knocks, a batch at a time, in memory of its own.
type worker struct {
	*Gate
	scratch   *protocol.Scratch
	decisions [knockBatch]decision
	claims    []Claim
	unparking unparking
}

func (g *Gate) newWorker() *worker {
	return &worker{Gate: g, scratch: protocol.NewScratch(), claims: make([]Claim, 0, knockBatch)}
}

// decideKnocks takes knocks from the queue until ctx ends.
func (g *Gate) decideKnocks(ctx context.Context) {
	w := g.newWorker()
	for {
		select {
		case <-ctx.Done():
			return
		case k := <-g.knocks.ready:
			w.decide(k)
		}
	}
}

// decide decides k and what waits behind it, up to a batch.
func (w *worker) decide(k *queuedKnock) {
	n := 0
	for more := true; more; {
		w.open(w.scratch, k, &w.decisions[n])
		w.knocks.free <- k
		if n++; n == knockBatch {
			break
		}
		select {
		case k = <-w.knocks.ready:
		default:
			more = false
		}
	}
	w.claim(w.decisions[:n], w.claims)
	for i := range w.decisions[:n] {
		w.settle(&w.decisions[i])
	}
}

// open finds the client of a knock and verifies everything but its novelty.
func (g *Gate) open(scratch *protocol.Scratch, k *queuedKnock, d *decision) {
	*d = decision{src: k.src, event: KnockEvent{Result: KnockUnknown, Source: k.src.Netip()}}
	knock, err := protocol.ParseKnock(k.data[:k.size])
	if err != nil {
		return
	}
	policy := g.policy.Load()
	for _, svc := range policy.udp.at(k.port) {
		if !svc.covers(k.dst) {
			continue
		}
		for _, c := range svc.Clients {
			if !knock.Match(scratch, c, svc.MACPort) {
				continue
			}
			m, err := knock.Open(scratch, c, svc.MACPort)
			if errors.Is(err, protocol.ErrSealed) {
				continue // a hint is only 8 bytes; the AEAD decides
			}
			d.client, d.service, d.session = c, svc, string(m.SessionID)
			copy(d.nonce[:], knock.Nonce())
			d.event.Client, d.event.Service, d.event.Method = c.ID(), svc.Name, methodName(m.Method)
			if err != nil {
				d.event.Result = KnockRefused
				return
			}
			d.event.Skew = skew(m.Time, g.now())
			d.event.Result = svc.judge(&m, d.event.Skew, policy.window)
			return
		}
	}
}

// skew is a message's time, in Unix milliseconds, less ours, to the millisecond
// that is on the wire: the window is inclusive, and must not end within one. A
// difference too large for a Duration is the largest.
func skew(ms int64, now time.Time) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	diff := ms - now.UnixMilli() // neither is negative on a clock after 1970: no overflow
	return time.Duration(min(max(diff, -most), most)) * time.Millisecond
}

// methodName is what a knock calls its method, if it is a name that exists: it
// may end up in a metric's label.
func methodName(method string) string {
	if name, err := protocol.ParseMethod(method); err == nil && name == method {
		return method
	}
	return "other"
}

// judge verifies what an authentic knock says against the service.
func (s *Service) judge(m *protocol.KnockMessage, skew, window time.Duration) KnockResult {
	switch {
	case !s.takes(m.Method), m.Sequence(): // whatever its method says, a part is no whole
		return KnockMethod
	case s.SessionRequired && len(m.SessionID) == 0 && s.Authenticates():
		return KnockNoSession
	case skew.Abs() > window:
		return KnockStale
	}
	return KnockOK
}

func (s *Service) takes(method string) bool {
	return protocol.MethodFamily(method) == protocol.MethodUDP && s.Methods&FamilyUDP != 0
}

// replayMargin is added to twice the window as the lifetime of a replay key:
// a message may be as early as it may be late, and clocks have granularity.
const replayMargin = time.Second

// claim makes the batch's good knocks unrepeatable. buf is scratch space.
func (g *Gate) claim(decisions []decision, buf []Claim) {
	claims := buf[:0]
	lifetime := 2*g.policy.Load().window + replayMargin
	for i := range decisions {
		if d := &decisions[i]; d.event.Result == KnockOK {
			claims = append(claims, Claim{Kind: ClaimUDP, Client: d.client.ID(), Nonce: d.nonce[:], Lifetime: lifetime})
		}
	}
	if len(claims) == 0 {
		return
	}
	g.store.Claim(claims)
	for i := range decisions {
		d := &decisions[i]
		if d.event.Result != KnockOK {
			continue
		}
		err := claims[0].Err
		claims = claims[1:]
		switch {
		case err == nil:
		case errors.Is(err, ErrReplay):
			d.event.Result = KnockReplay
		case errors.Is(err, ErrStoreFull):
			d.event.Result = KnockLimit
		default:
			d.event.Result, d.event.Err = KnockStoreFailed, err
		}
	}
}

// settle ends a knock: it makes the grant, if there is one to make, and has the
// source's parked SYNs judged again.
func (w *worker) settle(d *decision) {
	g := w.Gate
	g.mu.Lock()
	s := g.sources[d.src] // exists: this knock is counted in it
	s.queued--
	s.done++
	if d.event.Result == KnockOK {
		now := g.mono()
		gr := &grant{
			client: d.client, service: d.service, session: d.session,
			expires: now + d.service.GrantTTL, uses: d.service.GrantUses,
		}
		if !g.addGrant(s, gr, now) {
			d.event.Result = KnockLimit
		}
	}
	if g.waiting > 0 {
		close(g.decided)
		g.decided = make(chan struct{})
	}
	parked := s.parked
	g.release(s)
	g.mu.Unlock()

	g.stats.knocks[d.event.Result].Add(1)
	for range parked {
		if !g.unpark(&w.unparking, d.src) {
			break
		}
	}
	g.report(d.event)
}

func (g *Gate) report(e KnockEvent) {
	if e.Result == KnockStoreFailed {
		g.log.Error("replay store failed; knock refused", "err", e.Err)
	}
	g.knocked(e)
}
