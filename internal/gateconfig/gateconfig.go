// Package gateconfig translates a configuration into the policy and the limits
// of an admission.Gate.
package gateconfig

import (
	"fmt"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// Policy returns the policy that a configuration describes. prev is the policy
// that it replaces, or nil: what is precomputed for it is reused.
func Policy(cfg *config.Config, prev *policy.Policy) (*policy.Policy, error) {
	var allServices []*policy.Client               // clients of all services
	byService := make(map[string][]*policy.Client) // clients of listed services
	for i := range cfg.Clients {
		c, err := newClient(&cfg.Clients[i])
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", cfg.Clients[i].ID, err)
		}
		if cfg.Clients[i].Services == nil {
			allServices = append(allServices, c)
		}
		for _, name := range cfg.Clients[i].Services {
			byService[name] = append(byService[name], c)
		}
	}

	k := &cfg.Knock
	o := policy.Options{
		KnockPort: k.UDPPort, Window: k.Window, Slot: k.Slot, Gateway: k.Gateway, After: prev,
		Sequence: policy.Sequence{
			Length: k.Sequence.Length, Window: k.Sequence.Window, Slot: k.Sequence.Slot, Legacy: k.Sequence.Legacy,
		},
	}

	for i := range cfg.Services {
		s := newService(&cfg.Services[i])
		s.Clients, s.Shared = byService[s.Name], allServices
		o.Services = append(o.Services, s)
	}
	return policy.New(o)
}

func newClient(c *config.Client) (*policy.Client, error) {
	t := &policy.Client{ID: c.ID, Expires: c.Expires, MaxGrants: c.MaxGrants, MaxFlows: c.MaxFlows}
	if c.Hours != nil {
		t.Hours = c.Hours.Contains
	}
	for _, s := range c.Secrets {
		id, err := protocol.NewClient(c.ID, s.Secret)
		if err != nil {
			return nil, err
		}
		t.Keys = append(t.Keys, policy.Key{Identity: id, Until: s.Until})
	}
	return t, nil
}

func newService(s *config.Service) policy.Service {
	t := policy.Service{
		Name: s.Name, Listen: s.Listen, Port: s.Port, MACPort: s.MACPort,
		Mode: mode(s.Mode), Visible: s.Visible,
		SessionRequired: s.SessionRequired,
		GrantTTL:        s.Grant.TTL, GrantUses: s.Grant.Uses,
		AuthDeadline: s.Auth.Deadline,
	}
	for _, m := range s.Knock {
		t.Methods |= methods(m)
	}
	return t
}

func mode(m config.Mode) policy.Mode {
	switch m {
	case config.ModeAuth:
		return policy.ModeAuth
	case config.ModeKnock:
		return policy.ModeKnock
	default:
		return policy.ModeKnockAuth
	}
}

func methods(m config.Method) policy.MethodSet {
	switch m {
	case config.MethodUDP:
		return policy.MethodUDP
	case config.MethodUDPSeq:
		return policy.MethodUDPSeq
	case config.MethodTCPSYN:
		return policy.MethodSYN
	case config.MethodTCPSYNSeq:
		return policy.MethodSYNSeq
	case config.MethodUDPv2:
		return policy.MethodUDPv2
	default:
		return 0
	}
}

// Limits returns the limits of a gate.
func Limits(l *config.Limits) admission.Limits {
	return admission.Limits{
		Flows: l.Flows, Knocks: l.Knocks,
		GrantsPerClient: l.GrantsPerClient, FlowsPerClient: l.FlowsPerClient,
		GrantsPerSource: l.GrantsPerSource, FlowsPerSource: l.FlowsPerSource,
	}
}
