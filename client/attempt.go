package client

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// reachTarget knocks at target and connects to it. knocked is called after each
// knock. The step is the one that failed.
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
	// From a source port that is chosen here, so that the knock can name it. The
	// knock must come first: of a port that turns out to be in use, nothing
	// remains but a knock that is good for nobody else.
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

// knockAndConnect does both from one source address, which it chooses where the
// caller has not: a gateway gives its grant to the address that a knock comes
// from, and the system may prefer another one by the time of the connection, as
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

// withLocalPort is d from a source port that was drawn.
func (d *Dialer) withLocalPort() (*Dialer, error) {
	port, err := d.pickPort()
	if err != nil {
		return nil, err
	}
	from, local := *d, net.TCPAddr{Port: int(port)}
	if chosen := d.localAddr(); chosen != nil {
		local.IP, local.Zone = chosen.IP, chosen.Zone
	}
	from.Net.LocalAddr = &local
	return &from, nil
}

// keepAlive are the probes of a client's connections: one a minute, for as long
// as a kernel allows (Linux's MAX_TCP_KEEPCNT). Go's default would end a
// connection 150 s after the network is gone; the gateway keeps it for much longer.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Minute, Count: 127}

// setKeepAlive has the connections of by probed, unless by says how or not to.
func setKeepAlive(by *net.Dialer) {
	if by.KeepAlive == 0 && by.KeepAliveConfig == (net.KeepAliveConfig{}) {
		by.KeepAliveConfig = keepAlive
	}
}
