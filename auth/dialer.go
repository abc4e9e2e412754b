package auth

import (
	"context"
	"net"
)

// Dialer dials and authenticates.
type Dialer struct {
	Client *Client
	// Dial connects; nil means the DialContext of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// DialContext dials and calls Client.Handshake. It returns the dialled
// connection, unwrapped; the application's bytes are next. If the handshake
// fails, it closes the connection.
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
		_ = conn.Close() // the handshake's error is returned
		return nil, err
	}
	return conn, nil
}
