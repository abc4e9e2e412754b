package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// datagramSize is the maximum size of a datagram: Windows reports a
	// truncated one as an error.
	datagramSize = 1 << 16
	// readPause is the pause after a read error.
	readPause = 5 * time.Millisecond
)

// readKnocks passes the datagrams of a socket to the gate until ctx ends. It
// never sends any.
func (g *Guard) readKnocks(ctx context.Context, socket net.PacketConn) error {
	buf := make([]byte, datagramSize)
	for {
		n, from, err := receive(socket, buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			g.handleDatagram(from, buf[:n])
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("guard: the socket for knocks, %v, was closed while Run runs: %w", socket.LocalAddr(), err)
		default:
			select {
			case <-time.After(readPause):
			case <-ctx.Done():
			}
		}
	}
}

// handleDatagram passes a datagram to the gate.
func (g *Guard) handleDatagram(from netip.AddrPort, payload []byte) {
	if !from.IsValid() {
		return // no connection can come from there
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	g.gate.AdmitDatagram(from, knockTarget, payload)
}

// receive reads one datagram, without allocating if the socket is a
// *net.UDPConn.
func receive(socket net.PacketConn, buf []byte) (int, netip.AddrPort, error) {
	if udp, ok := socket.(*net.UDPConn); ok {
		return udp.ReadFromUDPAddrPort(buf)
	}
	n, from, err := socket.ReadFrom(buf)
	return n, addrPort(from), err
}

// addrPort converts a. The result is not valid if a has no IP address.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	if has, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return has.AddrPort()
	}
	parsed, _ := netip.ParseAddrPort(a.String()) // the zero AddrPort on errors
	return parsed
}
