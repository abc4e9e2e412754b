package flows

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/knockgw/knockgw/internal/ctxutil"
	"github.com/knockgw/knockgw/internal/loglimit"
)

// serve serves a flow in the order that the package comment shows.
func (t *Table) serve(ctx context.Context, f *Flow, r Request, p *Plan) CloseReason {
	if p.DialFirst {
		if p.Share != nil {
			return t.serveShared(ctx, f, r, p)
		}
		upstream, end := t.dial(ctx, p)
		if upstream == nil {
			reject(r, p, end)
			return end
		}
		client, end := t.accept(ctx, f, r, p)
		if client == nil {
			upstream.Abort()
			return end
		}
		defer p.OnClose()
		return t.relay(ctx, f, client, upstream, p)
	}

	client, end := t.accept(ctx, f, r, p)
	if client == nil {
		return end
	}
	defer p.OnClose()
	if end, ok := t.authenticate(ctx, f, client, p); !ok {
		client.Abort()
		return end
	}
	if p.Serve != nil {
		return t.serveConn(ctx, f, client, p)
	}

	upstream, end := t.dial(ctx, p)
	if upstream == nil {
		if !end.sendsReset() {
			p.OnDrop()
		}
		client.Abort()
		return end
	}
	return t.relay(ctx, f, client, upstream, p)
}

// reject ends a request whose upstream was not reached.
func reject(r Request, p *Plan, end CloseReason) {
	if end.sendsReset() {
		r.Reset()
	} else {
		r.Drop()
	}
	p.OnDrop()
}

func (t *Table) authenticate(ctx context.Context, f *Flow, client Conn, p *Plan) (CloseReason, bool) {
	if p.Authenticate == nil {
		return 0, true
	}
	name, err := p.Authenticate(ctx, client)
	if err != nil {
		return closeReason(ctx, CloseUnauthenticated), false
	}
	f.client.Store(&name)
	return 0, true
}

// dial connects to the upstream, or returns the reason why it cannot.
func (t *Table) dial(ctx context.Context, p *Plan) (Conn, CloseReason) {
	dctx, cancel := context.WithTimeout(ctx, p.DialTimeout)
	defer cancel()
	conn, err := p.Dial(dctx)
	if err == nil {
		return newSocket(conn), 0
	}
	if ctx.Err() != nil {
		return nil, closeReason(ctx, CloseUpstreamTimeout)
	}
	if leftOut, ok := t.dialWarnings.Allow(time.Now()); ok {
		t.log.Warn("upstream does not answer", loglimit.Attrs(leftOut, "service", p.Service, "upstream", p.Upstream, "err", err)...)
	}
	var timeout net.Error
	if dctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return nil, CloseUpstreamTimeout
	}
	return nil, CloseUpstreamRefused
}

// serveConn passes the connection to the embedding program, and waits until
// that has closed it.
func (t *Table) serveConn(ctx context.Context, f *Flow, client Conn, p *Plan) CloseReason {
	t.countStarted()
	defer f.startIdleTimer(p)()
	c := &trackedConn{Conn: client, f: f, closed: make(chan struct{})}
	defer ctxutil.AfterFunc(ctx, client.Abort)()
	if err := p.Serve(ctx, c, f.Client()); err != nil {
		client.Abort()
		return closeReason(ctx, CloseUpstreamRefused)
	}
	select {
	case <-c.closed:
		return CloseEOF
	case <-ctx.Done():
		return closeReason(ctx, CloseKilled)
	}
}
