package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
)

const (
	// The source ports of knocks and connections are drawn from those that every
	// system gives to connections: IANA's dynamic ones, up to where Linux ends.
	firstSourcePort = 49152
	sourcePorts     = 11848 // up to 60999

	// portAttempts is how many source ports are tried, of which few are in use.
	portAttempts = 8
)

// sourceAddr is the address that a connection to target would come from: the one
// that the kernel gives to a UDP socket connected there, for which it sends
// nothing.
func (d *Dialer) sourceAddr(ctx context.Context, target netip.AddrPort) (netip.Addr, error) {
	conn, err := d.dialUDP(ctx, target)
	if err != nil {
		return netip.Addr{}, err
	}
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if err := conn.Close(); err != nil {
		return netip.Addr{}, err
	}
	if !ok {
		return netip.Addr{}, fmt.Errorf("%v is no UDP address", conn.LocalAddr())
	}
	return local.AddrPort().Addr().Unmap(), nil
}

// dialUDP opens a UDP socket to target, from where the connection will come.
func (d *Dialer) dialUDP(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	n := d.Net
	if local := d.localAddr(); local != nil {
		n.LocalAddr = &net.UDPAddr{IP: local.IP, Zone: local.Zone} // the port is the connection's
	}
	return n.DialContext(ctx, "udp", target.String())
}

// dialPort knocks and connects from a source port that it has chosen, so that the
// knock can name it. The knock must come first: of a port that turns out to be in
// use, nothing remains but a knock that is good for nobody else.
func (d *Dialer) dialPort(ctx context.Context, target netip.AddrPort, session []byte) (net.Conn, error) {
	var taken error
	for range portAttempts {
		port, err := d.drawPort()
		if err != nil {
			return nil, &StepError{"knock", err}
		}
		from := *d
		local := net.TCPAddr{Port: int(port)}
		if chosen := d.localAddr(); chosen != nil {
			local.IP, local.Zone = chosen.IP, chosen.Zone
		}
		from.Net.LocalAddr = &local
		conn, err := from.dial(ctx, target, session)
		if !isBindError(err) {
			return conn, err
		}
		taken = err
	}
	return nil, taken
}

// drawPort draws a source port.
func (d *Dialer) drawPort() (uint16, error) {
	var random [4]byte
	if _, err := io.ReadFull(d.rand(), random[:]); err != nil {
		return 0, fmt.Errorf("draw a source port: %w", err)
	}
	return firstSourcePort + uint16(binary.BigEndian.Uint32(random[:])%sourcePorts), nil
}

// isBindError reports whether a connection failed for want of its source port,
// which every system says by another number.
func isBindError(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "bind"
}

// localAddr is where d's connections come from, if they are told, or nil.
func (d *Dialer) localAddr() *net.TCPAddr {
	local, _ := d.Net.LocalAddr.(*net.TCPAddr)
	return local
}

// localPort is the port that d's connections come from, if they are told, or 0.
func (d *Dialer) localPort() uint16 {
	if local := d.localAddr(); local != nil {
		return uint16(local.Port) // a port is what it is for
	}
	return 0
}
