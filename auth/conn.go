package auth

import (
	"net"

	"github.com/knockgw/knockgw/internal/netx"
)

// Conn is an authenticated connection: the accepted connection and its Peer.
type Conn struct {
	net.Conn
	peer Peer
}

// Peer returns the authenticated client and its message.
func (c *Conn) Peer() Peer { return c.peer }

// NetConn returns the accepted connection.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending direction. It returns errors.ErrUnsupported if the
// accepted connection cannot do that.
func (c *Conn) CloseWrite() error {
	return netx.CloseWrite(c.Conn)
}
