package profile

import (
	"context"
	"fmt"
	"net"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// Dialer returns a new dialer that knocks and authenticates as the profile
// specifies. It is for e.Address, or for another address of the same service.
func (e *Endpoint) Dialer() (*client.Dialer, error) {
	identity, err := protocol.NewClient(e.Profile.Client, e.Profile.Secret)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", e.Profile.Name, err)
	}
	s := e.Service
	dialer := &client.Dialer{
		Identity: identity, Method: s.Method, Sequence: s.Sequence, Slot: s.Slot,
		Gateway: e.Profile.Gateway, KnockPort: s.KnockPort, Port: s.Port,
		Auth: auth.Client{Hint: protocol.HintMode(s.Auth.Hint), Buckets: s.Auth.Buckets, Proof: s.Auth.Proof},
	}

	switch s.Mode {
	case ModeAuth:
		dialer.NoKnock = true
	case ModeKnock:
		dialer.NoAuth = true
	case ModeKnockAuth, "":
	default:
		return nil, fmt.Errorf("profile %s: service %s: %q is not a mode; write auth, knock or knock-auth",
			e.Profile.Name, s.Name, s.Mode)
	}

	switch s.Auth.Protocol {
	case AuthV1:
		dialer.Auth.Protocol = auth.V1
	case AuthV2, "":
		dialer.Auth.Protocol = auth.V2
	default:
		return nil, fmt.Errorf("profile %s: service %s: %q is not an authentication protocol; write v2 or v1",
			e.Profile.Name, s.Name, s.Auth.Protocol)
	}

	if e.Profile.Server == ServerLibknock {
		dialer.KnockDelay = libknockKnockDelay
	}
	return dialer, nil
}

// DialContext knocks, connects and authenticates. address is the name of a
// service, with an optional port that is ignored, or the service's host:port.
// As the dialer of an http.Transport, it makes http://wiki/ the service wiki.
func (p *Profile) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	endpoint, err := p.Find(address)
	if err != nil {
		return nil, err
	}
	dialer, err := endpoint.Dialer()
	if err != nil {
		return nil, err
	}
	return dialer.DialContext(ctx, network, endpoint.Address)
}
