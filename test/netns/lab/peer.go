//go:build linux

package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// A Format is the form in which a peer authenticates.
type Format int

// The two forms of the specification.
const (
	EnvelopeV2 Format = iota
	FrameV1
)

// maxFrame is the default limit of a frame v1 in bytes.
const maxFrame = 1024

// A Peer knocks and authenticates from a host of the lab: the authorized
// client, or with a field changed, another one. It speaks through package
// protocol alone, message by message, so that a test can hold back, repeat and
// mix up what a well-behaved client never would.
type Peer struct {
	Host *Host
	// From is the source address; the zero Addr is the host's first.
	From netip.Addr
	// ID and Secret are the identity.
	ID     string
	Secret []byte
	// Behind is how far the peer's clock is behind; a negative one is ahead.
	Behind time.Duration
	// KnockPort is where knocks go to; 0 is the service's own port number.
	KnockPort uint16
	// Format is the form of authentication, and Proof asks for the server's
	// proof in it.
	Format Format
	Proof  bool
}

// NewSession makes a session id.
func NewSession() []byte {
	id := make([]byte, protocol.MinSessionID)
	_, _ = rand.Read(id) // never fails
	return id
}

func (v Peer) identity() (*protocol.Client, error) {
	return protocol.NewClient(v.ID, v.Secret)
}

func (v Peer) now() int64 { return time.Now().Add(-v.Behind).UnixMilli() }

// KnockFor makes a knock for a service, to be sent whenever.
func (v Peer) KnockFor(service netip.AddrPort, session []byte) ([]byte, error) {
	c, err := v.identity()
	if err != nil {
		return nil, err
	}
	m := protocol.KnockMessage{Method: protocol.MethodUDP, Time: v.now(), SessionID: session}
	return protocol.AppendKnock(nil, c, service.Port(), &m, rand.Reader)
}

// Send sends a knock, made now or long ago, to the knock port of a service.
func (v Peer) Send(ctx context.Context, service netip.AddrPort, knock []byte) error {
	port := v.KnockPort
	if port == 0 {
		port = service.Port()
	}
	conn, err := v.Host.DialFrom(ctx, v.From, "udp", netip.AddrPortFrom(service.Addr(), port).String())
	if err != nil {
		return err
	}
	_, err = conn.Write(knock)
	return errors.Join(err, conn.Close())
}

// Knock makes a knock and sends it.
func (v Peer) Knock(ctx context.Context, service netip.AddrPort, session []byte) error {
	knock, err := v.KnockFor(service, session)
	if err != nil {
		return err
	}
	return v.Send(ctx, service, knock)
}

// Dial connects to a service and says nothing.
func (v Peer) Dial(ctx context.Context, service netip.AddrPort) (net.Conn, error) {
	return v.Host.DialFrom(ctx, v.From, "tcp", service.String())
}

// AuthFor makes the authentication for a service, to be written whenever.
func (v Peer) AuthFor(service netip.AddrPort, session []byte) ([]byte, error) {
	c, err := v.identity()
	if err != nil {
		return nil, err
	}
	m := protocol.Message{WantProof: v.Proof, Time: v.now(), Method: protocol.MethodTCPAuth, SessionID: session}
	if v.Format == FrameV1 {
		return protocol.AppendFrameV1(nil, c, service.Port(), &m, rand.Reader)
	}
	bucket, err := protocol.PickBucket(protocol.DefaultBuckets(), &m, protocol.HintRoute, rand.Reader)
	if err != nil {
		return nil, err
	}
	return protocol.AppendEnvelopeV2(nil, c, service.Port(), &m, protocol.HintRoute, bucket, rand.Reader)
}

// DialAuth connects to a service and authenticates; with Proof it waits for the
// server's and verifies it.
func (v Peer) DialAuth(ctx context.Context, service netip.AddrPort, session []byte) (net.Conn, error) {
	auth, err := v.AuthFor(service, session)
	if err != nil {
		return nil, err
	}
	conn, err := v.Dial(ctx, service)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write(auth); err == nil && v.Proof {
		err = v.verifyProof(ctx, conn, service, auth)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// errProof says that what came back proves nothing.
var errProof = errors.New("the server's proof is wrong")

// verifyProof reads the answer to an authentication that asked for one.
func (v Peer) verifyProof(ctx context.Context, conn net.Conn, service netip.AddrPort, auth []byte) error {
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetReadDeadline(at); err != nil {
			return err
		}
	}

	proof := make([]byte, protocol.ProofSize)
	if _, err := io.ReadFull(conn, proof); err != nil {
		return fmt.Errorf("read the server's proof: %w", err)
	}
	c, err := v.identity()
	if err != nil {
		return err
	}

	var verified bool
	if v.Format == FrameV1 {
		f, _, err := protocol.ParseFrameV1(auth, maxFrame)
		if err != nil {
			return err
		}
		verified = f.VerifyProof(protocol.NewScratch(), c, service.Port(), proof)
	} else {
		e, _, err := protocol.ParseEnvelopeV2(auth, protocol.HintRoute)
		if err != nil {
			return err
		}
		verified = e.VerifyProof(protocol.NewScratch(), c, service.Port(), proof)
	}

	if !verified {
		return errProof
	}
	return conn.SetReadDeadline(time.Time{})
}
