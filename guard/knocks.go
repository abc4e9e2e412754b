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
	// datagramSize holds the largest datagram there is: Windows makes an error of one that is cut.
	datagramSize = 1 << 16
	// readPause is how long a socket that fails is left alone.
	readPause = 5 * time.Millisecond
)

// readKnocks hands the gate what comes on a socket, until ctx ends. Nothing is ever sent on it.
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
			return fmt.Errorf("guard: the socket for knocks, %v, was closed before its time: %w", socket.LocalAddr(), err)
		default:
			select {
			case <-time.After(readPause):
			case <-ctx.Done():
			}
		}
	}
}

// handleDatagram has the gate judge a datagram.
func (g *Guard) handleDatagram(from netip.AddrPort, payload []byte) {
	if !from.IsValid() {
		return // no address that a connection could come from
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	g.gate.AdmitDatagram(from, knockTarget, payload)
}

// receive reads one datagram, without garbage where the socket is a *net.UDPConn.
func receive(socket net.PacketConn, buf []byte) (int, netip.AddrPort, error) {
	if udp, ok := socket.(*net.UDPConn); ok {
		return udp.ReadFromUDPAddrPort(buf)
	}
	n, from, err := socket.ReadFrom(buf)
	return n, addrPort(from), err
}

// addrPort is a as the standard library's pair; not valid where it has no IP address.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	if has, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return has.AddrPort()
	}
	parsed, _ := netip.ParseAddrPort(a.String()) // the zero AddrPort where it is none
	return parsed
}
