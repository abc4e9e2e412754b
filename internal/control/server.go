package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/connlimit"
)

const (
	// MaxConnections is the maximum number of connections: a few users and their
	// scripts. Further ones are closed.
	MaxConnections = 16
	// maxHeader and maxBody limit a request, in bytes. Requests are small.
	maxHeader = 8 << 10
	maxBody   = 4 << 10
	// readTimeout limits reading a request, idleTimeout how long a connection
	// may wait for the next.
	readTimeout = 5 * time.Second
	idleTimeout = 30 * time.Second
	// writeTimeout limits writing a response. It begins when the response is
	// complete: a reload with many clients on a loaded machine may take longer.
	writeTimeout = time.Minute
	// progressInterval is how often a client is told that its request is still
	// processed.
	progressInterval = 10 * time.Second
)

// A Gateway processes the requests. Its methods are called concurrently.
type Gateway interface {
	// Status must return at once.
	Status() Status
	// Reload and Check return why the configuration was rejected,
	// ErrUnavailable, or a Result; operator describes the caller for the audit.
	Reload(operator string) (*Result, error)
	Check() (*Result, error)
	Operator
	Streamer
}

// A Server is the gateway's end of a socket.
type Server struct {
	listener *connlimit.Listener
	peers    allowedPeers
}

// Serve processes requests until ctx ends, then closes the server. It returns
// when all requests have ended.
func (s *Server) Serve(ctx context.Context, g Gateway) error {
	var tracker requestTracker
	inner := s.handler(g)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if tracker.begin() {
				defer tracker.end()
				inner.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ConnContext: withPeer,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()

	err := server.Serve(s.listener)
	tracker.close()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// requestTracker tracks requests in progress, for which http.Server.Close does
// not wait.
type requestTracker struct {
	mu     sync.Mutex
	closed bool
	n      sync.WaitGroup
}

func (r *requestTracker) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.n.Add(1)
	}
	return !r.closed
}

func (r *requestTracker) end() { r.n.Done() }

// close rejects further requests, and waits for the others.
func (r *requestTracker) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.n.Wait()
}

// Connections returns the number of connections, and the limit.
func (s *Server) Connections() (used, limit int) { return s.listener.Active(), MaxConnections }

// Close closes the socket if Serve was not called.
func (s *Server) Close() error { return s.listener.Close() }

// A route is a kind of request.
type route struct {
	pattern string // for http.ServeMux
	handle  func(r *http.Request) (any, error)
}

// routes returns all routes.
func routes(g Gateway) []route {
	return append([]route{
		{"GET /v1/status", func(*http.Request) (any, error) { return g.Status(), nil }},
		{"POST /v1/reload", func(r *http.Request) (any, error) { return g.Reload(operatorOf(r.Context())) }},
		{"POST /v1/check", func(*http.Request) (any, error) { return g.Check() }},
	}, operatorRoutes(g)...)
}

// handler returns the HTTP handler, which checks the peer first.
func (s *Server) handler(g Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes(g) {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			result, err := runWithProgress(w, req, r.handle)
			switch {
			case err == nil:
				writeJSON(w, http.StatusOK, result)
			case errors.Is(err, ErrUnavailable):
				writeJSON(w, http.StatusServiceUnavailable, Problems{problems(err)})
			default:
				writeJSON(w, http.StatusUnprocessableEntity, Problems{problems(err)})
			}
		})
	}
	for _, s := range streams(g) {
		mux.Handle(s.pattern, s)
	}

	bounded := http.MaxBytesHandler(mux, maxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.peers.allow(r.Context()); err != nil {
			writeJSON(w, http.StatusForbidden, Problems{problems(err)})
			return
		}
		bounded.ServeHTTP(w, r)
	})
}

// runWithProgress calls handle, and meanwhile sends an interim response (102
// Processing, RFC 2518, section 10.1) every progressInterval.
func runWithProgress(w http.ResponseWriter, req *http.Request, handle func(*http.Request) (any, error)) (any, error) {
	done := make(chan struct{})
	var progress sync.WaitGroup
	progress.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				w.WriteHeader(http.StatusProcessing)
			}
		}
	})
	defer progress.Wait()
	defer close(done)
	return handle(req)
}

// writeJSON writes a response.
func writeJSON(w http.ResponseWriter, status int, body any) {
	// Connections that support no deadline cannot block either.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have closed
}
