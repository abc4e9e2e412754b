package admission

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/internal/loglimit"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// What a worker does with a knock, in order: find its client, open it, verify
// what it says, make it unrepeatable, follow sequences, make the grant. Whatever
// fails ends it; the source is told nothing either way.

// knockBatch is how many knocks a worker decides between two claims: one write
// of the replay store for all of them. Small enough that the first of a burst
// does not wait noticeably for the last (some 20 microseconds each).
const knockBatch = 16

// A KnockEvent is a knock that was decided. Fields are zero as far as they are unknown.
type KnockEvent struct {
	Result  KnockResult
	Source  netip.Addr
	Client  string        // once a client's key fitted
	Service string        // likewise
	Method  string        // likewise
	Session string        // what it says the connection will be authenticated with; "" if nothing
	Skew    time.Duration // the message's time less ours, if Timed
	Timed   bool          // the message opened and says a time, which a SYN does not
	Err     error         // KnockStoreFailed: why
}

// decision is a knock on its way through a worker.
type decision struct {
	event   KnockEvent
	src     packet.Addr
	service *policy.Service
	key     *protocol.Client
	client  *policy.Client
	session string
	port    uint16      // the only source port that the grant is for, 0 for any
	kind    replay.Kind // of the replay key; 0 where it is claimed already
	nonce   []byte      // the replay key
	part    *udpPart    // of a sequence
	cold    bool        // it came by the cold lane
	place   uint16      // of a v1 datagram, in knockLanes.originals
	buffer  [protocol.EnvelopePrefix]byte
}

// worker decides knocks, a batch at a time, in memory of its own. There is one:
// with more, a flood of junk knocks could take every processor from the packets.
type worker struct {
	*Gate
	scratch   *protocol.Scratch
	decisions [knockBatch]decision
	claims    []replay.Claim
	owners    owners
	sequences udpSequences
	swept     time.Duration
	unparking unparking
}

func (g *Gate) newWorker() *worker {
	return &worker{
		Gate: g, scratch: protocol.NewScratch(), claims: make([]replay.Claim, 0, knockBatch),
		owners: make(owners), sequences: newUDPSequences(),
	}
}

// decideKnocks takes knocks from the lanes until ctx ends, the warm one first.
func (g *Gate) decideKnocks(ctx context.Context) {
	w := g.newWorker()
	idle := time.NewTicker(workerSweep)
	defer idle.Stop()
	for {
		var k *queuedKnock
		select {
		case k = <-g.knocks.warm.ready:
		default:
			select {
			case <-ctx.Done():
				return
			case k = <-g.knocks.warm.ready:
			case k = <-g.knocks.cold.ready:
			case <-idle.C:
				w.sweep()
				continue
			}
		}
		w.decide(k)
	}
}

// next returns a knock that waits, nil if there is none.
func (w *worker) next() *queuedKnock {
	if k := w.knocks.warm.next(); k != nil {
		return k
	}
	return w.knocks.cold.next()
}

// decide decides k and what waits behind it in its lane, up to a batch. A warm
// knock waits for one cold knock at most, which takes some milliseconds where
// there are ten thousand clients, never for a batch of them.
func (w *worker) decide(k *queuedKnock) {
	n := 0
	for k != nil {
		lane := w.knocks.of(k)
		w.open(k, &w.decisions[n])
		k.hit = hit{} // of a policy that may be gone
		lane.free <- k
		if n++; n == knockBatch || !k.warm && len(w.knocks.warm.ready) > 0 {
			break
		}
		k = lane.next()
	}
	w.claim(w.decisions[:n])
	for i := range w.decisions[:n] {
		w.finish(&w.decisions[i])
	}
	clear(w.decisions[:n])
	w.sweep()
}

// replayMargin is added to twice the window as the lifetime of a replay key:
// a message may be as early as it may be late, and clocks have granularity.
const replayMargin = time.Second

// claim makes the batch's good knocks unrepeatable.
func (w *worker) claim(decisions []decision) {
	claims := w.claims[:0]
	lifetime := 2*w.policy.Load().Window() + replayMargin
	for i := range decisions {
		if d := &decisions[i]; d.event.Result == KnockOK && d.kind != 0 {
			claims = append(claims, replay.Claim{Kind: d.kind, Client: d.client.ID, Nonce: d.nonce, Lifetime: lifetime})
		}
	}
	if len(claims) == 0 {
		return
	}
	w.store.Claim(claims)
	for i := range decisions {
		if d := &decisions[i]; d.event.Result == KnockOK && d.kind != 0 {
			d.event.Result, d.event.Err = claimResult(claims[0].Err)
			claims = claims[1:]
		}
	}
}

// claimResult translates a store's answer.
func claimResult(err error) (KnockResult, error) {
	switch {
	case err == nil:
		return KnockOK, nil
	case errors.Is(err, replay.ErrReplayed):
		return KnockReplay, nil
	case errors.Is(err, replay.ErrFull):
		return KnockLimit, nil
	default:
		return KnockStoreFailed, err
	}
}

// finish follows a sequence and then settles the knock.
func (w *worker) finish(d *decision) {
	if d.part != nil && d.event.Result == KnockOK {
		d.event.Result = w.sequences.take(d, w.mono(), w.policy.Load().Sequence())
	}
	w.settle(d)
}

// settle ends a knock: it makes the grant, if there is one to make, and has the
// source's parked SYNs judged again.
func (w *worker) settle(d *decision) {
	g := w.Gate
	g.mu.Lock()
	s := g.sources[d.src] // exists: this knock is counted in it
	s.queued--
	s.done++
	if d.cold {
		g.knocks.originals[d.place]--
	}
	if d.event.Result == KnockOK {
		d.event.Result = g.earn(s, d)
	}
	if g.waiting > 0 {
		close(g.decided)
		g.decided = make(chan struct{})
	}
	parked := s.parked
	g.release(s)
	g.mu.Unlock()

	d.event.Session = d.session
	g.stats.knocks[d.event.Result].Add(1)
	for range parked {
		if !g.unpark(&w.unparking, d.src) {
			break
		}
	}
	g.report(d.event)
}

// earn makes the grant of a good knock from s, unless the policy has changed since
// the knock was opened and has no room for it. The caller holds g.mu.
func (g *Gate) earn(s *source, d *decision) KnockResult {
	at := g.named[d.service.Name]
	if at == nil || !at.service.SameEndpoint(d.service) {
		return KnockUnknown
	}
	client := at.service.ClientOf(d.key)
	if client == nil {
		return KnockUnknown
	}
	now := g.mono()
	gr := &grant{
		key: d.key, place: at, session: d.session, port: d.port,
		expires: now + at.service.GrantTTL, uses: at.service.GrantUses,
	}
	g.remember(d.src, client.ID, now)
	if !g.addGrant(s, gr, client, now) {
		return KnockLimit
	}
	return KnockOK
}

func (g *Gate) report(e KnockEvent) {
	if e.Result == KnockStoreFailed {
		if leftOut, ok := g.storeLines.Allow(g.now()); ok {
			g.log.Error("replay store failed; knock refused", loglimit.Attrs(leftOut, "err", e.Err)...)
		}
	}
	g.knocked(e)
}

// sweep forgets what is over of the worker's own, now and then.
func (w *worker) sweep() {
	now := w.mono()
	if now-w.swept < workerSweep {
		return
	}
	w.swept = now
	w.owners.sweep(now)
	w.sequences.sweep(now)
	w.publish()
}

// workerSweep is how often a worker forgets what is over, and says what it has.
const workerSweep = time.Second
