package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// DefaultKnockPort is the UDP port that takes knocks if nothing else was agreed on.
	DefaultKnockPort = 62201

	// DefaultTimeout bounds a dial. Where a fifth of all packets is lost, most
	// dials succeed within it (backoff.go); two authentications that a gateway
	// refuses after its 3 s each, or one and a dial of 5 s behind the gateway,
	// fit as well. More would only be a longer silence where nothing answers.
	DefaultTimeout = 10 * time.Second
)

// sessionSize is the size of the session ids made here, in bytes: the least
// that the protocol takes, and nothing that could be guessed.
const sessionSize = protocol.MinSessionID

// Dialer reaches services behind a gate. Its fields are options; it is safe
// for concurrent use while they are left alone and Rand is.
type Dialer struct {
	// Identity is who we are. Required.
	Identity *protocol.Client
	// NoKnock skips the knock: for services in mode auth. Each address is then
	// dialled once.
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
	// that this one will have: that of Net.LocalAddr, or one that each attempt of
	// DialContext chooses. No NAT on the way may change it.
	BindPort bool
	// KnockPort is the UDP port that UDP knocks go to; 0 means DefaultKnockPort.
	KnockPort uint16
	// Port is the protected port in MACs; 0 means the one dialled.
	Port uint16
	// Auth has the options of the authentication. Identity, Port, SessionID,
	// Now and Rand are set for each connection. Without its Proof, DialContext
	// cannot know whether the gateway took the authentication, and does not try
	// again when it did not.
	Auth auth.Client
	// SessionID is used instead of a new one for each connection.
	SessionID []byte
	// Timeout bounds the whole of DialContext, besides its context; 0 means
	// DefaultTimeout.
	Timeout time.Duration
	// KnockDelay is the least time between a knock and the authentication. knockgw
	// needs none; a libknock server, which may look at the connection before it
	// has looked at the knock, needs some 50 ms.
	KnockDelay time.Duration
	// Trace, if it is not nil, is told of each step of DialContext.
	Trace *Trace
	// Net makes the sockets. Knocks come from the address of its LocalAddr, a
	// *net.TCPAddr, too; if that has a port, there is one attempt at a time, since
	// a port is one connection's. Without an address there and without a Dial, each
	// attempt chooses the one that the system prefers, and its knock and connection
	// come from that. Its Control is asked about every socket, its
	// Resolver about names; its Timeout is each attempt's. If it says nothing about
	// keep-alive probes, there is one a minute, and a connection outlives a network
	// that is gone for two hours.
	Net net.Dialer
	// Dial, if it is not nil, makes the sockets of connections (tcp) and of UDP
	// knocks (udp) where Net alone cannot: in another network namespace, or through
	// another stack. by is Net with the source that this socket has; without a Dial
	// it is by.DialContext(ctx, network, address) that is called. Dial is called from
	// several goroutines at once, and must heed ctx. A gateway expects a connection
	// from the address that the knock came from. The SYN methods' raw sockets are
	// not its.
	Dial func(ctx context.Context, by *net.Dialer, network, address string) (net.Conn, error)
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Rand is where nonces and session ids come from; nil means crypto/rand.
	Rand io.Reader
}

// NewSession makes a session id.
func (d *Dialer) NewSession() ([]byte, error) {
	id := make([]byte, sessionSize)
	if _, err := io.ReadFull(d.rand(), id); err != nil {
		return nil, fmt.Errorf("make a session id: %w", err)
	}
	return id, nil
}

// sessionID is the session id of one connection.
func (d *Dialer) sessionID() ([]byte, error) {
	if d.SessionID != nil {
		return d.SessionID, nil
	}
	return d.NewSession()
}

// dialSocket makes a socket by the one who is to make it.
func (d *Dialer) dialSocket(ctx context.Context, by *net.Dialer, network string, to netip.AddrPort) (net.Conn, error) {
	if d.Dial != nil {
		return d.Dial(ctx, by, network, to.String())
	}
	return by.DialContext(ctx, network, to.String())
}

func (d *Dialer) port(target netip.AddrPort) uint16 {
	if d.Port != 0 {
		return d.Port
	}
	return target.Port()
}

func (d *Dialer) knockPort() uint16 {
	if d.KnockPort != 0 {
		return d.KnockPort
	}
	return DefaultKnockPort
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout != 0 {
		return d.Timeout
	}
	return DefaultTimeout
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
