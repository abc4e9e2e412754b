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

// knockPort is what the gate is told as the port of every datagram. The sockets' own may be any.
const knockPort = protocol.DefaultKnockPort

// The gate knows services by address and port. Ours are at all addresses of the host, so every address
// of ours is an IPv6 one for it: an IPv4 address in NAT64's prefix (RFC 6052, 2.1), which is nobody's own.
var (
	anyAddr     = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	nat64       = [16]byte{1: 0x64, 2: 0xff, 3: 0x9b}
	knockTarget = netip.AddrPortFrom(netip.AddrFrom16(nat64), knockPort)
)

// mapAddr is a local address as the gate knows it.
func mapAddr(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is4() {
		return a
	}
	b, v4 := nat64, a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// tupleOf names a connection that was accepted for the service of a port.
func tupleOf(remote, local netip.AddrPort, port uint16) packet.Tuple {
	return admission.TupleOf(remote, netip.AddrPortFrom(mapAddr(local.Addr()), port))
}

// newPolicy makes a policy of the services and the clients that there are now, to take the place of
// after. Where there are more clients than a service can try, that is an error if after is nil; or else
// who was there before stays, and the others are left out and logged.
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
			Visible: s.Mode == ModeKnockAuth, // the host has answered the SYN by then
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

// watchSecrets puts a new policy in force whenever Secrets changes, until ctx ends. changed is closed by the
// first change. Who is gone from it has his connections reset. Where no policy can be made, it returns
// why: the one before would let in who was removed.
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
