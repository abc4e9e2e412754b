package client

import (
	"net/netip"
	"time"
)

// Trace has functions that DialContext calls as it proceeds. Each may be nil.
// They are called by the goroutine that called DialContext, one at a time, and
// so block the dial while they run. An attempt is no longer reported after
// another one has succeeded.
type Trace struct {
	// Resolved is called with all addresses, in the order of their first
	// attempts.
	Resolved func(addrs []netip.AddrPort)
	// Knocked is called when an attempt has sent its knock, or could not send
	// it. With Dialer.BindPort, one attempt may knock several times, until it
	// has a port. It is not called for knocks that are repeated during an
	// authentication.
	Knocked func(a Attempt, err error)
	// Connected is called when the connection of an attempt was established, or
	// failed. It is not called for an attempt that nothing answers.
	Connected func(a Attempt, err error)
	// Authenticated is called after the authentication of a connection. Without
	// a proof, a nil error means that the message was written.
	Authenticated func(a Attempt, err error)
}

// Attempt is one knock and one connection, to one address.
type Attempt struct {
	Number  int // from 1, within a dial
	Target  netip.AddrPort
	Start   time.Time
	Elapsed time.Duration // from Start to the reported event
}

func (t *Trace) resolved(addrs []netip.AddrPort) {
	if t != nil && t.Resolved != nil {
		t.Resolved(addrs)
	}
}

func (t *Trace) knocked(a Attempt, err error) {
	if t != nil && t.Knocked != nil {
		t.Knocked(a, err)
	}
}

func (t *Trace) connected(a Attempt, err error) {
	if t != nil && t.Connected != nil {
		t.Connected(a, err)
	}
}

func (t *Trace) authenticated(a Attempt, err error) {
	if t != nil && t.Authenticated != nil {
		t.Authenticated(a, err)
	}
}
