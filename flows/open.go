package flows

import (
	"context"
	"errors"
	"net"
)

// serve is the life of a flow, in the order that the package comment draws.
func (s *Set) serve(ctx context.Context, f *Flow, r Request, p *Plan) End {
	if p.DialFirst {
		upstream, end := s.dial(ctx, p)
		if upstream == nil {
			if end == EndUpstreamRefused {
				r.Refuse()
			} else {
				r.Ignore()
			}
			p.Silence()
			return end
		}
		client, end := s.accept(f, r, p)
		if client == nil {
			upstream.Abort()
			return end
		}
		defer p.Closed()
		return s.relay(ctx, f, client, upstream, p.Idle)
	}
	client, end := s.accept(f, r, p)
	if client == nil {
		return end
	}
	defer p.Closed()
	if end, ok := s.authenticate(ctx, f, client, p); !ok {
		client.Abort()
		return end
	}
	if p.Serve != nil {
		return s.hand(ctx, f, client, p)
	}
	upstream, end := s.dial(ctx, p)
	if upstream == nil {
		if end != EndUpstreamRefused {
			p.Silence()
		}
		client.Abort()
		return end
	}
	return s.relay(ctx, f, client, upstream, p.Idle)
}

// accept completes the handshake. Where that fails the gate is told to be silent.
func (s *Set) accept(f *Flow, r Request, p *Plan) (Conn, End) {
	client, err := r.Accept()
	if err != nil {
		p.Silence()
		return nil, EndHandshake
	}
	if err := p.Complete(); err != nil {
		client.Abort() // heard, if the flow is still admitted
		p.Silence()
		return nil, EndNoGrant
	}
	if p.Client != nil {
		name := p.Client()
		f.client.Store(&name)
	}
	return client, 0
}

func (s *Set) authenticate(ctx context.Context, f *Flow, client Conn, p *Plan) (End, bool) {
	if p.Authenticate == nil {
		return 0, true
	}
	name, err := p.Authenticate(ctx, client)
	if err != nil {
		if ctx.Err() != nil {
			return ending(ctx, EndUnauthenticated), false
		}
		return EndUnauthenticated, false
	}
	f.client.Store(&name)
	return 0, true
}

// dial reaches the upstream, or says why not.
func (s *Set) dial(ctx context.Context, p *Plan) (Conn, End) {
	dctx, cancel := context.WithTimeout(ctx, p.DialTimeout)
	defer cancel()
	conn, err := p.Dial(dctx)
	if err == nil {
		return newSocket(conn), 0
	}
	if ctx.Err() != nil {
		return nil, ending(ctx, EndUpstreamTimeout)
	}
	s.log.Warn("upstream does not answer", "service", p.Service, "upstream", p.Upstream, "err", err)
	var timeout net.Error
	if dctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return nil, EndUpstreamTimeout
	}
	return nil, EndUpstreamRefused
}

// hand gives the connection to the program that embeds the gateway, and waits
// until that has closed it.
func (s *Set) hand(ctx context.Context, f *Flow, client Conn, p *Plan) End {
	c := &handed{Conn: client, f: f, closed: make(chan struct{})}
	if err := p.Serve(ctx, c, f.Client()); err != nil {
		client.Abort()
		return ending(ctx, EndUpstreamRefused)
	}
	select {
	case <-c.closed:
		return EndDone
	case <-ctx.Done():
		client.Abort()
		return ending(ctx, EndKilled)
	}
}

// ending translates the reason for which a flow's context was ended.
func ending(ctx context.Context, otherwise End) End {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errKilled):
		return EndKilled
	case errors.Is(cause, errIdle):
		return EndIdle
	case cause != nil:
		return EndDrained
	default:
		return otherwise
	}
}
