package netstack

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/knockgw/knockgw/packet"
)

// openPorts are the listeners of the open interface. They may change while the
// stack is running.
type openPorts struct {
	mu        sync.Mutex
	listeners map[uint16]*listener
	running   bool
	closed    bool
	accepting sync.WaitGroup // the goroutines of the listeners
}

var errClosed = errors.New("netstack: the stack is closed")

// SetOpenPorts listens on these ports of the open interface and on no others.
// Established connections to other ports continue, and connections that were
// not accepted yet are aborted. On an error nothing changes.
func (s *Stack) SetOpenPorts(ports []uint16) error {
	o := &s.open
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return errClosed
	}
	added := make(map[uint16]*listener)
	for _, port := range ports {
		if o.listeners[port] != nil || added[port] != nil {
			continue
		}
		l, err := listen(s, port)
		if err != nil {
			for _, l := range added {
				l.close()
			}
			return err
		}
		added[port] = l
	}

	for port, l := range o.listeners {
		if slices.Contains(ports, port) {
			added[port] = l
			continue
		}
		l.close()
	}

	before := o.listeners
	o.listeners = added
	for port, l := range o.listeners {
		if o.running && before[port] == nil {
			o.accepting.Go(l.run)
		}
	}
	return nil
}

// run starts the listeners.
func (o *openPorts) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running = true
	for _, l := range o.listeners {
		o.accepting.Go(l.run)
	}
}

// close closes the listeners and waits for them. It is final.
func (o *openPorts) close() {
	o.mu.Lock()
	o.closed = true
	for _, l := range o.listeners {
		l.close()
	}
	o.mu.Unlock()
	o.accepting.Wait()
}

// A listener accepts connections to one port of the open interface, at any
// address.
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
	ep, err := s.stack.NewEndpoint(tcp.ProtocolNumber, networkProtocol(packet.Addr{}), l.wq)
	if err != nil {
		return fail("make endpoint for", err)
	}
	l.ep = ep

	// One listener for both families, on the open interface only.
	ep.SocketOptions().SetV6Only(false)
	// A port that was closed while it had connections may be opened again: they
	// keep it bound until they end.
	ep.SocketOptions().SetReuseAddress(true)
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

// run accepts connections until close, and handles each in a goroutine of its
// own.
func (l *listener) run() {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			l.handle(ep, wq)
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

func (l *listener) handle(ep tcpip.Endpoint, wq *waiter.Queue) {
	e, ok := ep.(*tcp.Endpoint)
	if !ok {
		ep.Close()
		return
	}
	t := tuple(e.Info().(*stack.TransportEndpointInfo).ID)
	r := &Request{Tuple: t, conn: newConn(wq, ep, t)}
	if !l.s.track(r) {
		r.Drop()
		return
	}
	go func() {
		defer l.s.untrack(r)
		l.s.opts.Handle(r)
	}()
}

func (l *listener) close() {
	l.once.Do(func() {
		close(l.closed)
		l.ep.Close()
	})
}
