package gateway

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/policy"
)

// A snapshot is one configuration with what is derived from it. A reload
// creates another; flows in progress keep the services of the one that they
// started with.
type snapshot struct {
	cfg      *config.Config
	policy   *policy.Policy
	services map[string]*service
}

// snapshots are the one in force and, while a reload replaces it, the next one.
type snapshots struct{ current, staged atomic.Pointer[snapshot] }

// byPolicy returns the snapshot of a policy, or nil.
func (s *snapshots) byPolicy(p *policy.Policy) *snapshot {
	if c := s.current.Load(); c.policy == p {
		return c
	}
	if c := s.staged.Load(); c != nil && c.policy == p {
		return c
	}
	return nil
}

// newSnapshot creates a snapshot that replaces prev, nil for the first. Its
// only side effect is to create the listeners of new services.
func newSnapshot(cfg *config.Config, prev *snapshot, now func() time.Time) (*snapshot, error) {
	s := &snapshot{cfg: cfg, services: make(map[string]*service)}
	var prevPolicy *policy.Policy
	if prev != nil {
		prevPolicy = prev.policy
	}
	var err error
	if s.policy, err = gateconfig.Policy(cfg, prevPolicy); err != nil {
		return nil, err
	}

	for i := range cfg.Services {
		c := cfg.Services[i] // a copy: a flow must not retain a whole configuration
		svc, err := newService(&c, cfg.Knock.Window, now)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Name, err)
		}
		if c.Upstream.IsZero() {
			if svc.listener = prev.listener(&c); svc.listener == nil {
				svc.listener = newListener(&c)
			}
		}
		s.services[c.Name] = svc
	}
	return s, nil
}

// listener returns the listener of a service without an upstream, if it has one
// at the same address; nil otherwise.
func (s *snapshot) listener(c *config.Service) *listener {
	if s == nil {
		return nil
	}
	if old := s.services[c.Name]; old != nil && old.listener != nil && old.Listen == c.Listen && old.Port == c.Port {
		return old.listener
	}
	return nil
}

// closeListeners closes the listeners, except those that next has too; next may
// be nil.
func (s *snapshot) closeListeners(next *snapshot) {
	for _, svc := range s.services {
		if l := svc.listener; l != nil && (next == nil || next.listener(svc.Service) != l) {
			l.shut()
		}
	}
}

// clients returns the IDs of the configuration's clients.
func (s *snapshot) clients() map[string]bool {
	all := make(map[string]bool, len(s.cfg.Clients))
	for i := range s.cfg.Clients {
		all[s.cfg.Clients[i].ID] = true
	}
	return all
}

// openPorts returns the ports of services that answer the SYNs of unauthorized
// hosts.
func (s *snapshot) openPorts() []uint16 {
	var ports []uint16
	for _, svc := range s.policy.Services() {
		if svc.Open() && !slices.Contains(ports, svc.Port) {
			ports = append(ports, svc.Port)
		}
	}
	return ports
}

// acceptQueue returns the number of connections waiting for Accept at the
// service that has the most, and how many may.
func (s *snapshot) acceptQueue() (used, limit int) {
	for _, svc := range s.services {
		if svc.listener != nil {
			used = max(used, len(svc.listener.conns))
		}
	}
	return used, acceptBacklog
}
