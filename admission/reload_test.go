package admission

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// reloadedPolicy returns a copy of p with new identities, as a reload makes it.
func reloadedPolicy(p *policy.Policy, change ...func(*policy.Options)) *policy.Policy {
	o := policy.Options{
		KnockPort: p.KnockPort(), Window: p.Window(), Slot: p.Slot(), Sequence: p.Sequence(), Gateway: p.Gateway(), After: p,
	}
	clients := make(map[string]*policy.Client)
	for _, s := range p.Services() {
		c := *s
		c.Clients = nil
		for _, k := range s.Clients {
			if clients[k.ID] == nil {
				fresh := *k
				fresh.Keys = slices.Clone(k.Keys)
				for i, key := range fresh.Keys {
					if id := testClient(k.ID); id.Equal(key.Identity) {
						fresh.Keys[i].Identity = id
					}
				}
				clients[k.ID] = &fresh
			}
			c.Clients = append(c.Clients, clients[k.ID])
		}
		o.Services = append(o.Services, c)
	}
	for _, f := range change {
		f(&o)
	}
	next, err := policy.New(o)
	if err != nil {
		panic(err)
	}
	return next
}

// reload applies a policy that differs from the current one by a change.
func (h *harness) reload(change ...func(*policy.Options)) Revocation {
	h.Helper()
	r := h.gate.SetPolicy(reloadedPolicy(h.gate.Policy(), change...))
	h.check()
	return r
}

// removeClient removes a client from the named services; from all if none are
// named.
func removeClient(client string, services ...string) func(*policy.Options) {
	return changeServices(func(s *policy.Service) {
		s.Clients = slices.DeleteFunc(slices.Clone(s.Clients), func(c *policy.Client) bool { return c.ID == client })
	}, services...)
}

// changeServices changes the named services, in both families, or all.
func changeServices(change func(*policy.Service), services ...string) func(*policy.Options) {
	return func(o *policy.Options) {
		for i := range o.Services {
			s := &o.Services[i]
			if len(services) == 0 || slices.Contains(services, s.Name[:len(s.Name)-1]) {
				change(s)
			}
		}
	}
}

// removeServices removes services, in both families.
func removeServices(services ...string) func(*policy.Options) {
	return func(o *policy.Options) {
		o.Services = slices.DeleteFunc(o.Services, func(s policy.Service) bool {
			return slices.Contains(services, s.Name[:len(s.Name)-1])
		})
	}
}

// replaceKeys replaces the keys of a client.
func replaceKeys(client string, keys ...*protocol.Client) func(*policy.Options) {
	return func(o *policy.Options) {
		c := &policy.Client{ID: client}
		for _, k := range keys {
			c.Keys = append(c.Keys, policy.Key{Identity: k})
		}
		for i := range o.Services {
			o.Services[i].Clients = slices.Clone(o.Services[i].Clients)
			for j, old := range o.Services[i].Clients {
				if old.ID == client {
					o.Services[i].Clients[j] = c
				}
			}
		}
	}
}

// secondSecret returns a second secret of alice.
func secondSecret() *protocol.Client {
	c, err := protocol.NewClient("alice", []byte("another secret that alice has"))
	if err != nil {
		panic(err)
	}
	return c
}

// mustConnect connects c to a service on a flow from port.
func (peer testPeer) mustConnect(c *protocol.Client, service string, port uint16) {
	peer.h.Helper()
	why := ReasonOpen
	if s := peer.h.gate.Policy().Service(peer.server(service)); s.Mode != policy.ModeAuth {
		peer.mustKnock(c, service, "")
		if !s.Open() {
			why = ReasonGrant
		}
	}
	peer.h.want(peer.syn(port, service), why)
	peer.mustHandshake(port, service)
	if peer.h.flow(peer.tuple(port, service)).service.service.Authenticates() {
		if err := peer.authenticate(port, service, c, ""); err != nil {
			peer.h.Fatalf("%s: %v", service, err)
		}
	}
}

// alive reports whether packets of a flow pass, in both directions.
func (peer testPeer) alive(port uint16, service string) bool {
	peer.h.Helper()
	judged := peer.h.admit(peer.tcp(port, service, 0x10, 1001, 1, "data"))
	in := judged.Action == Pass && !judged.Reset
	if out := peer.h.egress(peer.reply(port, service, 0x10, 1, 1001, "data")); out != in {
		peer.h.Fatalf("packets pass one way only: in %v, out %v", in, out)
	}
	return in
}

var serviceNames = []string{"ssh", "db", "many", "web", "vpn"}

func TestReloadRevokesFlows(t *testing.T) {
	elsewhere := func(s *policy.Service) { s.Port += 1000 }
	for _, c := range []struct {
		name   string
		change func(*policy.Options)
		ends   map[string][]string // whose flows, to which services
	}{
		{"nothing", func(*policy.Options) {}, nil},
		{"a client", removeClient("alice"), map[string][]string{"alice": serviceNames}},
		{"a permission", removeClient("alice", "db", "web"), map[string][]string{"alice": {"db", "web"}}},
		{"a service", removeServices("ssh", "web"), map[string][]string{"alice": {"ssh", "web"}, "bob": {"ssh", "web"}}},
		{"all services", func(o *policy.Options) { o.Services = nil }, map[string][]string{"alice": serviceNames, "bob": serviceNames}},
		{"an address", changeServices(elsewhere, "db", "vpn"), map[string][]string{"alice": {"db", "vpn"}, "bob": {"db", "vpn"}}},
		{"a name", changeServices(func(s *policy.Service) { s.Name = "new" + s.Name }, "db"), map[string][]string{"alice": {"db"}, "bob": {"db"}}},
		{"a secret", replaceKeys("alice", secondSecret()), map[string][]string{"alice": serviceNames}},
		{"nothing, but a second secret is there", replaceKeys("alice", secondSecret(), testClient("alice")), nil},
		{"a client's time", changeServices(func(s *policy.Service) {
			for i := range s.Clients {
				c := *s.Clients[i]
				c.Expires = time.Unix(1, 0)
				s.Clients[i] = &c
			}
		}), nil},
		{"nothing, but the modes are others", changeServices(func(s *policy.Service) {
			s.Visible = s.Mode == policy.ModeKnockAuth && !s.Visible
			if s.Mode == policy.ModeKnock {
				s.Mode = policy.ModeKnockAuth
			}
		}), nil},
		{"nothing, but all services have other properties", changeServices(func(s *policy.Service) {
			s.Methods, s.GrantTTL, s.GrantUses, s.MACPort, s.SessionRequired = allFamilies, time.Hour, 3, s.Port+1, true
		}), nil},
		{"nothing, but the window is another", func(o *policy.Options) { o.Window *= 2 }, nil},
	} {
		forEachFamily(func(addr string) {
			h := newHarness(t)
			peer := h.peer(addr)
			ports := map[*protocol.Client]uint16{alice: 1000, bob: 2000}
			for client, port := range ports {
				for _, s := range serviceNames {
					peer.mustConnect(client, s, port)
				}
			}
			want := 0
			h.evicted = nil
			r := h.reload(c.change)
			for client, port := range ports {
				for _, s := range serviceNames {
					over := slices.Contains(c.ends[client.ID()], s)
					if over {
						want++
					}
					if peer.alive(port, s) == over {
						t.Errorf("without %s: %s's flow to %s: over should be %v", c.name, client.ID(), s, over)
					}
					if slices.Contains(h.evicted, peer.tuple(port, s)) != over {
						t.Errorf("without %s: %s's flow to %s: the stack is told should be %v", c.name, client.ID(), s, over)
					}
				}
			}
			if r.Flows != want {
				t.Errorf("without %s: %d flows were ended, it says; %d were", c.name, r.Flows, want)
			}
		})
	}
}

func TestReloadRevokesGrants(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*policy.Options)
		kept   bool
	}{
		{"nothing", func(*policy.Options) {}, true},
		{"another client", removeClient("bob"), true},
		{"another service", removeServices("ssh"), true},
		{"the client", removeClient("alice"), false},
		{"the permission", removeClient("alice", "db"), false},
		{"the service", removeServices("db"), false},
		{"the secret", replaceKeys("alice", secondSecret()), false},
		{"nothing, but there is a new secret", replaceKeys("alice", testClient("alice"), secondSecret()), true},
	} {
		forEachFamily(func(addr string) {
			h := newHarness(t)
			peer := h.peer(addr)
			peer.mustKnock(alice, "db", "")
			r := h.reload(c.change)
			if n := h.gate.Stats().Grants; (n == 1) != c.kept || r.Grants != 1-n {
				t.Errorf("without %s: %d grants left, %d ended", c.name, n, r.Grants)
			}
			if h.gate.Policy().Service(peer.server("db")) == nil {
				h.want(peer.syn(1, "db"), ReasonNotService)
				return
			}
			if !c.kept {
				h.want(peer.syn(1, "db"), ReasonNoGrant)
				return
			}
			h.want(peer.syn(1, "db"), ReasonGrant)
			peer.mustEnter(1, "db", alice)
		})
	}
}

func TestReloadKeepsHandshake(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t)
		peer := h.peer(addr)
		for _, s := range []string{"ssh", "db"} {
			peer.mustKnock(alice, s, "")
			h.want(peer.syn(1, s), ReasonGrant)
		}
		h.want(peer.syn(1, "web"), ReasonOpen)
		h.reload()
		for _, s := range []string{"ssh", "db", "web"} {
			peer.mustHandshake(1, s)
		}
		h.reload()
		for _, s := range []string{"ssh", "web"} {
			if err := peer.authenticate(1, s, alice, ""); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
		if s := h.gate.Stats(); s.Flows != 3 || s.Grants != 0 || s.HalfOpen != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A flow admitted to authenticate must not be admitted without, and vice versa.
func TestReloadEndsHandshakeOfChangedService(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.syn(1, "ssh"), ReasonGrant)
	h.want(peer.syn(1, "web"), ReasonOpen)
	h.want(peer.syn(1, "vpn"), ReasonOpen)
	peer.mustHandshake(1, "web")
	r := h.reload(changeServices(func(s *policy.Service) { s.Mode = policy.ModeKnock }, "ssh"),
		changeServices(func(s *policy.Service) { s.Mode, s.Methods = policy.ModeKnockAuth, policy.MethodUDP }, "web"),
		changeServices(func(s *policy.Service) { s.Visible = false }, "vpn"))
	if r.Flows != 3 || r.Grants != 0 {
		t.Errorf("%+v were ended", r)
	}
	if err := h.gate.HandshakeDone(peer.tuple(1, "ssh")); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("ssh: %v", err)
	}
	if err := peer.authenticate(1, "web", alice, ""); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("web: %v", err)
	}
	// These handshakes have not spent the knock.
	h.want(peer.syn(2, "ssh"), ReasonGrant)
	peer.mustHandshake(2, "ssh")
}

// This tests the time between the swap and the end of the walk through the
// tables.
func TestRevokedIsRefusedAtOnce(t *testing.T) {
	for name, change := range map[string]func(*policy.Options){
		"the client": removeClient("alice"), "the service": removeServices("db", "ssh", "web"), "the secret": replaceKeys("alice", secondSecret()),
	} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		for _, s := range []string{"ssh", "db"} {
			peer.mustKnock(alice, s, "")
			h.want(peer.syn(1, s), ReasonGrant)
		}
		h.want(peer.syn(1, "web"), ReasonOpen)
		peer.mustHandshake(1, "ssh")
		peer.mustHandshake(1, "web")
		g := h.gate
		next := stagePolicy(reloadedPolicy(g.Policy(), change), g.servicesByName)
		g.mu.Lock()
		g.commit(next)
		g.mu.Unlock()
		if err := g.HandshakeDone(peer.tuple(1, "db")); err == nil {
			t.Errorf("without %s: Complete", name)
		}
		for _, s := range []string{"ssh", "web"} {
			if err := g.Authenticate(peer.tuple(1, s), alice, "", succeed); err == nil {
				t.Errorf("without %s: authenticated to %s", name, s)
			}
		}
		g.rebuildMu.Lock()
		g.revokeMatching(
			func(gr *grant) bool { return !gr.permitted() },
			func(f *flow) bool { return !f.permitted() },
		)
		g.rebuildMu.Unlock()
		g.mu.Lock()
		g.knocks.SetTable(g.knocks.NewBuilder().Build(g.Policy(), g.now(), nil))
		g.mu.Unlock()
		h.check()
	}
}

func TestAuthenticateFailsOnRemovedClient(t *testing.T) {
	for _, s := range []string{"ssh", "web"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		if s == "ssh" {
			peer.mustKnock(alice, s, "")
		}
		h.admit(peer.syn(1, s))
		peer.mustHandshake(1, s)
		err := h.gate.Authenticate(peer.tuple(1, s), alice, "", func() error {
			h.gate.SetPolicy(reloadedPolicy(h.gate.Policy(), removeClient("alice")))
			return nil
		})
		if err == nil {
			t.Errorf("%s: authenticated", s)
		}
		h.check()
	}
}
