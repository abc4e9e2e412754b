//go:build !linux

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// openRaw fails: Windows does not send TCP from a raw socket, and the other
// systems do not accept a caller's IPv6 header.
func (*Dialer) openRaw(context.Context, netip.Addr) (net.PacketConn, error) {
	return nil, errors.ErrUnsupported
}
