package gateway

import (
	"context"
	"errors"
	"iter"
	"net"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/protocol"
)

// A service is a configured service with what its flows need.
type service struct {
	*config.Service
	auth     *auth.Server // nil in mode knock
	dialer   net.Dialer
	listener *listener // nil if there is an upstream
}

// upstreamKeepAlive detects upstreams that are gone without a FIN or RST, after
// 12 minutes: a network failure of some minutes or the migration of a machine
// ends no session. The number of probes is the system's (9 on Linux): each
// setting costs every connection a system call.
var upstreamKeepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 75 * time.Second, Count: -1}

// newService creates a service. Its authentication works after bindGate.
func newService(c *config.Service, window time.Duration, now func() time.Time) (*service, error) {
	s := &service{Service: c, dialer: net.Dialer{KeepAliveConfig: upstreamKeepAlive}}
	if c.UpstreamDevice != "" {
		control, err := bindToDevice(c.UpstreamDevice)
		if err != nil {
			return nil, err
		}
		s.dialer.Control = control
	}
	if !c.Mode.Authenticates() {
		return s, nil
	}

	s.auth = &auth.Server{
		Port: c.MACPort, Hint: protocol.HintMode(c.Auth.Hint), Buckets: c.Auth.Buckets,
		Proof: c.Auth.Proof, Deadline: c.Auth.Deadline, Window: window, Now: now,
	}
	if c.Auth.Accepts(config.AuthV1) {
		s.auth.Protocols |= auth.V1
	}
	if c.Auth.Accepts(config.AuthV2) {
		s.auth.Protocols |= auth.V2
	}
	return s, nil
}

// bindGate sets the gate that authorizes the service's clients.
func (s *service) bindGate(gate *admission.Gate, r auth.Replay) {
	if s.auth == nil {
		return
	}
	s.auth.Replay = r
	s.auth.Others = func(conn net.Conn) (iter.Seq[*protocol.Client], bool) {
		c, ok := conn.(*netstack.Conn)
		if !ok {
			return nil, false
		}
		return gate.OtherCandidates(c.Tuple())
	}
	s.auth.Authorize = func(ctx context.Context, p auth.Peer, claim func() error) error {
		c, ok := p.Conn.(*netstack.Conn)
		if !ok {
			return errors.New("gateway: not a connection of the stack")
		}
		return gate.AuthenticateWithWait(ctx, c.Tuple(), p.Client, string(p.Message.SessionID), claim)
	}
}
