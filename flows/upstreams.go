package flows

import (
	"context"
	"time"
)

// Where the upstream is dialed before the client's handshake is complete, a SYN
// is enough to have it dialed, and a SYN can be forged. So the flows of one grant
// share the connections that they have dialed: there are at most as many as the
// grant has uses left, and the flow whose handshake is complete takes one.
//
//	flow 1:  dial ------ ok -> handshake ... never answered
//	flow 2:  wait ---------'-> handshake -> takes the connection -> relay
//
// With as many uses as flows each dials for itself, and none waits.

// A ShareKey names what flows have in common that share upstream connections.
type ShareKey struct {
	Grant    any // comparable
	Upstream string
}

// freshTime is how long a connection may wait for a handshake and still be used:
// many upstreams end one on which nothing is said. Another is dialed then.
const freshTime = 2 * time.Second

// share is the upstream connections of the flows of one ShareKey. The Set's
// dialing lock guards it.
type share struct {
	users   int // flows that have not got their connection
	dialing int
	ready   []readyConn
	wake    chan struct{} // closed, and replaced, when something has changed
	failed  int           // dials that failed
	end     End           // of the last of these
}

type readyConn struct {
	conn  Conn
	since time.Time
}

// changed wakes the flows that wait.
func (h *share) changed() {
	close(h.wake)
	h.wake = make(chan struct{})
}

// join adds a flow to those that share by that key.
func (s *Set) join(k ShareKey) *share {
	s.dialing.Lock()
	defer s.dialing.Unlock()
	h := s.shares[k]
	if h == nil {
		h = &share{wake: make(chan struct{})}
		s.shares[k] = h
	}
	h.users++
	return h
}

// part ends a flow's part in h, and the connections that no other flow needs.
func (s *Set) part(k ShareKey, h *share) {
	s.dialing.Lock()
	h.users--
	if h.users == 0 {
		delete(s.shares, k)
	}
	n := max(0, min(len(h.ready), len(h.ready)+h.dialing-h.users))
	excess := h.ready[:n]
	h.ready = h.ready[n:]
	s.dialing.Unlock()
	for _, r := range excess {
		r.conn.Abort()
	}
}

// reach waits until h has an upstream connection, and dials one where another is
// due. It returns false, and why, where there will be none.
func (s *Set) reach(ctx context.Context, h *share, p *Plan) (End, bool) {
	timeout := time.NewTimer(p.DialTimeout)
	defer timeout.Stop()
	s.dialing.Lock()
	failed := h.failed
	for {
		_, limit := p.Share()
		switch have := len(h.ready) + h.dialing; {
		case limit <= 0:
			s.dialing.Unlock()
			return EndNoGrant, false
		case len(h.ready) == 0 && h.failed != failed:
			end := h.end
			s.dialing.Unlock()
			return end, false
		case have < min(h.users, limit):
			h.dialing++
			s.dialing.Unlock()
			return s.dialFor(ctx, h, p)
		case len(h.ready) > 0:
			s.dialing.Unlock()
			return 0, true
		}
		wake := h.wake
		s.dialing.Unlock()
		select {
		case <-wake:
		case <-timeout.C:
			return EndUpstreamTimeout, false
		case <-ctx.Done():
			return ending(ctx, EndUpstreamTimeout), false
		}
		s.dialing.Lock()
	}
}

// dialFor dials a connection for h, which counts it already.
func (s *Set) dialFor(ctx context.Context, h *share, p *Plan) (End, bool) {
	conn, end := s.dial(ctx, p)
	s.dialing.Lock()
	defer s.dialing.Unlock()
	h.dialing--
	switch {
	case conn != nil:
		h.ready = append(h.ready, readyConn{conn, time.Now()})
	case ctx.Err() == nil: // the upstream's doing, and no other flow fares better
		h.failed++
		h.end = end
	}
	h.changed()
	return end, conn != nil
}

// take returns a connection of h whose flow has completed its handshake; nil if
// there is none that is fresh.
func (s *Set) take(h *share) Conn {
	s.dialing.Lock()
	var stale []readyConn
	var conn Conn
	for conn == nil && len(h.ready) > 0 {
		last := len(h.ready) - 1 // the newest
		r := h.ready[last]
		h.ready = h.ready[:last]
		if time.Since(r.since) > freshTime {
			stale = append(stale, r)
		} else {
			conn = r.conn
		}
	}
	h.changed()
	s.dialing.Unlock()
	for _, r := range stale {
		r.conn.Abort()
	}
	return conn
}

// serveShared is serve where the upstream is dialed first, with connections that
// are shared.
func (s *Set) serveShared(ctx context.Context, f *Flow, r Request, p *Plan) End {
	key, _ := p.Share()
	h := s.join(key)
	end, ok := s.reach(ctx, h, p)
	if !ok {
		s.part(key, h)
		giveUp(r, p, end)
		return end
	}
	client, end := s.accept(ctx, f, r, p)
	if client == nil {
		s.part(key, h)
		return end
	}
	defer p.Closed()
	upstream := s.take(h)
	s.part(key, h)
	if upstream == nil {
		if upstream, end = s.dial(ctx, p); upstream == nil {
			if !end.heard() {
				p.Silence()
			}
			client.Abort()
			return end
		}
	}
	return s.relay(ctx, f, client, upstream, p)
}
