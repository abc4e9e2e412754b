package profile

import (
	"context"
	"fmt"
	"net"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// Dialer is a dialer that knocks and authenticates as the profile says. It is for Door.Address, or for
// another address of the same service, and belongs to the caller.
func (d *Endpoint) Dialer() (*client.Dialer, error) {
	identity, err := protocol.NewClient(d.Profile.Client, d.Profile.Secret)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", d.Profile.Name, err)
	}
	s := d.Service
	dialer := &client.Dialer{
		Identity: identity, Method: s.Method, Sequence: s.Sequence, Slot: s.Slot,
		Gateway: d.Profile.Gateway, KnockPort: s.KnockPort, Port: s.Port,
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
			d.Profile.Name, s.Name, s.Mode)
	}
	switch s.Auth.Protocol {
	case AuthV1:
		dialer.Auth.Protocol = auth.V1
	case AuthV2, "":
		dialer.Auth.Protocol = auth.V2
	default:
		return nil, fmt.Errorf("profile %s: service %s: %q is not a protocol; write v2 or v1",
			d.Profile.Name, s.Name, s.Auth.Protocol)
	}
	if d.Profile.Server == ServerLibknock {
		dialer.KnockDelay = libknockKnockDelay
	}
	return dialer, nil
}

// DialContext reaches a service by its name, with or without a port that says nothing, or by its
// host:port: it knocks, connects and authenticates. With it a profile is the dialer of an http.Transport,
// where http://wiki/ is the service wiki.
func (p *Profile) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	door, err := p.Find(address)
	if err != nil {
		return nil, err
	}
	dialer, err := door.Dialer()
	if err != nil {
		return nil, err
	}
	return dialer.DialContext(ctx, network, door.Address)
}
