package guard

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// knockPort is the destination port of every datagram for the gate, whatever
// port its socket has.
const knockPort = protocol.DefaultKnockPort

// The gate finds services by address and port. Those of a Guard are at all
// addresses of the host, so each local address is mapped to IPv6: an IPv4
// address into the prefix of NAT64 (RFC 6052, 2.1), which no host has.
var (
	anyAddr     = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	nat64       = [16]byte{1: 0x64, 2: 0xff, 3: 0x9b}
	knockTarget = netip.AddrPortFrom(netip.AddrFrom16(nat64), knockPort)
)

// mapAddr returns a local address for the gate.
func mapAddr(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is4() {
		return a
	}
	b, v4 := nat64, a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// tupleOf returns the tuple of a connection to the service of a port.
func tupleOf(remote, local netip.AddrPort, port uint16) packet.Tuple {
	return admission.TupleOf(remote, netip.AddrPortFrom(mapAddr(local.Addr()), port))
}

// newPolicy returns a policy of the services and the current clients, to
// replace after. If a service has more keys than it can try, that is an error
// when after is nil; otherwise keys of after are kept, and the others are
// omitted and logged.
func (g *Guard) newPolicy(after *policy.Policy) (*policy.Policy, error) {
	o := &g.o
	clients := make(map[string]*policy.Client)
	var all []*policy.Client
	for id := range o.Secrets.All() {
		c := clients[id.ID()]
		if c == nil {
			c = o.newClient(id.ID())
			clients[c.ID] = c
			all = append(all, c)
		}
		c.Keys = append(c.Keys, policy.Key{Identity: id})
	}

	p := policy.Options{
		KnockPort: knockPort, Window: cmp.Or(o.Window, DefaultWindow),
		Sequence: policy.Sequence{Length: o.Sequence.Length, Window: o.Sequence.Window}, Slot: o.Slot, Gateway: o.Gateway, After: after,
	}
	for i := range o.Services {
		s := &o.Services[i]
		methods, err := s.methods()
		if err != nil {
			return nil, err
		}
		t := policy.Service{
			Name: s.Name, Listen: anyAddr, Port: s.Port, Mode: policy.Mode(s.Mode),
			Visible: s.Mode == ModeKnockAuth, // the host has already answered the SYN
			Methods: methods, SessionRequired: !s.NoSession && s.Mode == ModeKnockAuth,
			GrantTTL: cmp.Or(s.GrantTTL, DefaultGrantTTL), GrantUses: cmp.Or(s.GrantUses, 1),
			AuthDeadline: cmp.Or(s.Auth.Deadline, auth.DefaultDeadline),
			Clients:      all,
		}

		if s.Clients != nil {
			t.Clients = nil
			for _, id := range s.Clients {
				if c := clients[id]; c != nil {
					t.Clients = append(t.Clients, c)
				}
			}
		}
		if err := g.limitKeys(&t, after); err != nil {
			return nil, err
		}
		p.Services = append(p.Services, t)
	}
	return policy.New(p)
}

// newClient returns a client with the options that Options.Client gives it.
func (o *Options) newClient(id string) *policy.Client {
	c := &policy.Client{ID: id}
	if o.Client != nil {
		own := o.Client(id)
		c.Expires, c.Hours, c.MaxGrants, c.MaxFlows = own.Expires, own.Hours, own.MaxGrants, own.MaxFlows
	}
	return c
}

// admission returns l for the gate. A Guard defers no SYNs.
func (l *Limits) admission() admission.Limits {
	return admission.Limits{
		Flows: l.Flows, HalfOpen: l.HalfOpen,
		Grants: l.Grants, GrantsPerSource: l.GrantsPerSource, GrantsPerClient: l.GrantsPerClient,
		FlowsPerClient: l.FlowsPerClient, FlowsPerSource: l.FlowsPerSource,
		Knocks: l.Knocks, KnocksPerSource: l.KnocksPerSource,
	}
}

// watchSecrets sets a new policy whenever Secrets changes, until ctx ends.
// changed is closed by the first change. Connections of removed clients are
// reset. It returns an error if no policy can be made: the one before would
// admit clients that were removed.
func (g *Guard) watchSecrets(ctx context.Context, changed <-chan struct{}) error {
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		changed = g.o.Secrets.Changed()
		policy, err := g.newPolicy(g.gate.Policy())
		if err != nil {
			return fmt.Errorf("guard: the clients have changed: %w", err)
		}
		ended := g.gate.SetPolicy(policy)
		g.o.Log.Info("clients changed", "secrets", g.o.Secrets.Len(), "ended_grants", ended.Grants, "ended_flows", ended.Flows)
	}
}
