package client

import (
	"net/netip"
	"time"
)

// Trace has functions that DialContext calls as it goes, each of which may be
// nil. They are called by the goroutine that called DialContext, one at a time,
// and so hold the dial up while they run. An attempt that another one overtook is
// not heard of any more.
type Trace struct {
	// Resolved is told all addresses, in the order in which they are tried first.
	Resolved func(addrs []netip.AddrPort)
	// Knocked is told that an attempt's knock was sent, or could not be. With
	// Dialer.BindPort one attempt may knock several times, until it has a port. Of
	// the knocks that are sent while an authentication is unanswered it is told nothing.
	Knocked func(a Attempt, err error)
	// Connected is told that an attempt's connection was established, or failed.
	// Silence is told by nothing.
	Connected func(a Attempt, err error)
	// Authenticated is told how the authentication of a connection went. Without a
	// proof, nil means that the message was written.
	Authenticated func(a Attempt, err error)
}

// An Attempt is one knock and one connection, to one address.
type Attempt struct {
	Number  int // from 1, in all of a dial
	Target  netip.AddrPort
	Start   time.Time
	Elapsed time.Duration // since Start, to what the Trace is told of
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
