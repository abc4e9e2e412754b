package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// scrapers is the listener of the metrics. It keeps room for those that ask: of
// the connections that have not asked anything yet, or wait between two
// questions, the oldest makes room for a new one. So connections that are only
// held keep no probe from its answer.
type scrapers struct {
	net.Listener
	max, maxPerAddress int

	mu   sync.Mutex
	open []*scraper // oldest first
}

// scraper is one connection.
type scraper struct {
	net.Conn
	of   *scrapers
	addr netip.Addr
	busy bool // a question is being read or answered
	once sync.Once
}

// Accept implements net.Listener.
func (s *scrapers) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &scraper{Conn: c, of: s, addr: remoteAddr(c)}
		evicted, ok := s.add(conn)
		if evicted != nil {
			_ = evicted.Close()
		}
		if ok {
			return conn, nil
		}
		_ = c.Close()
	}
}

func remoteAddr(c net.Conn) netip.Addr {
	addr, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// add takes a connection, if need be for one that is idle.
func (s *scrapers) add(c *scraper) (evicted *scraper, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := 0
	for _, o := range s.open {
		if o.addr == c.addr && !c.addr.IsLoopback() { // a proxy on this host speaks for many
			own++
		}
	}
	switch {
	case own >= s.maxPerAddress:
		evicted = s.takeIdle(func(o *scraper) bool { return o.addr == c.addr })
	case len(s.open) >= s.max:
		evicted = s.takeIdle(func(*scraper) bool { return true })
	}
	if evicted == nil && (own >= s.maxPerAddress || len(s.open) >= s.max) {
		return nil, false
	}
	s.open = append(s.open, c)
	return evicted, true
}

// takeIdle removes the oldest idle connection of some. s.mu is held.
func (s *scrapers) takeIdle(of func(*scraper) bool) *scraper {
	i := slices.IndexFunc(s.open, func(o *scraper) bool { return !o.busy && of(o) })
	if i < 0 {
		return nil
	}
	c := s.open[i]
	s.open = slices.Delete(s.open, i, i+1)
	return c
}

// watch is an http.Server's ConnState.
func (s *scrapers) watch(c net.Conn, state http.ConnState) {
	conn, ok := c.(*scraper)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.busy = state == http.StateActive
}

// count is how many connections there are.
func (s *scrapers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Close implements net.Conn.
func (c *scraper) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		c.of.open = slices.DeleteFunc(c.of.open, func(o *scraper) bool { return o == c })
	})
	return c.Conn.Close()
}
