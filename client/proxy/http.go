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
	// maxHeader bounds a request's header in bytes: more than browsers send with all their cookies.
	maxHeader = 64 << 10
	// idleTimeout is how long a client's connection, or one to a service, is kept for another request.
	idleTimeout = time.Minute
	// maxIdleConns bounds the connections to one service that are kept: what browsers open to one host.
	maxIdleConns = 6
)

// established is the answer to a CONNECT that worked: from here on the bytes are the service's.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// httpServer is the part of a proxy that speaks HTTP: net/http's server, to which connections are handed whose first
// byte was read already.
type httpServer struct {
	proxy        *proxy
	server       *http.Server
	transport    *http.Transport
	reverseProxy *httputil.ReverseProxy
	listener     *connListener
	ctx          context.Context // ends with close
	cancel       context.CancelFunc
	done         chan struct{} // closed when the server has ended
}

func newHTTPServer(p *proxy) *httpServer {
	quiet := log.New(io.Discard, "", 0) // what matters goes to Report
	w := &httpServer{proxy: p, listener: newConnListener(p.Listener.Addr()), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.transport = &http.Transport{
		DialContext:         w.dial,
		DisableCompression:  true, // what the client did not ask for it does not get
		MaxIdleConnsPerHost: maxIdleConns, IdleConnTimeout: idleTimeout,
	}
	w.reverseProxy = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Host = requestOf(r.In).result.Address },
		Transport:     w.transport,
		FlushInterval: -1, // at once: whoever streams wants it so
		ErrorLog:      quiet,
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			requestOf(r).refuse(rw, err, classify(err).status)
		},
	}
	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: requestTimeout, MaxHeaderBytes: maxHeader, IdleTimeout: idleTimeout,
		ErrorLog: quiet,
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

// dial is the transport's. A transport goes on dialling when the request that wanted it is over; but not when
// the proxy is.
func (w *httpServer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	return w.proxy.Dial(ctx, address)
}

// drain ends the connections that wait for another request; the others go on.
func (w *httpServer) drain() {
	w.transport.CloseIdleConnections()
	w.server.SetKeepAlivesEnabled(false) // closes those that wait
}

// close ends the server when its connections have ended.
func (w *httpServer) close() {
	w.cancel()
	_ = w.server.Close() // and with it the handover
	<-w.done
	w.transport.CloseIdleConnections()
}

// serve has the server serve a connection, and waits until nothing uses it any more.
func (w *httpServer) serve(ctx context.Context, conn net.Conn, first byte) {
	h := &prefixedConn{Conn: conn, ctx: ctx, prefix: []byte{first}, done: make(chan struct{})}
	w.listener.conns <- h // the server takes it: it ends after the last connection
	select {
	case <-h.done:
	case <-ctx.Done():
		relay.Reset(conn)
		<-h.done
	}
}

// request is one request while it is served.
type request struct {
	result Result
}

// What contexts have with them: the connection, and the request.
type (
	connKey    struct{}
	requestKey struct{}
)

// requestOf is what ServeHTTP has noted about a request.
func requestOf(r *http.Request) *request { return r.Context().Value(requestKey{}).(*request) }

// refuse says to the client, and notes, why there is no answer.
func (a *request) refuse(rw http.ResponseWriter, err error, status int) {
	a.result.Err = err
	http.Error(rw, "knockgw: "+err.Error(), status)
}

// ServeHTTP serves one request of a client.
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
		a.refuse(rw, errors.New("this is a proxy and no web site: write it into your program's proxy settings"), http.StatusBadRequest)
	case r.URL.Scheme != "http":
		a.refuse(rw, errors.New("only http:// is forwarded; other connections go through CONNECT"), http.StatusBadRequest)
	default:
		if a.result.Address, err = parseAuthority(r.URL.Host, 80); err != nil {
			a.refuse(rw, err, http.StatusBadRequest)
			return
		}
		w.reverseProxy.ServeHTTP(rw, r)
	}
}

// connect joins the client with the service.
func (w *httpServer) connect(rw http.ResponseWriter, r *http.Request, h *prefixedConn, a *request) {
	far, err := w.proxy.Dial(r.Context(), a.result.Address)
	if err != nil {
		a.refuse(rw, err, classify(err).status)
		return
	}
	a.result.Dialled = true
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		relay.Reset(far)
		a.refuse(rw, err, http.StatusInternalServerError)
		return
	}
	// The connection's own deadline for the answer; without it, the drain is the limit.
	_ = conn.SetDeadline(time.Now().Add(requestTimeout))
	if _, err = io.WriteString(conn, established); err == nil {
		// What the client has sent early, and net/http read.
		early, _ := buffered.Peek(buffered.Reader.Buffered()) // cannot fail for what is there
		_ = far.SetDeadline(time.Now().Add(requestTimeout))
		_, err = far.Write(early)
		a.result.Stats.Up = int64(len(early))
	}
	if err = errors.Join(err, conn.SetDeadline(time.Time{}), far.SetDeadline(time.Time{})); err != nil {
		relay.Reset(h.Conn)
		relay.Reset(far)
		a.result.Err = err
		return
	}
	moved, err := w.proxy.relay.Copy(h.ctx, h.Conn, far)
	a.result.Stats.Up += moved.Up
	a.result.Stats.Down = moved.Down
	a.result.Err = err
}
