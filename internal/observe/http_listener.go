package observe

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// A boundedListener limits the number of connections. At the limit, a new
// connection replaces the oldest idle one: one that has not sent a request yet,
// or waits between two requests. So idle connections cannot keep a probe from
// its response.
type boundedListener struct {
	net.Listener
	max, maxPerAddress int

	mu   sync.Mutex
	open []*boundedConn // oldest first
}

// boundedConn is one connection.
type boundedConn struct {
	net.Conn
	listener *boundedListener
	addr     netip.Addr
	busy     bool // a request is being read or answered
	once     sync.Once
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &boundedConn{Conn: c, listener: l, addr: remoteAddr(c)}
		evicted, ok := l.add(conn)
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

// add adds a connection, and evicts an idle one if necessary.
func (l *boundedListener) add(c *boundedConn) (evicted *boundedConn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := 0
	for _, o := range l.open {
		if o.addr == c.addr && !c.addr.IsLoopback() { // a proxy on this host has the clients of many addresses
			own++
		}
	}
	switch {
	case own >= l.maxPerAddress:
		evicted = l.takeIdle(func(o *boundedConn) bool { return o.addr == c.addr })
	case len(l.open) >= l.max:
		evicted = l.takeIdle(func(*boundedConn) bool { return true })
	}
	if evicted == nil && (own >= l.maxPerAddress || len(l.open) >= l.max) {
		return nil, false
	}
	l.open = append(l.open, c)
	return evicted, true
}

// takeIdle removes and returns the oldest idle connection that match accepts.
// l.mu is held.
func (l *boundedListener) takeIdle(match func(*boundedConn) bool) *boundedConn {
	i := slices.IndexFunc(l.open, func(o *boundedConn) bool { return !o.busy && match(o) })
	if i < 0 {
		return nil
	}
	c := l.open[i]
	l.open = slices.Delete(l.open, i, i+1)
	return c
}

// setState is an http.Server's ConnState.
func (l *boundedListener) setState(c net.Conn, state http.ConnState) {
	conn, ok := c.(*boundedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	conn.busy = state == http.StateActive
}

// count returns the number of open connections.
func (l *boundedListener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.once.Do(func() {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		c.listener.open = slices.DeleteFunc(c.listener.open, func(o *boundedConn) bool { return o == c })
	})
	return c.Conn.Close()
}
