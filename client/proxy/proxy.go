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

// requestTimeout limits how long a client may take to send its request: all of
// the SOCKS5 messages together, or the header of an HTTP request. A browser that
// connects in advance and sends nothing finds the connection closed.
const requestTimeout = 15 * time.Second

// Options are the options of [Serve].
type Options struct {
	// Listener is what clients connect to. Required. Serve closes it.
	Listener net.Listener
	// Dial connects to a service. address is HOST:PORT, where HOST is a name in
	// lower case or an IP address in canonical form. If there is no such
	// service, the error must be an *UnknownServiceError. Dial is called
	// concurrently, once for each connection. Required.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// MaxConns and Drain are those of a relay.Acceptor.
	MaxConns int
	Drain    time.Duration
	// Report, if not nil, is called at the end of each request, concurrently.
	Report func(Result)
	// OnRetry is that of a relay.Acceptor.
	OnRetry func(error)
}

// The values of Result.Protocol.
const (
	SOCKS5  = "socks5"
	Connect = "connect" // HTTP CONNECT
	HTTP    = "http"    // any other HTTP request
)

// Result describes a request that has ended.
type Result struct {
	relay.Result
	Protocol string // SOCKS5, Connect or HTTP
	Address  string // the requested address; "" if the request was malformed
}

// Serve serves proxy clients. It returns when ctx has ended and the connections
// have drained, or when accepting fails permanently, with that error.
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

// serve serves one client, by the protocol that its first byte indicates.
func (p *proxy) serve(ctx context.Context, conn net.Conn) {
	release := ctxutil.AfterFunc(ctx, func() { relay.Reset(conn) })
	_ = conn.SetDeadline(time.Now().Add(requestTimeout)) // if it fails, the drain is the limit
	var first [1]byte
	if n, err := conn.Read(first[:]); n == 0 || err != nil {
		release()
		_ = conn.Close() // there was no request
		return
	}

	switch first[0] {
	case socksVersion:
		p.serveSOCKS(ctx, conn, release)
	case socks4Version:
		release()
		_, _ = conn.Write(socks4Refusal()) // closed whether the client reads it or not
		_ = conn.Close()
		p.Report(Result{Protocol: SOCKS5, Result: relay.Result{From: conn.RemoteAddr(), Err: errSOCKS4}})
	default:
		release()
		_ = conn.SetDeadline(time.Time{}) // the HTTP server sets its own
		p.http.serve(ctx, conn, first[0])
	}
}

// serveSOCKS serves a SOCKS5 client whose first byte was read. release stops the
// reset of conn at the end of ctx, which the relay takes over.
func (p *proxy) serveSOCKS(ctx context.Context, conn net.Conn, release func()) {
	result := Result{Protocol: SOCKS5, Result: relay.Result{From: conn.RemoteAddr()}}
	start := time.Now()
	var service net.Conn
	result.Address, result.Err = socksHandshake(conn)
	if result.Err == nil {
		service, result.Err = p.Dial(ctx, result.Address)
		result.Dialled = result.Err == nil
	}
	p.replySOCKS(conn, &result, service)
	release()
	if result.Err == nil {
		result.Stats, result.Err = p.relay.Copy(ctx, conn, service)
	}
	result.Elapsed = time.Since(start)
	p.Report(result)
}

// replySOCKS answers a SOCKS5 request. Unless the result is a success, it closes
// both connections.
func (p *proxy) replySOCKS(conn net.Conn, result *Result, service net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(requestTimeout)) // dialing took time
	code := byte(succeeded)
	var refused *socksError
	switch {
	case result.Err == nil:
	case errors.As(result.Err, &refused):
		code = refused.code
	case result.Address == "": // the client closed the connection, or took too long
		code = noReply
	default:
		code = classify(result.Err).code
	}

	if code != noReply {
		if _, err := conn.Write(socksReply(code)); err != nil && result.Err == nil {
			result.Err = fmt.Errorf("reply: %w", err)
		}
	}
	if result.Err == nil {
		result.Err = conn.SetDeadline(time.Time{})
	}
	if result.Err == nil {
		return
	}
	_ = conn.Close() // after the reply
	if service != nil {
		relay.Reset(service)
	}
}
