package auth

import (
	"context"
	"net"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// Peer is what a verified message said, and whose it was. It may be copied; what it points to is shared
// by the copies, so read it and leave it alone.
type Peer struct {
	Conn     net.Conn // the connection that it came on, as it was handed in
	Client   *protocol.Client
	Protocol Protocol         // V1 or V2; 0 for who has only knocked
	Message  protocol.Message // zero for who has only knocked
	// ClockOffset is the message's time less ours: positive when the peer's clock is ahead.
	ClockOffset time.Duration
}

// ClientID is the client's id; "" for the zero Peer.
func (p Peer) ClientID() string {
	if p.Client == nil {
		return ""
	}
	return p.Client.ID()
}

// Method is what the client says it has knocked with. It is sealed, so it is the client's own word, but
// nobody has compared it with the knock.
func (p Peer) Method() string { return p.Message.Method }

// SessionID is the session that the client names, the one that it has knocked with where a knock was
// needed; nil if it names none.
func (p Peer) SessionID() []byte { return p.Message.SessionID }

// Extensions is what the client has sent along; this module gives it no meaning.
func (p Peer) Extensions() []byte { return p.Message.Extensions }

// maxWrappers is how many connections may be round one another before PeerOf gives up: more than anybody
// stacks, and an end for those that are their own NetConn.
const maxWrappers = 32

// PeerOf tells who is at the other end of conn: a *Conn, anything that has its Peer method (a struct
// that embeds a *Conn), or what says in a method NetConn() net.Conn that it is round one of these, as a
// tls.Conn does. ok is false where there is none of them.
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

// peerKey is where a context has its Peer.
type peerKey struct{}

// ConnContext is for the field of this name of an http.Server: the requests that come on a Listener's
// connections, with or without TLS on top, know their Peer then; see PeerFromContext. Requests on other
// connections have none.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	peer, ok := PeerOf(conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// PeerFromContext tells who has sent a request, given its context. ok is false where the connection was
// not a Listener's, or ConnContext not told of it: serve nobody then.
func PeerFromContext(ctx context.Context) (peer Peer, ok bool) {
	peer, ok = ctx.Value(peerKey{}).(Peer)
	return peer, ok
}
