package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/netx"
)

// acceptBacklog is how many admitted connections of one service may wait for
// Accept; further ones are reset.
const acceptBacklog = 128

// Conn is an admitted connection of a service without an upstream. RemoteAddr
// is the client's address, LocalAddr the protected address that it dialed.
type Conn struct {
	net.Conn
	client string
}

// Client returns the ID of the client that authenticated or, in mode knock,
// knocked.
func (c *Conn) Client() string { return c.client }

// CloseWrite closes the sending direction; the other continues.
func (c *Conn) CloseWrite() error { return netx.CloseWrite(c.Conn) }

// listener passes a service's connections to the embedding program.
type listener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener(s *config.Service) *listener {
	return &listener{
		addr:   net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.Listen.Addr(), s.Port)),
		conns:  make(chan net.Conn, acceptBacklog),
		closed: make(chan struct{}),
	}
}

// Listener returns the listener of a service without an upstream. It may be
// called before Run, and for a new service after Reload. Accept returns a
// *Conn, and net.ErrClosed once the gateway is stopping or the service was
// removed. After Close the service's new connections are reset.
func (g *Gateway) Listener(service string) (net.Listener, error) {
	s := g.snapshots.current.Load().services[service]
	if s == nil || s.listener == nil {
		return nil, fmt.Errorf("gateway: %q is not a service without an upstream", service)
	}
	return s.listener, nil
}

// serve implements flows.Plan's Serve.
func (l *listener) serve(ctx context.Context, conn net.Conn, client string) error {
	select {
	case <-l.closed:
		return net.ErrClosed
	default:
	}
	select {
	case l.conns <- &Conn{conn, client}:
		return nil
	case <-l.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
		return fmt.Errorf("gateway: %d connections are waiting for Accept", acceptBacklog)
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.shut()
	return nil
}

// shut ends Accept and closes the connections that were not accepted.
func (l *listener) shut() {
	l.once.Do(func() { close(l.closed) })
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
