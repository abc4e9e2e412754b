// Package flows relays a client's connection to its upstream until both have
// ended.
//
// The order of dialing and answering is essential. If a knock is all that is
// required, the upstream is dialed before the client's handshake is completed,
// so that a port behind the gate looks to its clients as it would without one:
// open, refused, or silent. If the client has to authenticate, the handshake
// comes first, and the upstream is dialed last: otherwise unauthorized hosts
// could reach it.
//
//	DialFirst:     dial upstream -> complete handshake ---------------------> relay
//	               refused: reset   timeout: silence
//	Authenticate:  complete handshake -> authenticate -> dial upstream -----> relay
//	                                     failed: reset   refused: reset
//	                                     at deadline     timeout: silence
//
// The package knows neither the stack nor the gate; a Request and a Plan are
// its whole interface to them. It relays between one stack in this process and
// the kernel, and shares upstream connections; client/relay, between two
// sockets, has other needs.
//
// The package is internal to the gateway and makes no compatibility promise.
package flows

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// A Conn is a stream with the half-close and the reset that a relay needs.
type Conn interface {
	net.Conn
	// CloseWrite sends a FIN. The other direction continues.
	CloseWrite() error
	// Abort resets both directions.
	Abort()
}

// A Request is a new connection of a client. Reset and Drop may be called while
// Accept waits for the client: Accept then returns an error, unless it succeeds
// at that moment.
type Request interface {
	Accept() (Conn, error) // completes the handshake
	Reset()                // answers with a reset
	Drop()                 // sends no answer
}

// A Plan says what to do with one request. Functions may be nil where noted.
type Plan struct {
	Key      Key
	Service  string
	Upstream string // for logs and lists of flows

	DialFirst   bool
	DialTimeout time.Duration
	// Share returns the key of the flows that this one shares upstream
	// connections with until its handshake is complete, and the limit of these
	// connections. Nil if it does not share.
	Share func() (key ShareKey, limit int)
	Idle  time.Duration // ends the flow after that long without a byte in either direction; 0: never
	// InFlight returns the number of bytes sent to the client that it has not
	// acknowledged. Optional.
	InFlight func() int

	// Admitted reports whether the flow may still begin. It is called after
	// Kill has become able to end the flow, which may have been called before.
	// Optional.
	Admitted func() bool
	// HandshakeDone is called when the handshake is complete. Its error ends
	// the flow.
	HandshakeDone func() error
	// Authenticate returns the client's name. It returns by a deadline of its
	// own, whatever the client does, and its error ends the flow with a reset.
	// Nil if Client returns the name.
	Authenticate func(ctx context.Context, conn net.Conn) (client string, err error)
	// Client returns the client's name without authentication. It is called
	// after HandshakeDone.
	Client func() string
	// Dial connects to the upstream. Nil if Serve handles the connection.
	Dial  func(ctx context.Context) (net.Conn, error)
	Serve func(ctx context.Context, conn net.Conn, client string) error

	// OnDrop is called before the client's connection is aborted without a
	// reset.
	OnDrop func()
	// OnClose is called when the connections are closed: nothing more is
	// written, though data written before may still be in transit.
	OnClose func()
	// OnEnd is called last, after the Table has removed the flow. Optional.
	OnEnd func(f *Flow, reason CloseReason)
}

// A Key identifies a flow.
type Key struct{ Client, Target netip.AddrPort }

// A Flow is a request being served. Its counters may be read at any time.
type Flow struct {
	Key      Key
	Service  string
	Upstream string // as in the Plan
	Started  time.Time

	client    atomic.Pointer[string]
	up, down  atomic.Uint64
	active    atomic.Int64 // when a byte was last relayed, in ns since Started
	cancel    context.CancelCauseFunc
	idleTimer idleTimer
	prev      *Flow // older, of the same Key, that has not ended yet; guarded by Table.mu
}

// Client returns the client's name, or "" until it is known.
func (f *Flow) Client() string {
	if c := f.client.Load(); c != nil {
		return *c
	}
	return ""
}

// Bytes returns the number of bytes relayed from the client and to it.
func (f *Flow) Bytes() (up, down uint64) { return f.up.Load(), f.down.Load() }

// Idle returns the time since a byte was last relayed in either direction.
func (f *Flow) Idle() time.Duration {
	return time.Since(f.Started) - time.Duration(f.active.Load())
}

// touch records that a byte is being relayed.
func (f *Flow) touch() { f.active.Store(int64(time.Since(f.Started))) }
