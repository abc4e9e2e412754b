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
	// DefaultKnockPort is the default UDP port of knocks.
	DefaultKnockPort = protocol.DefaultKnockPort

	// DefaultTimeout is the default time limit of a dial. With a packet loss of
	// 20 %, most dials succeed within it (backoff.go). It leaves time for two
	// authentications that a gateway refuses after its 3 s each, or for one and
	// a dial of 5 s behind the gateway. More would only prolong the silence
	// where nothing answers.
	DefaultTimeout = 10 * time.Second
)

// sessionSize is the size of generated session ids, in bytes: the minimum of the
// protocol, which is too long to guess.
const sessionSize = protocol.MinSessionID

// Dialer connects to services behind a gateway. Its fields are options. It is
// safe for concurrent use as long as the fields are not modified and Rand is.
type Dialer struct {
	// Identity is the client's id and secret. Required.
	Identity *protocol.Client
	// NoKnock omits the knock, for services in mode auth. Each address is then
	// dialled once.
	NoKnock bool
	// NoAuth omits the authentication, for services in mode knock.
	NoAuth bool
	// Method is the knock method; "" means protocol.MethodUDP.
	Method string
	// Sequence configures the methods that send several parts.
	Sequence Sequence
	// Slot is the length of the time slots of tcp-syn and udp-v2, in whole
	// seconds; 0 means DefaultSlot. It must equal the gateway's.
	Slot time.Duration
	// Gateway is the gateway's name for itself. A udp-v2 knock is valid only
	// for the gateway of this name.
	Gateway string
	// BindSource makes a udp-v2 knock valid only from the address that it is
	// sent from. If a NAT changes that address, set Source to the one that the
	// gateway sees.
	BindSource bool
	// Source, if valid, is the address to which a udp-v2 knock is bound instead.
	Source netip.Addr
	// BindPort makes a udp-v2 knock valid only for a connection from the TCP
	// port that this one will have: that of Net.LocalAddr, or one that each
	// attempt of DialContext chooses. No NAT on the path may change it.
	BindPort bool
	// KnockPort is the UDP port of UDP knocks; 0 means DefaultKnockPort.
	KnockPort uint16
	// Port is the protected port in MACs; 0 means the port that is dialled.
	Port uint16
	// Auth has the options of the authentication. DialContext sets Identity,
	// Port, SessionID, Now and Rand for each connection. Without Auth.Proof,
	// DialContext cannot know whether the gateway accepted the authentication,
	// and does not retry if it did not.
	Auth auth.Client
	// SessionID, if not nil, is used for every connection instead of a new id.
	SessionID []byte
	// Timeout limits DialContext as a whole, in addition to its context; 0 means
	// DefaultTimeout.
	Timeout time.Duration
	// KnockDelay is the minimum time between a knock and the authentication.
	// knockgw needs none. A libknock server, which may check the connection
	// before it has processed the knock, needs about 50 ms.
	KnockDelay time.Duration
	// Trace, if not nil, is called at each step of DialContext.
	Trace *Trace
	// Net configures the sockets. Knocks, too, come from the address of its
	// LocalAddr, a *net.TCPAddr; if that has a port, there is one attempt at a
	// time, since only one connection can use the port. Without an address
	// there and without a Dial, each attempt chooses the address that the
	// system prefers, for both its knock and its connection. Control is called
	// for every socket, Resolver resolves names, and Timeout limits each
	// attempt. Unless it configures keep-alive probes, there is one per minute,
	// and a connection survives a network failure of two hours.
	Net net.Dialer
	// Dial, if not nil, makes the sockets of connections (tcp) and of UDP
	// knocks (udp) where Net alone cannot: in another network namespace, or
	// through another network stack. by is Net with the source address of this
	// socket; the default is by.DialContext(ctx, network, address). Dial is
	// called concurrently and must respect ctx. A gateway expects a connection
	// from the address that the knock came from. Dial is not used for the raw
	// sockets of the SYN methods.
	Dial func(ctx context.Context, by *net.Dialer, network, address string) (net.Conn, error)
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Rand is the source of nonces and session ids; nil means crypto/rand.
	Rand io.Reader
}

// NewSession returns a new random session id.
func (d *Dialer) NewSession() ([]byte, error) {
	id := make([]byte, sessionSize)
	if _, err := io.ReadFull(d.rand(), id); err != nil {
		return nil, fmt.Errorf("make a session id: %w", err)
	}
	return id, nil
}

// sessionID returns the session id of one connection.
func (d *Dialer) sessionID() ([]byte, error) {
	if d.SessionID != nil {
		return d.SessionID, nil
	}
	return d.NewSession()
}

// dialSocket makes a socket with Dial or with by.
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
