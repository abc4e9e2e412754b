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

// maxReadyAge is how long a connection may wait for a handshake and still be used:
// many upstreams end one on which nothing is said. Another is dialed then.
const maxReadyAge = 2 * time.Second

// upstreamPool is the upstream connections of the flows of one ShareKey. The Set's
// dialing lock guards it.
type upstreamPool struct {
	users   int // flows that have not got their connection
	dialing int
	ready   []readyConn
	wake    chan struct{} // closed, and replaced, when something has changed
	failed  int           // dials that failed
	end     CloseReason   // of the last of these
}

type readyConn struct {
	conn  Conn
	since time.Time
}

// changed wakes the flows that wait.
func (h *upstreamPool) changed() {
	close(h.wake)
	h.wake = make(chan struct{})
}

// join adds a flow to those that share by that key.
func (s *Table) join(k ShareKey) *upstreamPool {
	s.poolsMu.Lock()
	defer s.poolsMu.Unlock()
	h := s.pools[k]
	if h == nil {
		h = &upstreamPool{wake: make(chan struct{})}
		s.pools[k] = h
	}
	h.users++
	return h
}

// leave ends a flow's part in h, and the connections that no other flow needs.
func (s *Table) leave(k ShareKey, h *upstreamPool) {
	s.poolsMu.Lock()
	h.users--
	if h.users == 0 {
		delete(s.pools, k)
	}
	n := max(0, min(len(h.ready), len(h.ready)+h.dialing-h.users))
	excess := h.ready[:n]
	h.ready = h.ready[n:]
	s.poolsMu.Unlock()
	for _, r := range excess {
		r.conn.Abort()
	}
}

// acquire waits until h has an upstream connection, and dials one where another is
// due. It returns false, and why, where there will be none.
func (s *Table) acquire(ctx context.Context, h *upstreamPool, p *Plan) (CloseReason, bool) {
	timeout := time.NewTimer(p.DialTimeout)
	defer timeout.Stop()
	s.poolsMu.Lock()
	failed := h.failed
	for {
		_, limit := p.Share()
		switch have := len(h.ready) + h.dialing; {
		case limit <= 0:
			s.poolsMu.Unlock()
			return CloseNoGrant, false
		case len(h.ready) == 0 && h.failed != failed:
			end := h.end
			s.poolsMu.Unlock()
			return end, false
		case have < min(h.users, limit):
			h.dialing++
			s.poolsMu.Unlock()
			return s.dialInto(ctx, h, p)
		case len(h.ready) > 0:
			s.poolsMu.Unlock()
			return 0, true
		}
		wake := h.wake
		s.poolsMu.Unlock()
		select {
		case <-wake:
		case <-timeout.C:
			return CloseUpstreamTimeout, false
		case <-ctx.Done():
			return closeReason(ctx, CloseUpstreamTimeout), false
		}
		s.poolsMu.Lock()
	}
}

// dialInto dials a connection for h, which counts it already.
func (s *Table) dialInto(ctx context.Context, h *upstreamPool, p *Plan) (CloseReason, bool) {
	conn, end := s.dial(ctx, p)
	s.poolsMu.Lock()
	defer s.poolsMu.Unlock()
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

// takeConn returns a connection of h whose flow has completed its handshake; nil if
// there is none that is fresh.
func (s *Table) takeConn(h *upstreamPool) Conn {
	s.poolsMu.Lock()
	var stale []readyConn
	var conn Conn
	for conn == nil && len(h.ready) > 0 {
		last := len(h.ready) - 1 // the newest
		r := h.ready[last]
		h.ready = h.ready[:last]
		if time.Since(r.since) > maxReadyAge {
			stale = append(stale, r)
		} else {
			conn = r.conn
		}
	}
	h.changed()
	s.poolsMu.Unlock()
	for _, r := range stale {
		r.conn.Abort()
	}
	return conn
}

// serveShared is serve where the upstream is dialed first, with connections that
// are shared.
func (s *Table) serveShared(ctx context.Context, f *Flow, r Request, p *Plan) CloseReason {
	key, _ := p.Share()
	h := s.join(key)
	end, ok := s.acquire(ctx, h, p)
	if !ok {
		s.leave(key, h)
		reject(r, p, end)
		return end
	}
	client, end := s.accept(ctx, f, r, p)
	if client == nil {
		s.leave(key, h)
		return end
	}
	defer p.OnClose()
	upstream := s.takeConn(h)
	s.leave(key, h)
	if upstream == nil {
		if upstream, end = s.dial(ctx, p); upstream == nil {
			if !end.sendsReset() {
				p.OnDrop()
			}
			client.Abort()
			return end
		}
	}
	return s.relay(ctx, f, client, upstream, p)
}
