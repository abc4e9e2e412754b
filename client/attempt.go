package client

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// reachTarget knocks at target and connects to it. knocked is called after each
// knock. step is the step that failed.
func (d *Dialer) reachTarget(
	ctx context.Context, target netip.AddrPort, session []byte, knocked func(error),
) (conn net.Conn, step string, err error) {
	if d.NoKnock {
		conn, err = d.connect(ctx, target)
		return conn, StepConnect, err
	}
	if !d.BindPort || d.localPort() != 0 {
		return d.knockAndConnect(ctx, target, session, knocked)
	}

	// Choose the source port here, so that the knock can contain it. The knock
	// must come first. If the port turns out to be in use, only the knock is
	// wasted: it is valid for no other port.
	for range maxPortAttempts {
		var from *Dialer
		if from, err = d.withLocalPort(); err != nil {
			return nil, StepKnock, err
		}
		conn, step, err = from.knockAndConnect(ctx, target, session, knocked)
		if !isBindError(err) || isSourceGone(err) {
			break
		}
	}
	return conn, step, err
}

// knockAndConnect knocks and connects from one source address, which it chooses
// if the caller has not: a gateway gives its grant to the source of the knock,
// and the system may prefer another address by the time of the connection, as
// it does when IPv6 privacy addresses (RFC 8981) are replaced.
func (d *Dialer) knockAndConnect(
	ctx context.Context, target netip.AddrPort, session []byte, knocked func(error),
) (net.Conn, string, error) {
	from := d.withSource(ctx, target)
	err := from.checkSource(ctx, target, from.Knock(ctx, target, session), d)
	knocked(err)
	if err != nil {
		return nil, StepKnock, err
	}
	conn, err := from.connect(ctx, target)
	return conn, StepConnect, from.checkSource(ctx, target, err, d)
}

func (d *Dialer) connect(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	by := d.Net
	setKeepAlive(&by)
	return d.dialSocket(ctx, &by, "tcp", target)
}

// withLocalPort returns d with a random source port.
func (d *Dialer) withLocalPort() (*Dialer, error) {
	port, err := d.pickPort()
	if err != nil {
		return nil, err
	}
	from, local := *d, net.TCPAddr{Port: int(port)}
	if given := d.localAddr(); given != nil {
		local.IP, local.Zone = given.IP, given.Zone
	}
	from.Net.LocalAddr = &local
	return &from, nil
}

// keepAlive configures the probes of a client's connections: one per minute, as
// many as a kernel allows (Linux: MAX_TCP_KEEPCNT). With Go's default, a
// connection would end 150 s after a network failure; the gateway keeps it for
// much longer.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Minute, Count: 127}

// setKeepAlive applies keepAlive to by, unless by has a configuration of its
// own.
func setKeepAlive(by *net.Dialer) {
	if by.KeepAlive == 0 && by.KeepAliveConfig == (net.KeepAliveConfig{}) {
		by.KeepAliveConfig = keepAlive
	}
}
