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

// service is a Service at work: the auth.Handshaker of its listeners.
type service struct {
	Service
	guard *Guard
	auth  *auth.Server // nil in ModeKnock
}

// Handshake implements auth.Handshaker: it asks the gate about a connection and then, but in ModeKnock,
// the client itself.
func (s *service) Handshake(ctx context.Context, accepted net.Conn) (auth.Peer, error) {
	c := accepted.(*conn) // Guard's listener makes no others
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

// errNoAddress: the gate knows sources by their addresses.
var errNoAddress = errors.New("guard: the connection has no IP address and port; guard TCP listeners")

// resultOf is the Result of a connection that the gate has refused.
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

// knockPeer is the Peer of a connection that its client's grant has let in.
func (s *service) knockPeer(c *conn) (auth.Peer, error) {
	id := s.guard.gate.Identity(c.tuple)
	if id == nil {
		return auth.Peer{}, &auth.Error{Result: auth.ResultUnauthorized, Err: admission.ErrFlowClosed}
	}
	return auth.Peer{Conn: c, Client: id}, nil
}

// otherCandidates is the auth.Server's: all clients of the service, within the gate's budget.
func (s *service) otherCandidates(accepted net.Conn) (iter.Seq[*protocol.Client], bool) {
	c, ok := accepted.(*conn)
	if !ok {
		return nil, false
	}
	return s.guard.gate.OtherCandidates(c.tuple)
}

// authorize is the auth.Server's: the program agrees, then the gate.
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
