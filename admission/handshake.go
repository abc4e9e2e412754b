package admission

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// Errors of Complete and Authenticate.
var (
	// ErrFlowClosed says that the flow is not in the table any more: evicted, revoked, or never there.
	ErrFlowClosed = errors.New("the flow is not admitted any more")
	// ErrNoGrant says that the client owns no grant that fits the flow.
	ErrNoGrant = errors.New("no grant of this client fits the flow")
	// ErrOtherSession is an ErrNoGrant of a client whose grants are for other sessions.
	ErrOtherSession = fmt.Errorf("%w: its knock named another session", ErrNoGrant)
	// ErrOutsideSchedule says that the client has expired or that it is outside its hours.
	ErrOutsideSchedule = errors.New("the client may not begin a flow now")
	// ErrLimitExceeded says that the client, or its address, has as many flows as it may have.
	ErrLimitExceeded = errors.New("the client or its address has too many flows")
)

// pendingKnockTimeout is how long Authenticate waits for knocks of the flow's source
// that were queued before it: the same time that a SYN may be parked.
const pendingKnockTimeout = time.Second

// HandshakeDone tells the gate that a flow's handshake is done. In ModeKnock that
// uses up the grant and lets the flow in; ErrNoGrant says that other flows have
// used it up meanwhile, ErrTooMany that the client or its address has too many
// flows: the caller is to reset this one and then Forget it. ErrGone says that the
// flow is in the table no more: nothing gets out.
func (g *Gate) HandshakeDone(t packet.Tuple) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[t]
	if f == nil || f.state != stateHandshake || f.phase == synReceived || !f.unchanged() {
		return ErrFlowClosed // in synReceived, the stack's handshake is another one
	}
	if !g.markEstablished(f) {
		return ErrLimitExceeded
	}
	if f.service.service.Authenticates() {
		return nil
	}
	now := g.mono()
	gr := f.grant
	if gr == nil || !gr.validFor(f.admittedAt, now) {
		if gr = f.source.grantForSYN(f.service, t.SrcPort, now); gr == nil {
			return ErrNoGrant
		}
		f.grant = gr // its client is who gets in
	}
	client := f.service.service.ClientOf(gr.key)
	if client == nil {
		return ErrFlowClosed // revoked; the gate is about to forget them
	}
	if !g.authorize(f, client, gr.key) {
		return ErrLimitExceeded
	}
	gr.uses--
	g.removeIfUsed(f.source, gr)
	return nil
}

// Admitted reports whether a flow is in the table.
func (g *Gate) Admitted(t packet.Tuple) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flows[t] != nil
}

// Uses returns the grant on which a flow can be let in, which can be compared
// with that of another flow, and how many flows can still be let in on it.
func (g *Gate) Uses(t packet.Tuple) (grant any, uses int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[t]
	if f == nil {
		return nil, 0
	}
	now, gr := g.mono(), f.grant
	if gr == nil || !gr.validFor(f.admittedAt, now) {
		if gr = f.source.grantForSYN(f.service, t.SrcPort, now); gr == nil {
			return nil, 0
		}
	}
	return gr, gr.uses
}

// removeIfUsed forgets gr, a grant of s, if that was its last use: where many knock, the
// sweep would leave too many of them. The caller holds g.mu.
func (g *Gate) removeIfUsed(s *source, gr *grant) {
	if now := g.mono(); gr.expired(now) {
		g.expireGrants(s, now)
		g.removeIfUnused(s)
	}
}

// Client returns who a flow has been let in as; "" if that is not known.
func (g *Gate) Client(t packet.Tuple) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows[t]; f != nil && f.key != nil {
		return f.key.ID()
	}
	return ""
}

// Candidates returns the keys with which the client of a flow most likely
// authenticates, a few: of those who hold a grant at the flow's source, and, in
// open services, of those who got in from there lately. Where none of them fits,
// OtherCandidates has the rest. It is nil for a flow that is gone.
func (g *Gate) Candidates(t packet.Tuple) []*protocol.Client {
	now := g.now()
	var few []string
	g.mu.Lock()
	f := g.flows[t]
	if f == nil {
		g.mu.Unlock()
		return nil
	}
	svc := f.service.service
	for _, gr := range f.source.grants {
		if gr.service == f.service {
			few = append(few, gr.key.ID())
		}
	}
	if svc.Open() {
		ids := g.knocks.Known.Clients(t.Src)
		few = append(few, ids[:]...)
	}
	g.mu.Unlock()

	var ids []*protocol.Client
	tried := make(map[string]bool, len(few))
	for _, id := range few {
		if tried[id] {
			continue
		}
		tried[id] = true
		for _, k := range svc.KeysOf(id) {
			if k.Valid(now) {
				ids = append(ids, k.Identity)
			}
		}
	}
	return ids
}

// OtherCandidates returns the keys of all clients of a flow's service: a client
// may be faster than the decision about its knock, or its knock was lost and its
// SYN has found the grant of a neighbour. Their format makes us try one after the
// other, which is paid for as v1 knocks are; it reports false where the budget for
// that is spent, or the flow is gone. The gate's lock is not held meanwhile, and
// nothing is copied.
func (g *Gate) OtherCandidates(t packet.Tuple) (iter.Seq[*protocol.Client], bool) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[t]
	if f == nil {
		return nil, false
	}
	svc := f.service.service
	n, _ := svc.NumKeys()
	if !g.knocks.Limiter.AllowAuthentication(t.Src, n, g.mono()) {
		return nil, false
	}
	return func(yield func(*protocol.Client) bool) {
		svc.EachKey(func(k *policy.ClientKey) bool { return !k.Valid(now) || yield(k.Identity) })
	}, true
}

// Authenticate lets a flow in for the client whose message has been verified.
// In modes with knocks the client must own a grant for the flow's source and
// service, with that session or with none; one use of it is spent if claim,
// which is called without any lock held, returns nil. A mismatch, a failed
// claim or a flow that has gone meanwhile consumes nothing. If knocks of the
// source are still being decided it waits for them, up to settleTime: a client
// must never lose the race against its own knock.
func (g *Gate) Authenticate(t packet.Tuple, client *protocol.Client, session string, claim func() error) error {
	svc := g.policy.Load().Lookup(t.Dst, t.DstPort)
	if svc == nil {
		return ErrFlowClosed
	}
	c := svc.Client(client.ID())
	if c == nil || !c.MayBegin(g.now()) {
		return ErrOutsideSchedule
	}
	gr, err := g.reserve(t, c.ID, session)
	if err != nil {
		return err
	}
	err = claim()
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[t]
	switch {
	case err != nil:
	case f == nil || f.state != stateEstablished || !f.unchanged():
		err = ErrFlowClosed
	case gr != nil && gr.revoked:
		g.drop(f) // in silence, as if it had been let in a moment before
		err = ErrFlowClosed
	}
	if err == nil {
		switch c = f.service.service.ClientOf(client); {
		case c == nil: // no longer
			err = ErrOutsideSchedule
		case !g.authorize(f, c, client):
			err = ErrLimitExceeded
		default:
			g.knocks.Known.Record(t.Src, c.ID, g.mono())
		}
	}
	if gr != nil {
		gr.claiming--
		if err != nil {
			gr.uses++
		} else {
			g.removeIfUsed(f.source, gr)
		}
	}
	return err
}

// reserve takes one use of a fitting grant; nil in ModeAuth.
func (g *Gate) reserve(t packet.Tuple, client, session string) (*grant, error) {
	var timeout <-chan time.Time
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		f := g.flows[t]
		if f == nil || f.state != stateEstablished {
			return nil, ErrFlowClosed
		}
		if f.mode == policy.ModeAuth {
			return nil, nil
		}
		s := g.sources[t.Src]
		if s == nil {
			return nil, ErrNoGrant
		}
		if gr := s.grantForClient(f, client, session, g.mono()); gr != nil {
			gr.uses--
			gr.claiming++
			return gr, nil
		}
		if s.queued == 0 {
			return nil, s.noGrant(f, client)
		}
		if timeout == nil {
			timeout = time.After(pendingKnockTimeout)
		}
		decided := g.decided
		g.waiting++
		g.mu.Unlock()
		expired := false
		select {
		case <-decided:
		case <-timeout:
			expired = true
		}
		g.mu.Lock()
		g.waiting--
		if expired {
			return nil, ErrNoGrant
		}
	}
}

// noGrant says why no grant of a client at s fits f. The caller holds g.mu.
func (s *source) noGrant(f *flow, client string) error {
	for _, gr := range s.grants {
		if gr.service == f.service && gr.key.ID() == client && gr.session != "" {
			return ErrOtherSession
		}
	}
	return ErrNoGrant
}

// RelayDone tells the gate that a flow's relay is done. The flow stays in the
// table for as long as the stack's endpoint has something to send or waits in
// TIME_WAIT (Options.Settled), so that late segments are answered there.
func (g *Gate) RelayDone(t packet.Tuple) {
	// Asked at once, not only by the next sweep: where the upstream closed
	// first, the endpoint is in TIME_WAIT by now while the client's port is free
	// again already.
	how := g.closeState(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows[t]
	if f == nil || f.state >= stateClosing {
		return
	}
	g.releaseQuota(f)
	f.state = stateClosing
	g.move(f, how)
}

// Remove takes a flow out of the table at once: nothing more gets out, and
// what its peer still sends is a stranger's.
func (g *Gate) Remove(t packet.Tuple) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows[t]; f != nil {
		g.drop(f)
	}
}
