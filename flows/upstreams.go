package flows

import (
	"context"
	"time"
)

// If the upstream is dialed before the client's handshake is complete, a SYN
// makes the gateway dial, and a SYN can be forged. The flows of one grant
// therefore share the connections that they dial: there are at most as many as
// the grant has uses left, and a flow takes one when its handshake is complete.
//
//	flow 1:  dial ------ ok -> handshake ... never answered
//	flow 2:  wait ---------'-> handshake -> takes the connection -> relay
//
// With as many uses as flows, each flow dials, and none waits.

// A ShareKey identifies flows that share upstream connections.
type ShareKey struct {
	Grant    any // comparable
	Upstream string
}

// maxReadyAge is how long a connection may wait for a handshake and still be
// used: many upstreams close connections without data. Afterwards another is
// dialed.
const maxReadyAge = 2 * time.Second

// An upstreamPool has the upstream connections of the flows of one ShareKey.
// Table.poolsMu guards it.
type upstreamPool struct {
	users   int // flows that have no connection yet
	dialing int
	ready   []readyConn
	wake    chan struct{} // closed and replaced on every change
	failed  int           // failed dials
	reason  CloseReason   // of the last failed dial
}

type readyConn struct {
	conn  Conn
	since time.Time
}

// changed wakes the waiting flows.
func (h *upstreamPool) changed() {
	close(h.wake)
	h.wake = make(chan struct{})
}

// join adds a flow to the pool of a key.
func (t *Table) join(k ShareKey) *upstreamPool {
	t.poolsMu.Lock()
	defer t.poolsMu.Unlock()
	h := t.pools[k]
	if h == nil {
		h = &upstreamPool{wake: make(chan struct{})}
		t.pools[k] = h
	}
	h.users++
	return h
}

// leave removes a flow from h, and closes the connections that no other flow
// needs.
func (t *Table) leave(k ShareKey, h *upstreamPool) {
	t.poolsMu.Lock()
	h.users--
	if h.users == 0 {
		delete(t.pools, k)
	}
	n := max(0, min(len(h.ready), len(h.ready)+h.dialing-h.users))
	excess := h.ready[:n]
	h.ready = h.ready[n:]
	t.poolsMu.Unlock()
	for _, r := range excess {
		r.conn.Abort()
	}
}

// acquire waits until h has an upstream connection, and dials one if another is
// due. If there will be none it returns false and the reason.
func (t *Table) acquire(ctx context.Context, h *upstreamPool, p *Plan) (CloseReason, bool) {
	timeout := time.NewTimer(p.DialTimeout)
	defer timeout.Stop()
	t.poolsMu.Lock()
	failed := h.failed
	for {
		_, limit := p.Share()
		switch have := len(h.ready) + h.dialing; {
		case limit <= 0:
			t.poolsMu.Unlock()
			return CloseNoGrant, false
		case len(h.ready) == 0 && h.failed != failed:
			end := h.reason
			t.poolsMu.Unlock()
			return end, false
		case have < min(h.users, limit):
			h.dialing++
			t.poolsMu.Unlock()
			return t.dialInto(ctx, h, p)
		case len(h.ready) > 0:
			t.poolsMu.Unlock()
			return 0, true
		}

		wake := h.wake
		t.poolsMu.Unlock()
		select {
		case <-wake:
		case <-timeout.C:
			return CloseUpstreamTimeout, false
		case <-ctx.Done():
			return closeReason(ctx, CloseUpstreamTimeout), false
		}
		t.poolsMu.Lock()
	}
}

// dialInto dials a connection for h, which counts it already.
func (t *Table) dialInto(ctx context.Context, h *upstreamPool, p *Plan) (CloseReason, bool) {
	conn, end := t.dial(ctx, p)
	t.poolsMu.Lock()
	defer t.poolsMu.Unlock()
	h.dialing--
	switch {
	case conn != nil:
		h.ready = append(h.ready, readyConn{conn, time.Now()})
	case ctx.Err() == nil: // the upstream's failure, which affects the other flows as well
		h.failed++
		h.reason = end
	}
	h.changed()
	return end, conn != nil
}

// takeConn returns a connection of h for a flow whose handshake is complete, or
// nil if there is none below maxReadyAge.
func (t *Table) takeConn(h *upstreamPool) Conn {
	t.poolsMu.Lock()
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
	t.poolsMu.Unlock()
	for _, r := range stale {
		r.conn.Abort()
	}
	return conn
}

// serveShared is serve with DialFirst and shared upstream connections.
func (t *Table) serveShared(ctx context.Context, f *Flow, r Request, p *Plan) CloseReason {
	key, _ := p.Share()
	h := t.join(key)
	end, ok := t.acquire(ctx, h, p)
	if !ok {
		t.leave(key, h)
		reject(r, p, end)
		return end
	}
	client, end := t.accept(ctx, f, r, p)
	if client == nil {
		t.leave(key, h)
		return end
	}
	defer p.OnClose()

	upstream := t.takeConn(h)
	t.leave(key, h)
	if upstream == nil {
		if upstream, end = t.dial(ctx, p); upstream == nil {
			if !end.sendsReset() {
				p.OnDrop()
			}
			client.Abort()
			return end
		}
	}
	return t.relay(ctx, f, client, upstream, p)
}
