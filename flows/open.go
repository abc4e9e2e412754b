package flows

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/knockgw/knockgw/internal/ctxutil"
	"github.com/knockgw/knockgw/internal/loglimit"
)

// serve is the life of a flow, in the order that the package comment draws.
func (s *Set) serve(ctx context.Context, f *Flow, r Request, p *Plan) End {
	if p.DialFirst {
		if p.Share != nil {
			return s.serveShared(ctx, f, r, p)
		}
		upstream, end := s.dial(ctx, p)
		if upstream == nil {
			giveUp(r, p, end)
			return end
		}
		client, end := s.accept(ctx, f, r, p)
		if client == nil {
			upstream.Abort()
			return end
		}
		defer p.Closed()
		return s.relay(ctx, f, client, upstream, p)
	}
	client, end := s.accept(ctx, f, r, p)
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
		if !end.heard() {
			p.Silence()
		}
		client.Abort()
		return end
	}
	return s.relay(ctx, f, client, upstream, p)
}

// giveUp ends a request whose upstream was not reached.
func giveUp(r Request, p *Plan, end End) {
	if end.heard() {
		r.Refuse()
	} else {
		r.Ignore()
	}
	p.Silence()
}

// heard tells whether a client that waits for its upstream hears of this end.
func (e End) heard() bool { return e == EndUpstreamRefused || e == EndDrained }

// handshakeTime bounds how long a client may take to complete its handshake. The
// stack by itself would send its SYN-ACK again for two minutes. It has been sent
// five times by then: after 0, 1, 3, 7 and 15 s.
const handshakeTime = 20 * time.Second

// accept completes the handshake. Where that fails the gate is told to be silent.
func (s *Set) accept(ctx context.Context, f *Flow, r Request, p *Plan) (Conn, End) {
	shake, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	release := ctxutil.Done(shake, func() {
		if ending(ctx, EndKilled).heard() {
			r.Refuse()
		} else {
			r.Ignore()
		}
	})
	client, err := r.Accept()
	release()
	if err != nil {
		p.Silence()
		return nil, ending(ctx, EndHandshake)
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
		return ending(ctx, EndUnauthenticated), false
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
	if leftOut, ok := s.silent.Take(time.Now()); ok {
		s.log.Warn("upstream does not answer", loglimit.With(leftOut, "service", p.Service, "upstream", p.Upstream, "err", err)...)
	}
	var timeout net.Error
	if dctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return nil, EndUpstreamTimeout
	}
	return nil, EndUpstreamRefused
}

// hand gives the connection to the program that embeds the gateway, and waits
// until that has closed it.
func (s *Set) hand(ctx context.Context, f *Flow, client Conn, p *Plan) End {
	s.began()
	defer f.watchIdle(p)()
	c := &handed{Conn: client, f: f, closed: make(chan struct{})}
	defer ctxutil.Done(ctx, client.Abort)()
	if err := p.Serve(ctx, c, f.Client()); err != nil {
		client.Abort()
		return ending(ctx, EndUpstreamRefused)
	}
	select {
	case <-c.closed:
		return EndDone
	case <-ctx.Done():
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
