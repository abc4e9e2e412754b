//go:build linux

package client

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// openRaw opens a socket that sends whole IP packets, of the IP version of
// source. It is bound to source, so that routing rules by source address apply.
func (d *Dialer) openRaw(ctx context.Context, source netip.Addr) (net.PacketConn, error) {
	// Protocol 255, IPPROTO_RAW: the caller supplies the header in both
	// versions. In IPv4 headers, the kernel sets the length, an id of 0 and the
	// checksum, to the same values. Nothing is ever received.
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
