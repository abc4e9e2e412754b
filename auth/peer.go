package auth

import (
	"context"
	"net"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// Peer is a verified message and its sender. Copies share what it points to,
// which must not be modified.
type Peer struct {
	Conn     net.Conn // the connection, as it was passed to the handshake
	Client   *protocol.Client
	Protocol Protocol         // V1 or V2; 0 for a client that only knocked
	Message  protocol.Message // zero for a client that only knocked
	// ClockOffset is the message's time minus ours: positive if the peer's
	// clock is ahead.
	ClockOffset time.Duration
}

// ClientID returns the client's ID; "" for the zero Peer.
func (p Peer) ClientID() string {
	if p.Client == nil {
		return ""
	}
	return p.Client.ID()
}

// Method returns the method with which the client says it knocked. It is
// sealed, so the client wrote it, but it was not compared with the knock.
func (p Peer) Method() string { return p.Message.Method }

// SessionID returns the session ID in the message: that of the knock if one was
// required; nil if there is none.
func (p Peer) SessionID() []byte { return p.Message.SessionID }

// Extensions returns the extensions in the message. They have no meaning for
// this module.
func (p Peer) Extensions() []byte { return p.Message.Extensions }

// maxWrappers is how many nested wrappers PeerOf removes: more than programs
// use, and an end for those that return themselves.
const maxWrappers = 32

// PeerOf returns the Peer of conn: a *Conn, any type with its Peer method (such
// as a struct that embeds a *Conn), or a wrapper of one of these with a method
// NetConn() net.Conn, such as a tls.Conn. ok is false if conn is none of them.
func PeerOf(conn net.Conn) (peer Peer, ok bool) {
	for range maxWrappers {
		if c, ok := conn.(interface{ Peer() Peer }); ok {
			return c.Peer(), true
		}
		c, wraps := conn.(interface{ NetConn() net.Conn })
		if !wraps {
			break
		}
		conn = c.NetConn()
	}
	return Peer{}, false
}

// peerKey is the key of the Peer in a context.
type peerKey struct{}

// ConnContext is for the field of that name of an http.Server: it adds the Peer
// to the context of requests on a Listener's connections, with or without TLS;
// see PeerFromContext. Requests on other connections have none.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	peer, ok := PeerOf(conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// PeerFromContext returns the Peer that sent a request, given its context. ok is
// false if the connection was not a Listener's, or the server does not use
// ConnContext: do not serve the request then.
func PeerFromContext(ctx context.Context) (peer Peer, ok bool) {
	peer, ok = ctx.Value(peerKey{}).(Peer)
	return peer, ok
}
