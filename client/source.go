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
	// Source ports of knocks and connections are random among those that every
	// system uses for connections: IANA's dynamic ports, up to the last one
	// that Linux uses.
	firstSourcePort = 49152
	numSourcePorts  = 11848 // up to 60999

	// maxPortAttempts is how many source ports are tried. Few of them are in
	// use.
	maxPortAttempts = 8
)

// sourceAddr returns the source address of a connection to target: the one that
// the kernel assigns to a connected UDP socket, without sending a packet.
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
		return netip.Addr{}, fmt.Errorf("%v is not a UDP address", conn.LocalAddr())
	}
	return local.AddrPort().Addr().Unmap(), nil
}

// dialUDP opens a UDP socket to target, from the address of the connection.
func (d *Dialer) dialUDP(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	by := d.Net
	if local := d.localAddr(); local != nil {
		by.LocalAddr = &net.UDPAddr{IP: local.IP, Zone: local.Zone} // the port is the connection's
	}
	return d.dialSocket(ctx, &by, "udp", target)
}

// withSource returns d with the source address that the system currently prefers
// for target. It returns d itself if the source is given (Net has one, or Dial
// makes the sockets, perhaps through a proxy), and if there is no address, which
// the knock will report.
func (d *Dialer) withSource(ctx context.Context, target netip.AddrPort) *Dialer {
	local := d.localAddr()
	given := local == nil && d.Net.LocalAddr != nil || local != nil && len(local.IP) > 0 && !local.IP.IsUnspecified()
	if given || d.Dial != nil {
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

// sourceGoneError reports that the source address that an attempt chose was
// removed from this host. The next attempt chooses another one.
type sourceGoneError struct{ err error }

func (e *sourceGoneError) Error() string { return "the source address was removed: " + e.err.Error() }

func (e *sourceGoneError) Unwrap() error { return e.err }

func isSourceGone(err error) bool {
	var gone *sourceGoneError
	return errors.As(err, &gone)
}

// checkSource returns err, as a sourceGoneError if that is why an attempt
// failed: withSource chose d's address, which the caller's options lack, and
// the system no longer binds a socket to it. The error of a packet from a
// removed address differs between systems and protocols.
func (d *Dialer) checkSource(ctx context.Context, target netip.AddrPort, err error, options *Dialer) error {
	if err == nil || d == options || ctx.Err() != nil || errors.Is(err, connectionRefused) {
		return err
	}
	if _, unbound := d.sourceAddr(ctx, target); !errors.Is(unbound, addressUnavailable) {
		return err
	}
	return &sourceGoneError{err}
}

// pickPort returns a random source port.
func (d *Dialer) pickPort() (uint16, error) {
	var random [4]byte
	if _, err := io.ReadFull(d.rand(), random[:]); err != nil {
		return 0, fmt.Errorf("choose a source port: %w", err)
	}
	return firstSourcePort + uint16(binary.BigEndian.Uint32(random[:])%numSourcePorts), nil
}

// isBindError reports whether a connection failed because its source port was
// not available. The error number differs between systems.
func isBindError(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "bind"
}

// localAddr returns the given source address of d's connections, or nil.
func (d *Dialer) localAddr() *net.TCPAddr {
	local, _ := d.Net.LocalAddr.(*net.TCPAddr)
	return local
}

// localPort returns the given source port of d's connections, or 0.
func (d *Dialer) localPort() uint16 {
	if local := d.localAddr(); local != nil {
		return uint16(local.Port) // 0 to 65535
	}
	return 0
}
