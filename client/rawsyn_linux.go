//go:build linux

package client

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// openRaw opens a socket that sends whole IP packets, of the version of source,
// which it is bound to: so that rules which route by source apply to it.
func (d *Dialer) openRaw(ctx context.Context, source netip.Addr) (net.PacketConn, error) {
	// Protocol 255, IPPROTO_RAW: the header is ours in both versions, but for the
	// length, an id of 0 and the checksum of IPv4's, which the kernel would set
	// just so. Nothing is ever received.
	network := "ip6:255"
	if source.Is4() {
		network = "ip4:255"
	}
	config := net.ListenConfig{Control: d.Net.Control}
	if d.Net.ControlContext != nil {
		config.Control = func(network, address string, c syscall.RawConn) error {
			return d.Net.ControlContext(ctx, network, address, c)
		}
	}
	return config.ListenPacket(ctx, network, source.String())
}
