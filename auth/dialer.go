package auth

import (
	"context"
	"net"
)

// Dialer dials and authenticates.
type Dialer struct {
	Client *Client
	// Dial makes the connection; nil means a net.Dialer's DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// DialContext dials, and does Client.Handshake. The connection returned is the one dialled, unwrapped;
// the application's bytes are next. When the handshake fails it has closed the connection.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := d.Client.Handshake(ctx, conn); err != nil {
		_ = conn.Close() // the handshake's error is the one to tell
		return nil, err
	}
	return conn, nil
}
