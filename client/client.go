// Package client is the other side of the gate: it knocks, dials and
// authenticates, so that a program reaches a hidden service as if it were open.
//
//	id, err := protocol.NewClient("alice", secret)
//	d := &client.Dialer{Identity: id}
//	conn, err := d.DialContext(ctx, "tcp", "10.77.0.1:22")
//
// Every connection has its own knock and its own session id, so that many of
// them can be made at once. The knock goes to the very address that is dialled,
// and comes from the one that the connection will come from.
//
// How to knock is a [Dialer]'s Method. The udp methods need nothing; the SYN
// methods write packets of their own, which takes Linux and a capability, and
// fail with a [*RawSocketError] where that is not to be had.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// DefaultKnockPort is the UDP port that takes knocks if nothing else was agreed on.
const DefaultKnockPort = 62201

// sessionSize is the size of the session ids made here, in bytes: the least
// that the protocol takes, and nothing that could be guessed.
const sessionSize = protocol.MinSessionID

// Dialer reaches services behind a gate. Its fields are options; it is safe
// for concurrent use while they are left alone and Rand is.
type Dialer struct {
	// Identity is who we are. Required.
	Identity *protocol.Client
	// NoKnock skips the knock: for services in mode auth.
	NoKnock bool
	// NoAuth skips the authentication: for services in mode knock.
	NoAuth bool
	// Method is how to knock; "" means protocol.MethodUDP.
	Method string
	// Sequence is how the methods knock that send several parts.
	Sequence Sequence
	// Slot is the length of the time slots of tcp-syn and udp-v2, in whole
	// seconds; 0 means DefaultSlot. The gate's must be the same.
	Slot time.Duration
	// Gateway is the gateway's name for itself, which a udp-v2 knock is for, and
	// so for no other gateway.
	Gateway string
	// BindSource makes a udp-v2 knock good only from the address that it is sent
	// from. Where a NAT changes that, say in Source what the gateway sees.
	BindSource bool
	// Source, if it is valid, is what a udp-v2 knock is bound to instead.
	Source netip.Addr
	// BindPort makes a udp-v2 knock good only for a connection from the TCP port
	// that this one will have: that of Net.LocalAddr, or one that DialContext
	// chooses. No NAT on the way may change it.
	BindPort bool
	// KnockPort is the UDP port that UDP knocks go to; 0 means DefaultKnockPort.
	KnockPort uint16
	// Port is the protected port in MACs; 0 means the one dialled.
	Port uint16
	// Auth has the options of the authentication. Identity, Port, SessionID,
	// Now and Rand are set for each connection.
	Auth auth.Client
	// SessionID is used instead of a new one for each connection.
	SessionID []byte
	// Net makes the sockets. Knocks come from the address of its LocalAddr, a
	// *net.TCPAddr, too; its Control is asked about every socket.
	Net net.Dialer
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Rand is where nonces and session ids come from; nil means crypto/rand.
	Rand io.Reader
}

// A StepError says which step of reaching a service failed.
type StepError struct {
	Step string // "resolve", "knock", "connect" or "authenticate"
	Err  error
}

// Error names the step, what happened, and what to look at.
func (e *StepError) Error() string {
	hint := ""
	var timeout net.Error
	timedOut := errors.As(e.Err, &timeout) && timeout.Timeout() || errors.Is(e.Err, context.DeadlineExceeded)
	switch {
	case e.Step == "connect" && timedOut:
		hint = " (no answer: check the client id, its secret, this host's clock and the knock port)"
	case e.Step == "authenticate":
		hint = " (the service was reached: check the secret, the clock, and the service's mode and auth settings)"
	}
	return e.Step + ": " + e.Err.Error() + hint
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// DialContext resolves address, knocks, connects and authenticates, as far as
// the options say. network is tcp, tcp4 or tcp6. The error is a *StepError.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	target, err := Resolve(ctx, network, address)
	if err != nil {
		return nil, &StepError{"resolve", err}
	}
	session := d.SessionID
	if session == nil {
		if session, err = d.NewSession(); err != nil {
			return nil, &StepError{"knock", err}
		}
	}
	dial := d.dial
	if d.BindPort && !d.NoKnock && d.localPort() == 0 {
		dial = d.dialPort
	}
	conn, err := dial(ctx, target, session)
	if err != nil {
		return nil, err
	}
	if d.NoAuth {
		return conn, nil
	}
	a := d.Auth
	a.Identity, a.Port, a.SessionID, a.Now, a.Rand = d.Identity, d.port(target), session, d.Now, d.Rand
	if d.NoKnock && d.SessionID == nil {
		a.SessionID = nil
	}
	if err := a.Handshake(ctx, conn); err != nil {
		return nil, &StepError{"authenticate", errors.Join(err, conn.Close())}
	}
	return conn, nil
}

// dial knocks and connects.
func (d *Dialer) dial(ctx context.Context, target netip.AddrPort, session []byte) (net.Conn, error) {
	if !d.NoKnock {
		if err := d.Knock(ctx, target, session); err != nil {
			return nil, &StepError{"knock", err}
		}
	}
	conn, err := d.Net.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, &StepError{"connect", err}
	}
	return conn, nil
}

// NewSession makes a session id.
func (d *Dialer) NewSession() ([]byte, error) {
	id := make([]byte, sessionSize)
	if _, err := io.ReadFull(d.rand(), id); err != nil {
		return nil, fmt.Errorf("make a session id: %w", err)
	}
	return id, nil
}

// Resolve looks address, host:port, up and returns the first address that fits
// network: tcp, tcp4 or tcp6.
func Resolve(ctx context.Context, network, address string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	family := "ip"
	switch network {
	case "tcp":
	case "tcp4":
		family = "ip4"
	case "tcp6":
		family = "ip6"
	default:
		return netip.AddrPort{}, net.UnknownNetworkError(network)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(port)), nil // LookupPort keeps to 16 bits
}

func (d *Dialer) port(target netip.AddrPort) uint16 {
	if d.Port != 0 {
		return d.Port
	}
	return target.Port()
}

func (d *Dialer) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

func (d *Dialer) rand() io.Reader {
	if d.Rand != nil {
		return d.Rand
	}
	return rand.Reader
}
