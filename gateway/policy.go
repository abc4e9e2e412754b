package gateway

import (
	"fmt"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

// policy translates the configuration for the gate, whose policy so far is after;
// nil for none.
func policy(cfg *config.Config, after *admission.Policy) (*admission.Policy, error) {
	var ofAll []*admission.Client                 // who may use all services
	ofOne := make(map[string][]*admission.Client) // who may use it, by the service's name
	for i := range cfg.Clients {
		c, err := newClient(&cfg.Clients[i])
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", cfg.Clients[i].ID, err)
		}
		if cfg.Clients[i].Services == nil {
			ofAll = append(ofAll, c)
		}
		for _, name := range cfg.Clients[i].Services {
			ofOne[name] = append(ofOne[name], c)
		}
	}
	k := &cfg.Knock
	o := admission.PolicyOptions{
		KnockPort: k.UDPPort, Window: k.Window, Slot: k.Slot, Gateway: k.Gateway, After: after,
		Sequence: admission.Sequence{
			Length: k.Sequence.Length, Window: k.Sequence.Window, Slot: k.Sequence.Slot, Legacy: k.Sequence.Legacy,
		},
	}
	for i := range cfg.Services {
		s := newAdmissionService(&cfg.Services[i])
		s.Clients, s.Shared = ofOne[s.Name], ofAll
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

func newAdmissionService(s *config.Service) admission.Service {
	t := admission.Service{
		Name: s.Name, Listen: s.Listen, Port: s.Port, MACPort: s.MACPort,
		Mode: mode(s.Mode), Visible: s.Visible,
		SessionRequired: s.SessionRequired,
		GrantTTL:        s.Grant.TTL, GrantUses: s.Grant.Uses,
		AuthDeadline: s.Auth.Deadline,
	}
	for _, m := range s.Knock {
		t.Methods |= family(m)
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

func family(m config.Method) admission.Families {
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

func limits(l *config.Limits) admission.Limits {
	return admission.Limits{
		Flows: l.Flows, Knocks: l.Knocks,
		GrantsPerClient: l.GrantsPerClient, FlowsPerClient: l.FlowsPerClient,
		GrantsPerSource: l.GrantsPerSource, FlowsPerSource: l.FlowsPerSource,
	}
}
