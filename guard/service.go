package guard

import (
	"context"
	"errors"
	"iter"
	"net"
	"slices"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// service is the auth.Handshaker of the listeners of a Service.
type service struct {
	Service
	guard *Guard
	auth  *auth.Server // nil in ModeKnock
}

// Handshake implements auth.Handshaker: it asks the gate about a connection and
// then, except in ModeKnock, authenticates the client.
func (s *service) Handshake(ctx context.Context, accepted net.Conn) (auth.Peer, error) {
	c := accepted.(*conn) // listener.Accept returns no others
	if !c.valid {
		return auth.Peer{}, &auth.Error{Result: auth.ResultMisconfigured, Err: errNoAddress}
	}
	gate := s.guard.gate
	s.guard.register(c)
	if v, err := gate.AdmitConn(ctx, c.tuple); err != nil {
		return auth.Peer{}, &auth.Error{Result: resultOf(ctx, v), Err: err}
	}
	if s.auth == nil {
		return s.knockPeer(c)
	}
	peer, err := s.auth.HandshakeWith(ctx, c, slices.Values(gate.Candidates(c.tuple)))
	if auth.ResultOf(err).PeerFailed() {
		gate.Failed(c.tuple)
	}
	return peer, err
}

// errNoAddress is for connections without the address that the gate needs.
var errNoAddress = errors.New("guard: the connection has no IP address and port; guard TCP listeners")

// resultOf returns the Result for a connection that the gate refused.
func resultOf(ctx context.Context, v admission.Verdict) auth.Result {
	switch v.Reason {
	case admission.ReasonBanned, admission.ReasonFlowLimit, admission.ReasonSourceLimit:
		return auth.ResultLimited
	default:
		if ctx.Err() != nil {
			return auth.ResultCanceled
		}
		return auth.ResultUnauthorized
	}
}

// knockPeer returns the Peer of a connection that a grant admitted.
func (s *service) knockPeer(c *conn) (auth.Peer, error) {
	id := s.guard.gate.Client(c.tuple)
	if id == nil {
		return auth.Peer{}, &auth.Error{Result: auth.ResultUnauthorized, Err: admission.ErrFlowClosed}
	}
	return auth.Peer{Conn: c, Client: id}, nil
}

// otherCandidates implements auth.Server.Others: all clients of the service,
// within the gate's rate limits.
func (s *service) otherCandidates(accepted net.Conn) (iter.Seq[*protocol.Client], bool) {
	c, ok := accepted.(*conn)
	if !ok {
		return nil, false
	}
	return s.guard.gate.OtherCandidates(c.tuple)
}

// authorize implements auth.Server.Authorize: the program decides, then the
// gate.
func (s *service) authorize(ctx context.Context, p auth.Peer, claim func() error) error {
	if s.Authorize != nil {
		if err := s.Authorize(p); err != nil {
			return err
		}
	}
	c, ok := p.Conn.(*conn)
	if !ok {
		return errNoAddress
	}
	return s.guard.gate.AuthenticateWithWait(ctx, c.tuple, p.Client, string(p.Message.SessionID), claim)
}
