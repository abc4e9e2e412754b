// Package gateconfig translates a configuration into the policy and the limits of
// an admission.Gate.
package gateconfig

import (
	"fmt"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

// Policy returns the policy that a configuration describes. prev is the policy that
// it replaces, or nil: what is precomputed for it is reused.
func Policy(cfg *config.Config, prev *admission.Policy) (*admission.Policy, error) {
	var allServices []*admission.Client               // clients of all services
	byService := make(map[string][]*admission.Client) // clients of listed services
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
	o := admission.PolicyOptions{
		KnockPort: k.UDPPort, Window: k.Window, Slot: k.Slot, Gateway: k.Gateway, After: prev,
		Sequence: admission.Sequence{
			Length: k.Sequence.Length, Window: k.Sequence.Window, Slot: k.Sequence.Slot, Legacy: k.Sequence.Legacy,
		},
	}

	for i := range cfg.Services {
		s := newService(&cfg.Services[i])
		s.Clients, s.Shared = byService[s.Name], allServices
		o.Services = append(o.Services, s)
	}
	return admission.NewPolicy(o)
}

func newClient(c *config.Client) (*admission.Client, error) {
	t := &admission.Client{ID: c.ID, Expires: c.Expires, MaxGrants: c.MaxGrants, MaxFlows: c.MaxFlows}
	if c.Hours != nil {
		t.Hours = c.Hours.Contains
	}
	for _, s := range c.Secrets {
		id, err := protocol.NewClient(c.ID, s.Secret)
		if err != nil {
			return nil, err
		}
		t.Keys = append(t.Keys, admission.Key{Identity: id, Until: s.Until})
	}
	return t, nil
}

func newService(s *config.Service) admission.Service {
	t := admission.Service{
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

func mode(m config.Mode) admission.Mode {
	switch m {
	case config.ModeAuth:
		return admission.ModeAuth
	case config.ModeKnock:
		return admission.ModeKnock
	default:
		return admission.ModeKnockAuth
	}
}

func methods(m config.Method) admission.Families {
	switch m {
	case config.MethodUDP:
		return admission.FamilyUDP
	case config.MethodUDPSeq:
		return admission.FamilyUDPSeq
	case config.MethodTCPSYN:
		return admission.FamilySYN
	case config.MethodTCPSYNSeq:
		return admission.FamilySYNSeq
	case config.MethodUDPv2:
		return admission.FamilyUDPv2
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
