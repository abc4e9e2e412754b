package netstack

import (
	"errors"
	"fmt"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/knockgw/knockgw/tun"
)

// A Request is a connection that begins. Its owner ends it with one of Accept,
// Refuse and Ignore; one that it does not end is ignored when Handle returns.
// Requests of open services have their handshake behind them.
type Request struct {
	// Tuple is in the direction from the client.
	Tuple tun.Tuple

	forward *tcp.ForwarderRequest // hidden services; nil once completed
	conn    *Conn                 // open services
}

func tuple(id stack.TransportEndpointID) tun.Tuple {
	return tun.Tuple{
		Src: fromAddress(id.RemoteAddress), SrcPort: id.RemotePort,
		Dst: fromAddress(id.LocalAddress), DstPort: id.LocalPort,
	}
}

func hiddenRequest(r *tcp.ForwarderRequest) *Request {
	return &Request{Tuple: tuple(r.ID()), forward: r}
}

// errDone is what the second way to end a request gets.
var errDone = errors.New("netstack: the request has been answered already")

// Accept completes the handshake, waiting for the client to do its part, and
// returns the connection.
func (r *Request) Accept() (*Conn, error) {
	if c := r.conn; c != nil {
		r.conn = nil
		return c, nil
	}
	if r.forward == nil {
		return nil, errDone
	}
	var wq waiter.Queue
	ep, err := r.forward.CreateEndpoint(&wq)
	r.complete(false)
	if err != nil {
		return nil, fmt.Errorf("netstack: handshake with %s: %s", r.Tuple.Source(), err)
	}
	return newConn(&wq, ep, r.Tuple), nil
}

// Refuse answers with a reset.
func (r *Request) Refuse() {
	if r.conn != nil {
		r.conn.Abort()
		r.conn = nil
	}
	r.complete(true)
}

// Ignore answers nothing.
func (r *Request) Ignore() { r.complete(false) }

// complete tells the forwarder, which must hear it exactly once.
func (r *Request) complete(reset bool) {
	if r.forward != nil {
		r.forward.Complete(reset)
		r.forward = nil
	}
}

// A Conn is a client's connection: a net.Conn with the few things more that a
// relay needs. (gonet's CloseRead and CloseWrite are there too.)
type Conn struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	wq    *waiter.Queue
	tuple tun.Tuple
}

func newConn(wq *waiter.Queue, ep tcpip.Endpoint, t tun.Tuple) *Conn {
	keepalive(ep)
	return &Conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep, wq: wq, tuple: t}
}

// Tuple names the connection, in the direction from the client.
func (c *Conn) Tuple() tun.Tuple { return c.tuple }

// WaitRead returns when Read would not block, be it for data, the end or an
// error, so that a reader need not hold a buffer while it waits.
func (c *Conn) WaitRead() {
	if c.ep.Readiness(readable) != 0 {
		return
	}
	entry, ready := waiter.NewChannelEntry(readable)
	c.wq.EventRegister(&entry)
	defer c.wq.EventUnregister(&entry)
	if c.ep.Readiness(readable) == 0 {
		<-ready
	}
}

// readable is everything that a reader may be waiting for.
const readable = waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr

// Abort ends the connection with a reset, now. Whether that reaches the client
// is for the egress gate to say.
func (c *Conn) Abort() { c.ep.Abort() }

// listener accepts the connections to one port of the open interface, whatever
// their address.
type listener struct {
	s      *Stack
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	closed chan struct{}
	once   sync.Once
}

func listen(s *Stack, port uint16) (*listener, error) {
	l := &listener{s: s, wq: new(waiter.Queue), closed: make(chan struct{})}
	fail := func(what string, err tcpip.Error) (*listener, error) {
		return nil, fmt.Errorf("netstack: %s open port %d: %s", what, port, err)
	}
	ep, err := s.stack.NewEndpoint(tcp.ProtocolNumber, network(tun.Addr{}), l.wq)
	if err != nil {
		return fail("make endpoint for", err)
	}
	l.ep = ep
	// One listener for both families, reached through the open interface only.
	ep.SocketOptions().SetV6Only(false)
	if err := ep.SocketOptions().SetBindToDevice(int32(openNIC)); err != nil {
		ep.Close()
		return fail("confine", err)
	}
	if err := ep.Bind(tcpip.FullAddress{Port: port}); err != nil {
		ep.Close()
		return fail("bind", err)
	}
	if err := ep.Listen(backlog); err != nil {
		ep.Close()
		return fail("listen on", err)
	}
	return l, nil
}

// run hands every accepted connection to its own goroutine until close.
func (l *listener) run() {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			l.accepted(ep, wq)
			continue
		}
		if _, again := err.(*tcpip.ErrWouldBlock); !again {
			return
		}
		select {
		case <-ready:
		case <-l.closed:
			return
		}
	}
}

func (l *listener) accepted(ep tcpip.Endpoint, wq *waiter.Queue) {
	e, ok := ep.(*tcp.Endpoint)
	if !ok {
		ep.Close()
		return
	}
	id := e.Info().(*stack.TransportEndpointInfo).ID
	r := &Request{Tuple: tuple(id)}
	r.conn = newConn(wq, ep, r.Tuple)
	l.s.handlers.Go(func() {
		l.s.o.Handle(r)
		r.Ignore()
	})
}

func (l *listener) close() {
	l.once.Do(func() {
		close(l.closed)
		l.ep.Close()
	})
}
