package auth

import (
	"net"

	"github.com/knockgw/knockgw/internal/netx"
)

// Conn is an authenticated connection. It is the connection that was accepted, and who is at its end.
type Conn struct {
	net.Conn
	peer Peer
}

// Peer is who is at the other end, and what its message said.
func (c *Conn) Peer() Peer { return c.peer }

// NetConn is the connection that was accepted.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite sends a FIN where the accepted connection can, and fails with errors.ErrUnsupported
// where it cannot.
func (c *Conn) CloseWrite() error {
	return netx.CloseWrite(c.Conn)
}
