// Package connlimit has a listener that takes only so many connections at a time.
package connlimit

import (
	"net"
	"sync"
	"sync/atomic"
)

// Listener closes the connections beyond Most at once, so that whoever holds many of
// them open takes no more descriptors.
type Listener struct {
	net.Listener
	Most int

	open atomic.Int64
}

// Open is how many connections there are.
func (l *Listener) Open() int {
	if l == nil {
		return 0
	}
	return int(l.open.Load())
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= int64(l.Most) {
			return &conn{Conn: c, of: l}, nil
		}
		l.open.Add(-1)
		_ = c.Close()
	}
}

type conn struct {
	net.Conn
	of   *Listener
	once sync.Once
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { c.of.open.Add(-1) })
	return c.Conn.Close()
}

// NetConn returns the socket.
func (c *conn) NetConn() net.Conn { return c.Conn }
