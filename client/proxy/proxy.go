package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/knockgw/knockgw/client/relay"
	"github.com/knockgw/knockgw/internal/ctxutil"
)

// requestTimeout bounds how long a client takes to say what it wants: the same for all of SOCKS5's messages and an
// HTTP request's header. A browser that connects in advance and then says nothing finds it closed.
const requestTimeout = 15 * time.Second

// Options are the options of Serve.
type Options struct {
	// Listener is where clients connect to. Required; Serve closes it.
	Listener net.Listener
	// Dial reaches a service. address is HOST:PORT, where HOST is a name in small letters or an IP address in
	// its canonical spelling. Its error is a *UnknownServiceError if there is no such service. It is called
	// concurrently, once for each connection. Required.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// MaxConns and Drain are a relay.Acceptor's.
	MaxConns int
	Drain    time.Duration
	// Report, if not nil, is called at the end of each request, concurrently.
	Report func(Result)
	// OnRetry is a relay.Acceptor's.
	OnRetry func(error)
}

// The protocols that an End is about.
const (
	SOCKS5  = "socks5"
	Connect = "connect" // HTTP CONNECT
	HTTP    = "http"    // another request of HTTP
)

// Result is what became of a request.
type Result struct {
	relay.Result
	Protocol string // SOCKS5, Connect or HTTP
	Address  string // what was asked for; "" if that could not be understood
}

// Serve serves proxy clients. It returns when ctx ends, after the connections had their time to drain; or when
// accepting fails for good, with that error.
func Serve(ctx context.Context, o Options) error {
	if o.Listener == nil || o.Dial == nil {
		return fmt.Errorf("%w: set Listener and Dial", relay.ErrOptions)
	}
	if o.Report == nil {
		o.Report = func(Result) {}
	}
	p := &proxy{Options: o}
	p.http = newHTTPServer(p)
	defer p.http.close()
	defer ctxutil.AfterFunc(ctx, p.http.drain)()
	a := relay.Acceptor{Listener: o.Listener, MaxConns: o.MaxConns, Drain: o.Drain, OnRetry: o.OnRetry}
	return a.Serve(ctx, p.serve)
}

// proxy is a running Serve.
type proxy struct {
	Options
	http  *httpServer
	relay relay.Relay
}

// serve serves one client.
func (p *proxy) serve(ctx context.Context, conn net.Conn) {
	release := ctxutil.AfterFunc(ctx, func() { relay.Reset(conn) })
	_ = conn.SetDeadline(time.Now().Add(requestTimeout)) // without it, the drain is the limit
	var first [1]byte
	if n, err := conn.Read(first[:]); n == 0 || err != nil {
		release()
		_ = conn.Close() // nothing was said, nothing is owed
		return
	}
	switch first[0] {
	case socksVersion:
	case socks4Version:
		release()
		_, _ = conn.Write(socks4Refusal()) // it is closed whether it hears it or not
		_ = conn.Close()
		p.Report(Result{Protocol: SOCKS5, Result: relay.Result{From: conn.RemoteAddr(), Err: errSOCKS4}})
		return
	default:
		release()
		_ = conn.SetDeadline(time.Time{}) // the server has its own
		p.http.serve(ctx, conn, first[0])
		return
	}
	end := Result{Protocol: SOCKS5, Result: relay.Result{From: conn.RemoteAddr()}}
	start := time.Now()
	var far net.Conn
	end.Address, end.Err = socksHandshake(conn)
	if end.Err == nil {
		far, end.Err = p.Dial(ctx, end.Address)
		end.Dialled = end.Err == nil
	}
	p.replySOCKS(conn, &end, far)
	release()
	if end.Err == nil {
		end.Stats, end.Err = p.relay.Copy(ctx, conn, far)
	}
	end.Elapsed = time.Since(start)
	p.Report(end)
}

// replySOCKS answers a SOCKS5 request. Unless end is a success, neither connection is left.
func (p *proxy) replySOCKS(conn net.Conn, end *Result, far net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(requestTimeout)) // dialling has taken its time
	code := byte(succeeded)
	var refused *socksError
	switch {
	case end.Err == nil:
	case errors.As(end.Err, &refused):
		code = refused.code
	case end.Address == "": // the client ended, or took too long
		code = noReply
	default:
		code = classify(end.Err).code
	}
	if code != noReply {
		if _, err := conn.Write(socksReply(code)); err != nil && end.Err == nil {
			end.Err = fmt.Errorf("reply: %w", err)
		}
	}
	if end.Err == nil {
		end.Err = conn.SetDeadline(time.Time{})
	}
	if end.Err == nil {
		return
	}
	_ = conn.Close() // it was told
	if far != nil {
		relay.Reset(far)
	}
}
