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
	// MaxConnections is how many clients there may be at a time: some people and
	// their scripts. Others find the connection closed.
	MaxConnections = 16
	// maxHeader and maxBody bound a request, in bytes: none of them says much.
	maxHeader = 8 << 10
	maxBody   = 4 << 10
	// readTime is how long a request may take to come in, idleTime how long a
	// connection may wait for the next.
	readTime = 5 * time.Second
	idleTime = 30 * time.Second
	// writeTime bounds the writing of an answer, from when there is one: the work for
	// it, such as a reload with many clients on a busy machine, takes as long as it
	// takes.
	writeTime = time.Minute
	// workingTime is how often a client is told that its request is being worked on.
	workingTime = 10 * time.Second
)

// A Gateway is who answers. Its methods are called concurrently.
type Gateway interface {
	// Status must return at once.
	Status() Status
	// Reload and Check return why the configuration is refused, ErrUnavailable, or
	// a Result; operator is who asked, in words for the audit.
	Reload(operator string) (*Result, error)
	Check() (*Result, error)
	Operation
	Watching
}

// A Server is the gateway's end of a socket.
type Server struct {
	listener *connlimit.Listener
	peers    peers
}

// Serve answers until ctx ends, then closes the server. It returns when what it was
// doing for clients is done.
func (s *Server) Serve(ctx context.Context, g Gateway) error {
	var at requests
	inner := s.handler(g)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if at.begin() {
				defer at.end()
				inner.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: readTime, ReadTimeout: readTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ConnContext: withPeer,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(s.listener)
	at.close()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// requests are those being answered, for which http.Server.Close does not wait.
type requests struct {
	mu     sync.Mutex
	closed bool
	n      sync.WaitGroup
}

func (r *requests) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.n.Add(1)
	}
	return !r.closed
}

func (r *requests) end() { r.n.Done() }

// close lets no more begin, and waits for those that have.
func (r *requests) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.n.Wait()
}

// Connections is how many clients there are, and how many there may be.
func (s *Server) Connections() (now, most int) { return s.listener.Active(), MaxConnections }

// Close gives the socket back where Serve was never called.
func (s *Server) Close() error { return s.listener.Close() }

// A route is one request that is understood.
type route struct {
	pattern string // as http.ServeMux's
	answer  func(r *http.Request) (any, error)
}

// routes are all the requests.
func routes(g Gateway) []route {
	return append([]route{
		{"GET /v1/status", func(*http.Request) (any, error) { return g.Status(), nil }},
		{"POST /v1/reload", func(r *http.Request) (any, error) { return g.Reload(operatorOf(r.Context())) }},
		{"POST /v1/check", func(*http.Request) (any, error) { return g.Check() }},
	}, operations(g)...)
}

func (s *Server) handler(g Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes(g) {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			answer, err := working(w, req, r.answer)
			switch {
			case err == nil:
				reply(w, http.StatusOK, answer)
			case errors.Is(err, ErrUnavailable):
				reply(w, http.StatusServiceUnavailable, Problems{problems(err)})
			default:
				reply(w, http.StatusUnprocessableEntity, Problems{problems(err)})
			}
		})
	}
	for _, s := range streams(g) {
		mux.Handle(s.pattern, s)
	}
	bounded := http.MaxBytesHandler(mux, maxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.peers.allow(r.Context()); err != nil {
			reply(w, http.StatusForbidden, Problems{problems(err)})
			return
		}
		bounded.ServeHTTP(w, r)
	})
}

// working returns what answer returns, and tells the client every workingTime that
// it goes on, by an interim response (RFC 2518, 10.1).
func working(w http.ResponseWriter, req *http.Request, answer func(*http.Request) (any, error)) (any, error) {
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(workingTime)
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
	defer telling.Wait()
	defer close(done)
	return answer(req)
}

func reply(w http.ResponseWriter, status int, answer any) {
	// Where no deadline can be set, the client is none that could hold us up.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // whoever asked may be gone
}
