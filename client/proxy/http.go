package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/knockgw/knockgw/client/relay"
)

const (
	// maxHeader limits the header of a request, in bytes: more than browsers
	// send with all their cookies.
	maxHeader = 64 << 10
	// idleTimeout is how long an idle connection of a client or to a service is
	// kept for another request.
	idleTimeout = time.Minute
	// maxIdleConns limits the idle connections to one service: the number that
	// browsers open to a host.
	maxIdleConns = 6
)

// established is the response to a successful CONNECT. The bytes after it are
// the service's.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// httpServer is the HTTP part of a proxy: a net/http server for connections
// whose first byte was already read.
type httpServer struct {
	proxy        *proxy
	server       *http.Server
	transport    *http.Transport
	reverseProxy *httputil.ReverseProxy
	listener     *connListener
	ctx          context.Context // ends with close
	cancel       context.CancelFunc
	done         chan struct{} // closed when the server has stopped
}

func newHTTPServer(p *proxy) *httpServer {
	discard := log.New(io.Discard, "", 0) // errors go to Report
	w := &httpServer{proxy: p, listener: newConnListener(p.Listener.Addr()), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())

	w.transport = &http.Transport{
		DialContext:         w.dial,
		DisableCompression:  true, // responses are passed on unchanged
		MaxIdleConnsPerHost: maxIdleConns, IdleConnTimeout: idleTimeout,
	}
	w.reverseProxy = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Host = requestOf(r.In).result.Address },
		Transport:     w.transport,
		FlushInterval: -1, // at once, for streaming responses
		ErrorLog:      discard,
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			requestOf(r).refuse(rw, err, classify(err).status)
		},
	}

	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: requestTimeout, MaxHeaderBytes: maxHeader, IdleTimeout: idleTimeout,
		ErrorLog: discard,
		ConnContext: func(_ context.Context, c net.Conn) context.Context {
			h := c.(*prefixedConn)
			return context.WithValue(h.ctx, connKey{}, h)
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			switch h := c.(*prefixedConn); s {
			case http.StateHijacked:
				h.hijacked = true
			case http.StateClosed:
				close(h.done)
			}
		},
	}

	go func() {
		defer close(w.done)
		_ = w.server.Serve(w.listener) // until close
	}()
	return w
}

// dial is the dial function of the transport. A transport continues to dial when
// the request that needed the connection has ended; close ends that.
func (w *httpServer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	return w.proxy.Dial(ctx, address)
}

// drain closes the idle connections. The others continue until their request has
// ended.
func (w *httpServer) drain() {
	w.transport.CloseIdleConnections()
	w.server.SetKeepAlivesEnabled(false) // closes idle connections
}

// close stops the server, whose connections must have ended.
func (w *httpServer) close() {
	w.cancel()
	_ = w.server.Close() // closes the listener, too
	<-w.done
	w.transport.CloseIdleConnections()
}

// serve passes a connection to the server, and waits until it is no longer in
// use.
func (w *httpServer) serve(ctx context.Context, conn net.Conn, first byte) {
	h := &prefixedConn{Conn: conn, ctx: ctx, prefix: []byte{first}, done: make(chan struct{})}
	w.listener.conns <- h // always received: the server is stopped after the last connection
	select {
	case <-h.done:
	case <-ctx.Done():
		relay.Reset(conn)
		<-h.done
	}
}

// request is a request in progress.
type request struct {
	result Result
}

// The keys of context values: the connection and the request.
type (
	connKey    struct{}
	requestKey struct{}
)

// requestOf returns the request that ServeHTTP has stored in the context.
func requestOf(r *http.Request) *request { return r.Context().Value(requestKey{}).(*request) }

// refuse responds with an error, and records it in the result.
func (a *request) refuse(rw http.ResponseWriter, err error, status int) {
	a.result.Err = err
	http.Error(rw, "knockgw: "+err.Error(), status)
}

// ServeHTTP serves one request of a client. (http.Handler)
func (w *httpServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h := r.Context().Value(connKey{}).(*prefixedConn)
	a := &request{Result{Protocol: HTTP, Result: relay.Result{From: h.RemoteAddr()}}}
	start := time.Now()
	defer func() {
		a.result.Elapsed = time.Since(start)
		w.proxy.Report(a.result)
		if h.hijacked {
			_ = h.Close()
			close(h.done)
		}
	}()
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, a))

	var err error
	switch {
	case r.Method == http.MethodConnect:
		a.result.Protocol = Connect
		if a.result.Address, err = parseAuthority(r.RequestURI, 0); err != nil {
			a.refuse(rw, fmt.Errorf("CONNECT: %w", err), http.StatusBadRequest)
			return
		}
		w.connect(rw, r, h, a)
	case r.URL.Host == "":
		a.refuse(rw, errors.New("this is a proxy, not a web site; enter this address in the proxy settings of your program"), http.StatusBadRequest)
	case r.URL.Scheme != "http":
		a.refuse(rw, errors.New("only http:// requests are forwarded; use CONNECT for other connections"), http.StatusBadRequest)
	default:
		if a.result.Address, err = parseAuthority(r.URL.Host, 80); err != nil {
			a.refuse(rw, err, http.StatusBadRequest)
			return
		}
		w.reverseProxy.ServeHTTP(rw, r)
	}
}

// connect serves a CONNECT: it relays between the client and the service.
func (w *httpServer) connect(rw http.ResponseWriter, r *http.Request, h *prefixedConn, a *request) {
	service, err := w.proxy.Dial(r.Context(), a.result.Address)
	if err != nil {
		a.refuse(rw, err, classify(err).status)
		return
	}
	a.result.Dialled = true
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		relay.Reset(service)
		a.refuse(rw, err, http.StatusInternalServerError)
		return
	}

	// If the deadline cannot be set, the drain is the limit.
	_ = conn.SetDeadline(time.Now().Add(requestTimeout))
	if _, err = io.WriteString(conn, established); err == nil {
		// Pass on what the client sent early and net/http has buffered.
		early, _ := buffered.Peek(buffered.Reader.Buffered()) // cannot fail for buffered bytes
		_ = service.SetDeadline(time.Now().Add(requestTimeout))
		_, err = service.Write(early)
		a.result.Stats.Up = int64(len(early))
	}
	if err = errors.Join(err, conn.SetDeadline(time.Time{}), service.SetDeadline(time.Time{})); err != nil {
		relay.Reset(h.Conn)
		relay.Reset(service)
		a.result.Err = err
		return
	}

	stats, err := w.proxy.relay.Copy(h.ctx, h.Conn, service)
	a.result.Stats.Up += stats.Up
	a.result.Stats.Down = stats.Down
	a.result.Err = err
}
