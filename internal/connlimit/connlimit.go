// Package connlimit limits the number of concurrent connections of a listener.
package connlimit

import (
	"net"
	"sync"
	"sync/atomic"
)

// Listener closes connections beyond Max as soon as they are accepted, so that a
// peer that holds many of them open cannot exhaust the file descriptors.
type Listener struct {
	net.Listener
	Max int

	active atomic.Int64
}

// Active returns the number of open connections. It is 0 for a nil Listener.
func (l *Listener) Active() int {
	if l == nil {
		return 0
	}
	return int(l.active.Load())
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.active.Add(1) <= int64(l.Max) {
			return &conn{Conn: c, listener: l}, nil
		}
		l.active.Add(-1)
		_ = c.Close()
	}
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	listener *Listener
	once     sync.Once
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { c.listener.active.Add(-1) })
	return c.Conn.Close()
}

// NetConn returns the underlying connection.
func (c *conn) NetConn() net.Conn { return c.Conn }
