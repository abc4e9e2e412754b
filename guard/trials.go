package guard

import (
	"fmt"
	"slices"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// maxListed is how many omitted clients a log line names.
const maxListed = 8

// limitKeys reduces the secrets of a service to those that its authentication
// can try: those that it has in after, then the first of the others. Without
// after, too many secrets are an error.
func (g *Guard) limitKeys(s *policy.Service, after *policy.Policy) error {
	server := g.services[s.Name].auth
	if server == nil {
		return nil
	}
	secrets, room := 0, server.MaxClients()
	for _, c := range s.Clients {
		secrets += len(c.Keys)
	}
	switch {
	case secrets <= room:
		return nil
	case after == nil:
		return fmt.Errorf("%w: service %q: hint mode none takes a trial decryption for each secret and bucket; %d secrets are too many, the limit is %d; use route-hint, fewer buckets or Service.Clients, or raise MaxTrials",
			ErrOptions, s.Name, secrets, room)
	}

	// Keys that the service has already are kept.
	before, kept := keysOf(s.Name, after), make(map[[2]int]bool) // by the indices of client and key
	for i, c := range s.Clients {
		for j, k := range c.Keys {
			known := before[c.ID]
			if at := slices.IndexFunc(known, k.Identity.Equal); at >= 0 {
				before[c.ID] = slices.Delete(known, at, at+1) // an equal second key is one more to try
				kept[[2]int{i, j}] = true
				room--
			}
		}
	}

	// Then the first of the others.
	var fitting []*policy.Client
	var omitted []string
	for i, c := range s.Clients {
		own := *c // other services may be able to try all of its keys
		own.Keys = nil
		for j, k := range c.Keys {
			if !kept[[2]int{i, j}] {
				if room <= 0 {
					continue
				}
				room--
			}
			own.Keys = append(own.Keys, k)
		}
		if len(own.Keys) < len(c.Keys) && len(omitted) < maxListed {
			omitted = append(omitted, c.ID)
		}
		if own.Keys != nil {
			fitting = append(fitting, &own)
		}
	}

	s.Clients = fitting
	g.o.Log.Error("service without hints has more secrets than it can try; some are omitted",
		"service", s.Name, "secrets", secrets, "limit", server.MaxClients(), "first_omitted", omitted)
	return nil
}

// keysOf returns the secrets of a service in a policy, by client ID.
func keysOf(service string, p *policy.Policy) map[string][]*protocol.Client {
	keys := make(map[string][]*protocol.Client)
	for _, s := range p.Services() {
		if s.Name != service {
			continue
		}
		for _, c := range s.Clients {
			for _, k := range c.Keys {
				keys[c.ID] = append(keys[c.ID], k.Identity)
			}
		}
	}
	return keys
}
