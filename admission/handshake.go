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

// A flow from its handshake to its end, in order: HandshakeDone, Candidates,
// Authenticate, RelayDone, Remove.

// Errors of HandshakeDone and Authenticate.
var (
	// ErrFlowClosed: the flow is not in the table any more: evicted, revoked,
	// or never there.
	ErrFlowClosed = errors.New("the flow is not admitted any more")
	// ErrNoGrant: the client has no grant that fits the flow.
	ErrNoGrant = errors.New("no grant of this client fits the flow")
	// ErrOtherSession is an ErrNoGrant of a client whose grants are for other
	// sessions.
	ErrOtherSession = fmt.Errorf("%w: its knock named another session", ErrNoGrant)
	// ErrOutsideSchedule: the client has expired, or it is outside its hours.
	ErrOutsideSchedule = errors.New("the client may not begin a flow now")
	// ErrLimitExceeded: the client, or its address, has its maximum number of
	// flows.
	ErrLimitExceeded = errors.New("the client or its address has too many flows")
)

// HandshakeDone reports to the gate that a flow's handshake is done. In
// ModeKnock that uses up the grant and authorizes the flow. It fails with
// ErrNoGrant where other flows have used the grant up, and with
// ErrLimitExceeded: the caller resets the flow and then calls Remove. It fails
// with ErrFlowClosed where the flow is not in the table: then nothing of it
// leaves.
func (g *Gate) HandshakeDone(t packet.Tuple) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows.byTuple[t]
	if f == nil || f.state != stateHandshake || f.phase == synReceived || !f.unchanged() {
		return ErrFlowClosed // in synReceived, the stack's handshake is another one
	}
	if !g.flows.markEstablished(f) {
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
		f.grant = gr // the flow is its client's
	}
	client := f.service.service.ClientOf(gr.key)
	if client == nil {
		return ErrFlowClosed // revoked; the gate is about to forget both
	}
	if !g.flows.authorize(f, client, gr.key) {
		return ErrLimitExceeded
	}
	gr.uses--
	g.sources.removeIfUsed(f.source, gr)
	return nil
}

// Admitted reports whether a flow is in the table.
func (g *Gate) Admitted(t packet.Tuple) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flows.byTuple[t] != nil
}

// Uses returns the grant on which a flow can be authorized, which can be
// compared with that of another flow, and how many flows can still be
// authorized on it.
func (g *Gate) Uses(t packet.Tuple) (grant any, uses int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows.byTuple[t]
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

// Client returns the client as which a flow was authorized; nil if that is not
// known.
func (g *Gate) Client(t packet.Tuple) *protocol.Client {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows.byTuple[t]; f != nil {
		return f.key
	}
	return nil
}

// Candidates returns the few keys with which the client of a flow most likely
// authenticates: of clients that hold a grant at the flow's source, and, in open
// services, of those that were authorized from there lately. Where none of them
// fits, OtherCandidates has the rest. It returns nil for a flow that is gone.
func (g *Gate) Candidates(t packet.Tuple) []*protocol.Client {
	now := g.now()
	var likely []string
	g.mu.Lock()
	f := g.flows.byTuple[t]
	if f == nil {
		g.mu.Unlock()
		return nil
	}
	svc := f.service.service
	for _, gr := range f.source.grants {
		if gr.service == f.service {
			likely = append(likely, gr.key.ID())
		}
	}
	if svc.Open() {
		ids := g.knocks.Known.Clients(t.Src)
		likely = append(likely, ids[:]...)
	}
	g.mu.Unlock()

	var ids []*protocol.Client
	tried := make(map[string]bool, len(likely))
	for _, id := range likely {
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
// may be faster than the decision about its knock, or its knock was lost and
// its SYN has used the grant of a neighbor. Their format forces us to try one
// after the other, which is charged as v1 knocks are; it reports false where
// the budget for that is used up, or the flow is gone. The gate's lock is not
// held while the caller iterates, and nothing is copied.
func (g *Gate) OtherCandidates(t packet.Tuple) (iter.Seq[*protocol.Client], bool) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows.byTuple[t]
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

// Authenticate authorizes a flow for the client whose message has been
// verified. In modes with knocks the client must have a grant for the flow's
// source and service, with that session or with none; one use of it is used up
// if claim, which is called without any lock held, returns nil. A mismatch, a
// failed claim or a flow that is gone consumes nothing. If knocks of the source
// are still being decided it waits for them, up to pendingKnockTimeout: a
// client must never lose the race against its own knock.
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
	f := g.flows.byTuple[t]
	switch {
	case err != nil:
	case f == nil || f.state != stateEstablished || !f.unchanged():
		err = ErrFlowClosed
	case gr != nil && gr.revoked:
		g.flows.drop(f) // in silence, as if it had been revoked a moment later
		err = ErrFlowClosed
	}
	if err == nil {
		switch c = f.service.service.ClientOf(client); {
		case c == nil: // no longer
			err = ErrOutsideSchedule
		case !g.flows.authorize(f, c, client):
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
			g.sources.removeIfUsed(f.source, gr)
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
		f := g.flows.byTuple[t]
		if f == nil || f.state != stateEstablished {
			return nil, ErrFlowClosed
		}
		if f.mode == policy.ModeAuth {
			return nil, nil
		}
		s := g.sources.byAddr[t.Src]
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

// RelayDone reports to the gate that a flow's relay is done. The flow stays in
// the table for as long as the stack's endpoint has something to send or waits
// in TIME_WAIT (Options.CloseState), so that late segments are answered there.
func (g *Gate) RelayDone(t packet.Tuple) {
	// Asked at once, not only by the next sweep: where the upstream closed
	// first, the endpoint is in TIME_WAIT by now while the client's port is
	// free again already.
	state := g.flows.closeState(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flows.byTuple[t]
	if f == nil || f.state >= stateClosing {
		return
	}
	g.flows.releaseQuota(f)
	f.state = stateClosing
	g.flows.setCloseState(f, state)
}

// NumClosing returns how many flows, of those whose relay is done, still have
// something to send or wait for their peer's end. It asks the stack about each.
func (g *Gate) NumClosing() int {
	g.flows.pollClosing()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flows.closing.n
}

// InFlight returns how many bytes of a flow its client has not acknowledged.
func (g *Gate) InFlight(t packet.Tuple) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows.byTuple[t]; f != nil {
		return int(f.nxt - f.una)
	}
	return 0
}

// Remove removes a flow from the table at once: nothing more of it leaves, and
// what its peer still sends belongs to no flow.
func (g *Gate) Remove(t packet.Tuple) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flows.byTuple[t]; f != nil {
		g.flows.drop(f)
	}
}
