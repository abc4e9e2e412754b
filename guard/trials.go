package guard

import (
	"fmt"
	"slices"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// maxListed is how many clients are named who have been left out: a line of a log, and not a list.
const maxListed = 8

// limitKeys leaves no more secrets to a service than its authentication can try: the ones that it has in
// after, and of the others those that come first. Without after, more are an error.
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
		return fmt.Errorf("%w: service %q: hint mode none takes a trial decryption for each secret and bucket; %d secrets are too many, the most are %d; use route-hint, fewer buckets or Service.Clients, or raise MaxTrials",
			ErrOptions, s.Name, secrets, room)
	}
	before, stays := keysOf(s.Name, after), make(map[[2]int]bool) // by the places of client and key
	for i, c := range s.Clients {
		for j, k := range c.Keys {
			known := before[c.ID]
			if at := slices.IndexFunc(known, k.Identity.Equal); at >= 0 {
				before[c.ID] = slices.Delete(known, at, at+1) // a second one of the same is one more to try
				stays[[2]int{i, j}] = true
				room--
			}
		}
	}
	var fitting []*policy.Client
	var leftOut []string
	for i, c := range s.Clients {
		own := *c // other services may have room for all of its keys
		own.Keys = nil
		for j, k := range c.Keys {
			if !stays[[2]int{i, j}] {
				if room <= 0 {
					continue
				}
				room--
			}
			own.Keys = append(own.Keys, k)
		}
		if len(own.Keys) < len(c.Keys) && len(leftOut) < maxListed {
			leftOut = append(leftOut, c.ID)
		}
		if own.Keys != nil {
			fitting = append(fitting, &own)
		}
	}
	s.Clients = fitting
	g.o.Log.Error("a service without hints has more secrets than it can try: some are left out",
		"service", s.Name, "secrets", secrets, "most", server.MaxClients(), "first_left_out", leftOut)
	return nil
}

// keysOf are the secrets of a service in a policy, by client id.
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
