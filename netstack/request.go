package netstack

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/knockgw/knockgw/packet"
)

// A Request is a connection that begins. Its owner ends it with one of Accept,
// Refuse and Ignore, of which the first counts; one that it does not end is
// ignored when Handle returns. Requests of open services have their handshake
// behind them: their connection is aborted where it is not accepted.
//
// Refuse and Ignore may be called while Accept waits for the client, which then
// gives up.
type Request struct {
	// Tuple is in the direction from the client.
	Tuple packet.Tuple

	forwarder  *tcp.ForwarderRequest // hidden services
	conn       *Conn                 // open services
	handshakes *atomic.Int64         // hidden services: one less when it is complete
	wq         waiter.Queue          // of the endpoint of a hidden service

	mu    sync.Mutex
	state requestState
	reset bool          // how to give up
	done  chan struct{} // closed when Accept has returned; nil before it
}

//	Accept                 client answers, or never does
//
// begun ------------------> shaking --------------------------> ended
//
//	|                          | Refuse, Ignore                   ^  ^
//	|                          '-----> givenUp -------------------'  |
//	'----------------------------------------------------------------'
//	        Refuse, Ignore; Accept in open services
type requestState uint8

const (
	statePending     requestState = iota
	stateHandshaking              // Accept waits for the client
	stateAbandoned                // Accept is to return
	stateDone
)

func tuple(id stack.TransportEndpointID) packet.Tuple {
	return packet.Tuple{
		Src: fromAddress(id.RemoteAddress), SrcPort: id.RemotePort,
		Dst: fromAddress(id.LocalAddress), DstPort: id.LocalPort,
	}
}

// Errors of Accept.
var (
	errAnswered  = errors.New("netstack: the request has been answered already")
	errAbandoned = errors.New("netstack: the handshake was given up")
)

// Accept completes the handshake, waiting for the client to do its part, and
// returns the connection.
func (r *Request) Accept() (*Conn, error) {
	r.mu.Lock()
	if r.state != statePending {
		r.mu.Unlock()
		return nil, errAnswered
	}
	if r.conn != nil {
		r.state = stateDone
		r.mu.Unlock()
		return r.conn, nil
	}
	r.state = stateHandshaking
	r.done = make(chan struct{})
	r.mu.Unlock()
	defer close(r.done)

	ep, err := r.forwarder.CreateEndpoint(&r.wq)
	r.mu.Lock()
	gaveUp := r.state == stateAbandoned
	r.state = stateDone
	r.mu.Unlock()
	r.complete(gaveUp && r.reset && err != nil)
	switch {
	case err != nil:
		return nil, fmt.Errorf("netstack: handshake with %s: %s", r.Tuple.Source(), err)
	case gaveUp:
		ep.Abort() // its handshake was done that very moment
		return nil, errAbandoned
	default:
		return newConn(&r.wq, ep, r.Tuple), nil
	}
}

// resetGrace is how long Refuse waits for a handshake that is under way: about
// a round trip. A client that has had our half of it, and whose word is still on
// its way, takes a reset only from an established connection: one that answers
// its SYN has the wrong sequence number by then.
const resetGrace = 250 * time.Millisecond

// Reset answers with a reset. If Accept is about to succeed it lets it, and the
// reset is for the owner of the connection to send.
func (r *Request) Reset() {
	r.mu.Lock()
	done, waits := r.done, r.state == stateHandshaking
	r.mu.Unlock()
	if waits {
		timer := time.NewTimer(resetGrace)
		defer timer.Stop()
		select {
		case <-done:
			return
		case <-timer.C:
		}
	}
	r.abandon(true)
}

// Drop answers nothing. (Where the handshake is done, what Abort sends is for
// the egress gate to hold back.)
func (r *Request) Drop() { r.abandon(false) }

func (r *Request) abandon(reset bool) {
	r.mu.Lock()
	switch r.state {
	case statePending:
		r.state = stateDone
		r.mu.Unlock()
		if r.conn != nil {
			r.conn.Abort()
		} else {
			r.complete(reset)
		}
		return
	case stateHandshaking:
		r.state, r.reset = stateAbandoned, reset
	case stateAbandoned, stateDone:
	}
	done := r.done
	r.mu.Unlock()
	if done != nil {
		r.wake(done)
	}
}

// complete makes room for another request of a hidden service.
func (r *Request) complete(reset bool) {
	r.forwarder.Complete(reset)
	r.handshakes.Add(-1)
}

// wakeInterval is how often CreateEndpoint is told to look again: it may not
// listen yet when it is told first.
const wakeInterval = time.Millisecond

// wake ends the wait of CreateEndpoint, which gives a handshake up that is not
// done when it is told that something has happened, and returns when Accept is over.
func (r *Request) wake(done <-chan struct{}) {
	ticker := time.NewTicker(wakeInterval)
	defer ticker.Stop()
	for {
		r.wq.Notify(waiter.WritableEvents)
		select {
		case <-done:
			return
		case <-ticker.C:
		}
	}
}

// A Conn is a client's connection: a net.Conn with the few things more that a
// relay needs. (gonet's CloseRead and CloseWrite are there too.)
type Conn struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	wq    *waiter.Queue
	tuple packet.Tuple
}

func newConn(wq *waiter.Queue, ep tcpip.Endpoint, t packet.Tuple) *Conn {
	enableKeepalive(ep)
	return &Conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep, wq: wq, tuple: t}
}

// Close sends what was written and a FIN, for closeTime at most, and returns at once.
func (c *Conn) Close() error {
	timeout := tcpip.TCPUserTimeoutOption(closeTimeout)
	_ = c.ep.SetSockOpt(&timeout) // cannot fail on a TCP endpoint
	return c.TCPConn.Close()
}

// Tuple names the connection, in the direction from the client.
func (c *Conn) Tuple() packet.Tuple { return c.tuple }

// CanRead tells whether Read would not wait, be it for data, the end or an error.
func (c *Conn) CanRead() bool { return c.ep.Readiness(readable) != 0 }

// NotifyRead has ready called whenever CanRead may have become true, until stop. ready must neither block nor use the
// connection: it is called while the stack works on it.
func (c *Conn) NotifyRead(ready func()) (stop func()) {
	var entry waiter.Entry
	entry.Init(listenerFunc(ready), readable)
	c.wq.EventRegister(&entry)
	return func() { c.wq.EventUnregister(&entry) }
}

// listenerFunc makes a function a waiter.EventListener.
type listenerFunc func()

// NotifyEvent implements waiter.EventListener.
func (f listenerFunc) NotifyEvent(waiter.EventMask) { f() }

// readable is everything that a reader may be waiting for.
const readable = waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr

// Abort ends the connection with a reset, now. Whether that reaches the client
// is for the egress gate to say.
func (c *Conn) Abort() { c.ep.Abort() }
