//go:build !linux

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// openRaw fails: Windows sends no TCP from a raw socket, and the others no IPv6
// header that is not their own.
func (*Dialer) openRaw(context.Context, netip.Addr) (net.PacketConn, error) {
	return nil, errors.ErrUnsupported
}
