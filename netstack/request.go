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

// A Request is a new connection. Its owner ends it with one of Accept, Reset
// and Drop; the first call counts. If none is called, the request is dropped
// when Handle returns. Requests of open services have completed their
// handshake: unless they are accepted, their connection is aborted.
//
// Reset and Drop may be called while Accept waits for the client. Accept then
// returns an error.
type Request struct {
	// Tuple is in the direction from the client.
	Tuple packet.Tuple

	forwarder  *tcp.ForwarderRequest // hidden services
	conn       *Conn                 // open services
	handshakes *atomic.Int64         // hidden services: decremented when it is done
	wq         waiter.Queue          // of the endpoint of a hidden service

	mu    sync.Mutex
	state requestState
	reset bool          // whether to abandon it with a reset
	done  chan struct{} // closed when Accept returns; nil before Accept
}

// A requestState is the state of a Request:
//
//	         Accept                client answers, or times out
//	pending --------> handshaking -----------------------------> done
//	   |                   | Reset, Drop                         ^  ^
//	   |                   '-----> abandoned --------------------'  |
//	   '------------------------------------------------------------'
//	     Reset, Drop; Accept in open services
type requestState uint8

const (
	statePending     requestState = iota
	stateHandshaking              // Accept waits for the client
	stateAbandoned                // Accept is about to return an error
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
	errAnswered  = errors.New("netstack: request already answered")
	errAbandoned = errors.New("netstack: handshake abandoned")
)

// Accept completes the handshake with the client and returns the connection.
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
	abandoned := r.state == stateAbandoned
	r.state = stateDone
	r.mu.Unlock()
	r.complete(abandoned && r.reset && err != nil)
	switch {
	case err != nil:
		return nil, fmt.Errorf("netstack: handshake with %s: %s", r.Tuple.Source(), err)
	case abandoned:
		ep.Abort() // the handshake completed at the same time
		return nil, errAbandoned
	default:
		return newConn(&r.wq, ep, r.Tuple), nil
	}
}

// resetGrace is how long Reset waits for a handshake in progress: about a round
// trip. A client that has received our SYN-ACK accepts a reset only from an
// established connection: the sequence number of a reset that answers its SYN
// is wrong by then.
const resetGrace = 250 * time.Millisecond

// Reset answers with a reset. If Accept is about to succeed, Reset does
// nothing, and the owner of the connection has to reset it.
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

// Drop sends no answer. (If the handshake is complete, the egress gate drops
// what Abort sends.)
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

// complete ends a request of a hidden service, which makes room for another.
func (r *Request) complete(reset bool) {
	r.forwarder.Complete(reset)
	r.handshakes.Add(-1)
}

// wakeInterval is the interval between notifications of CreateEndpoint, which
// may not have registered for the first one yet.
const wakeInterval = time.Millisecond

// wake ends CreateEndpoint, which fails on a notification before the handshake
// is complete, and returns when Accept does.
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

// A Conn is a client's connection: a net.Conn with some additions for a relay.
// (It also has gonet's CloseRead and CloseWrite.)
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

// Close sends the data written and a FIN, for at most closeTimeout, and returns
// at once.
func (c *Conn) Close() error {
	timeout := tcpip.TCPUserTimeoutOption(closeTimeout)
	_ = c.ep.SetSockOpt(&timeout) // cannot fail on a TCP endpoint
	return c.TCPConn.Close()
}

// Tuple returns the connection's tuple in the direction from the client.
func (c *Conn) Tuple() packet.Tuple { return c.tuple }

// CanRead reports whether Read would not block: there is data, the end or an
// error.
func (c *Conn) CanRead() bool { return c.ep.Readiness(readable) != 0 }

// NotifyRead calls ready whenever CanRead may have become true, until stop.
// ready must neither block nor use the connection: it is called while the stack
// holds its lock.
func (c *Conn) NotifyRead(ready func()) (stop func()) {
	var entry waiter.Entry
	entry.Init(listenerFunc(ready), readable)
	c.wq.EventRegister(&entry)
	return func() { c.wq.EventUnregister(&entry) }
}

// listenerFunc adapts a function to waiter.EventListener.
type listenerFunc func()

// NotifyEvent implements waiter.EventListener.
func (f listenerFunc) NotifyEvent(waiter.EventMask) { f() }

// readable are the events that end a blocked Read.
const readable = waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr

// Abort resets the connection. The egress gate decides whether the reset
// reaches the client.
func (c *Conn) Abort() { c.ep.Abort() }
