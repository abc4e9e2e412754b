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
	numSourcePorts  = 11848 // up to 60999

	// maxPortAttempts is how many source ports are tried, of which few are in use.
	maxPortAttempts = 8
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
	by := d.Net
	if local := d.localAddr(); local != nil {
		by.LocalAddr = &net.UDPAddr{IP: local.IP, Zone: local.Zone} // the port is the connection's
	}
	return d.dialSocket(ctx, &by, "udp", target)
}

// withSource is d with the source address that the system prefers for target
// at this moment. It is d itself where the source is not d's to choose: Net has
// one, or Dial makes the sockets, perhaps through a proxy; and where there is no
// address, which the knock will report.
func (d *Dialer) withSource(ctx context.Context, target netip.AddrPort) *Dialer {
	local := d.localAddr()
	chosen := local == nil && d.Net.LocalAddr != nil || local != nil && len(local.IP) > 0 && !local.IP.IsUnspecified()
	if chosen || d.Dial != nil {
		return d
	}
	source, err := d.sourceAddr(ctx, target)
	if err != nil {
		return d
	}
	from := *d
	from.Net.LocalAddr = &net.TCPAddr{IP: source.AsSlice(), Port: int(d.localPort()), Zone: source.Zone()}
	return &from
}

// sourceGoneError is an attempt's error if the source address that it chose is no
// longer this host's. The next attempt chooses again.
type sourceGoneError struct{ err error }

func (e *sourceGoneError) Error() string { return "the source address is gone: " + e.err.Error() }

func (e *sourceGoneError) Unwrap() error { return e.err }

func isSourceGone(err error) bool {
	var gone *sourceGoneError
	return errors.As(err, &gone)
}

// checkSource is err as a sourceGoneError if that is why an attempt failed: it was made
// by d, whose source address was chosen for it and not by its caller's options,
// and the system no longer binds a socket to that address. What it says about a
// packet from such an address differs between systems and protocols.
func (d *Dialer) checkSource(ctx context.Context, target netip.AddrPort, err error, options *Dialer) error {
	if err == nil || d == options || ctx.Err() != nil || errors.Is(err, connectionRefused) {
		return err
	}
	if _, unbound := d.sourceAddr(ctx, target); !errors.Is(unbound, addressUnavailable) {
		return err
	}
	return &sourceGoneError{err}
}

// pickPort draws a source port.
func (d *Dialer) pickPort() (uint16, error) {
	var random [4]byte
	if _, err := io.ReadFull(d.rand(), random[:]); err != nil {
		return 0, fmt.Errorf("draw a source port: %w", err)
	}
	return firstSourcePort + uint16(binary.BigEndian.Uint32(random[:])%numSourcePorts), nil
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
