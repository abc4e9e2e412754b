package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// clientDeadline limits a handshake whose context has no deadline: three times
// the limit of a server, to allow for the network.
const clientDeadline = 3 * DefaultDeadline

// Client authenticates to a server. Its fields are options. It is safe for
// concurrent use as long as the fields are not modified and Rand is.
type Client struct {
	// Identity is the client's ID and secret. Required.
	Identity *protocol.Client
	// Port is the protected port: the service's TCP port, whatever port was
	// dialled. Required.
	Port uint16
	// Protocol is V1 or V2; zero means V2.
	Protocol Protocol
	// Hint must equal the server's; empty means protocol.HintRoute.
	Hint protocol.HintMode
	// Buckets are the envelope sizes to pick from, in bytes. The server must
	// accept all of them. nil means protocol.DefaultBuckets.
	Buckets []int
	// Proof requests a proof that the server has the secret too.
	Proof bool
	// Method is the method in the message; most servers ignore it.
	Method string
	// SessionID is the session ID of the knock, if any.
	SessionID []byte
	// Extensions are sent unchanged.
	Extensions []byte
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Rand is the source of nonces and padding; nil means crypto/rand.
	Rand io.Reader
}

// Handshake writes the message to conn and, if Proof is set, reads exactly the
// server's proof and verifies it: a wrong one is an *Error of ResultProof. A
// server that refuses sends nothing, so the handshake then fails when the
// connection ends or time runs out. Without Proof, success means only that the
// message was written. Handshake returns when ctx ends, and after at most 9 s;
// on success it has cleared the deadlines that it set. It never closes conn.
func (c *Client) Handshake(ctx context.Context, conn net.Conn) error {
	message, proof, err := c.encode()
	if err != nil {
		return fmt.Errorf("auth: encode message: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(clientDeadline)); err != nil {
		return newError(ResultClosed, err)
	}
	stop := interrupt(ctx, conn)
	failure := c.exchange(ctx, conn, message, proof)
	switch ended := !stop(); {
	case failure != nil:
		return failure
	case ended:
		return newError(ResultCanceled, context.Cause(ctx))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return newError(ResultClosed, err)
	}
	return nil
}

// verifier is a message that can verify its proof.
type verifier interface {
	VerifyProof(s *protocol.Scratch, c *protocol.Client, port uint16, proof []byte) bool
}

func (c *Client) exchange(ctx context.Context, conn net.Conn, message []byte, sent verifier) error {
	if _, err := conn.Write(message); err != nil {
		return readError(ctx, err)
	}
	if !c.Proof {
		return nil
	}
	var proof [protocol.ProofSize]byte
	if _, err := io.ReadFull(conn, proof[:]); err != nil {
		return readError(ctx, err)
	}
	if !sent.VerifyProof(protocol.NewScratch(), c.Identity, c.Port, proof[:]) {
		return newError(ResultProof, nil)
	}
	return nil
}

// encode returns the message and the verifier of its proof.
func (c *Client) encode() ([]byte, verifier, error) {
	now, random := c.Now, c.Rand
	if now == nil {
		now = time.Now
	}
	if random == nil {
		random = rand.Reader
	}
	switch {
	case c.Identity == nil:
		return nil, nil, fmt.Errorf("%w: set Identity", ErrOptions)
	case c.Port == 0:
		return nil, nil, fmt.Errorf("%w: set Port to the protected port", ErrOptions)
	case !c.Hint.Valid():
		return nil, nil, fmt.Errorf("%w: hint mode %q is neither %q nor %q", ErrOptions, c.Hint, protocol.HintRoute, protocol.HintNone)
	}

	m := protocol.Message{
		WantProof: c.Proof, Time: now().UnixMilli(), Method: c.Method,
		SessionID: c.SessionID, Extensions: c.Extensions,
	}
	switch c.Protocol {
	case V1:
		raw, err := protocol.AppendFrameV1(nil, c.Identity, c.Port, &m, random)
		if err != nil {
			return nil, nil, err
		}
		frame, _, err := protocol.ParseFrameV1(raw, len(raw))
		return raw, &frame, err
	case V2, 0:
		buckets := c.Buckets
		if buckets == nil {
			buckets = protocol.DefaultBuckets()
		}
		bucket, err := protocol.PickBucket(buckets, &m, c.Hint, random)
		if err != nil {
			return nil, nil, err
		}
		raw, err := protocol.AppendEnvelopeV2(nil, c.Identity, c.Port, &m, c.Hint, bucket, random)
		if err != nil {
			return nil, nil, err
		}
		envelope, _, err := protocol.ParseEnvelopeV2(raw, c.Hint)
		return raw, &envelope, err
	default:
		return nil, nil, fmt.Errorf("%w: Protocol is V1 or V2", ErrOptions)
	}
}
