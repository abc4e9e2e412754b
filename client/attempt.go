package client

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// attempt knocks at target and connects to it. knocked is called after each
// knock. The step is the one that failed.
func (d *Dialer) attempt(
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
	for range portAttempts {
		var from *Dialer
		if from, err = d.fromOwnPort(); err != nil {
			return nil, StepKnock, err
		}
		conn, step, err = from.knockAndConnect(ctx, target, session, knocked)
		if !isBindError(err) {
			break
		}
	}
	return conn, step, err
}

func (d *Dialer) knockAndConnect(
	ctx context.Context, target netip.AddrPort, session []byte, knocked func(error),
) (net.Conn, string, error) {
	err := d.Knock(ctx, target, session)
	knocked(err)
	if err != nil {
		return nil, StepKnock, err
	}
	conn, err := d.connect(ctx, target)
	return conn, StepConnect, err
}

func (d *Dialer) connect(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	by := d.Net
	probe(&by)
	return d.socket(ctx, &by, "tcp", target)
}

// fromOwnPort is d from a source port that was drawn.
func (d *Dialer) fromOwnPort() (*Dialer, error) {
	port, err := d.drawPort()
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

// probe has the connections of by probed, unless by says how or not to.
func probe(by *net.Dialer) {
	if by.KeepAlive == 0 && by.KeepAliveConfig == (net.KeepAliveConfig{}) {
		by.KeepAliveConfig = keepAlive
	}
}
