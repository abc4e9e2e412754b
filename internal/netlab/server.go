package netlab

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// A Server answers the connections of its listeners until it is closed.
type Server struct {
	handle    func(net.Conn)
	accepted  atomic.Int64
	goroutine sync.WaitGroup

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[net.Conn]struct{}
	closed    bool
}

// NewServer makes a server that calls handle for each connection, and closes
// the connection when handle returns.
func NewServer(handle func(net.Conn)) *Server {
	return &Server{handle: handle, conns: make(map[net.Conn]struct{})}
}

// Serve starts to accept connections from a listener, which Close closes.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()

	s.goroutine.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.accepted.Add(1)
			if s.track(conn) {
				s.goroutine.Go(func() {
					s.handle(conn)
					s.untrack(conn)
				})
			}
		}
	})
}

// Accepted returns how many connections have reached the server.
func (s *Server) Accepted() int { return int(s.accepted.Load()) }

// track registers a connection; false: the server is closed, and so is conn.
func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
	_ = conn.Close()
}

// Close closes the listeners and the connections and waits for the goroutines.
func (s *Server) Close() error {
	var err error
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		if failed := l.Close(); !errors.Is(failed, net.ErrClosed) {
			err = errors.Join(err, failed)
		}
	}
	for conn := range s.conns {
		_ = conn.Close() // the handler may have closed it
	}
	s.mu.Unlock()

	s.goroutine.Wait()
	return err
}
