package admission

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// renewed is p made again, as a reload makes it: of identities of its own.
func renewed(p *policy.Policy, change ...func(*policy.Options)) *policy.Policy {
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

// reloads puts a policy in force that differs from the one before by a change.
func (w *harness) reloads(change ...func(*policy.Options)) Revocation {
	w.Helper()
	r := w.gate.SetPolicy(renewed(w.gate.Policy(), change...))
	w.check()
	return r
}

// without has a client no service of these names any more; of all where there
// are none.
func without(client string, services ...string) func(*policy.Options) {
	return eachService(func(s *policy.Service) {
		s.Clients = slices.DeleteFunc(slices.Clone(s.Clients), func(c *policy.Client) bool { return c.ID == client })
	}, services...)
}

// eachService changes the services of these names, in both families, or all.
func eachService(change func(*policy.Service), services ...string) func(*policy.Options) {
	return func(o *policy.Options) {
		for i := range o.Services {
			s := &o.Services[i]
			if len(services) == 0 || slices.Contains(services, s.Name[:len(s.Name)-1]) {
				change(s)
			}
		}
	}
}

// removing takes services out, in both families.
func removing(services ...string) func(*policy.Options) {
	return func(o *policy.Options) {
		o.Services = slices.DeleteFunc(o.Services, func(s policy.Service) bool {
			return slices.Contains(services, s.Name[:len(s.Name)-1])
		})
	}
}

// keyed gives a client other keys.
func keyed(client string, keys ...*protocol.Client) func(*policy.Options) {
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

// other is a second secret of alice.
func other() *protocol.Client {
	c, err := protocol.NewClient("alice", []byte("another secret that alice has"))
	if err != nil {
		panic(err)
	}
	return c
}

// begins has c enter a service on a flow from port.
func (v testPeer) begins(c *protocol.Client, service string, port uint16) {
	v.w.Helper()
	why := ReasonOpen
	if s := v.w.gate.Policy().Service(v.server(service)); s.Mode != policy.ModeAuth {
		v.knocks(c, service, "")
		if !s.Open() {
			why = ReasonGrant
		}
	}
	v.w.want(v.syn(port, service), why)
	v.handshakes(port, service)
	if v.w.flow(v.tuple(port, service)).service.service.Authenticates() {
		if err := v.authenticates(port, service, c, ""); err != nil {
			v.w.Fatalf("%s: %v", service, err)
		}
	}
}

// lives reports whether packets of a flow pass, either way.
func (v testPeer) lives(port uint16, service string) bool {
	v.w.Helper()
	judged := v.w.admit(v.tcp(port, service, 0x10, 1001, 1, "data"))
	in := judged.Action == Pass && !judged.Reset
	if out := v.w.egress(v.reply(port, service, 0x10, 1, 1001, "data")); out != in {
		v.w.Fatalf("packets pass one way only: in %v, out %v", in, out)
	}
	return in
}

var everyService = []string{"ssh", "db", "many", "web", "vpn"}

func TestReloadRevokesFlows(t *testing.T) {
	elsewhere := func(s *policy.Service) { s.Port += 1000 }
	for _, c := range []struct {
		name   string
		change func(*policy.Options)
		ends   map[string][]string // whose flows, to which services
	}{
		{"nothing", func(*policy.Options) {}, nil},
		{"a client", without("alice"), map[string][]string{"alice": everyService}},
		{"a permission", without("alice", "db", "web"), map[string][]string{"alice": {"db", "web"}}},
		{"a service", removing("ssh", "web"), map[string][]string{"alice": {"ssh", "web"}, "bob": {"ssh", "web"}}},
		{"all services", func(o *policy.Options) { o.Services = nil }, map[string][]string{"alice": everyService, "bob": everyService}},
		{"an address", eachService(elsewhere, "db", "vpn"), map[string][]string{"alice": {"db", "vpn"}, "bob": {"db", "vpn"}}},
		{"a name", eachService(func(s *policy.Service) { s.Name = "new" + s.Name }, "db"), map[string][]string{"alice": {"db"}, "bob": {"db"}}},
		{"a secret", keyed("alice", other()), map[string][]string{"alice": everyService}},
		{"nothing, but a second secret is there", keyed("alice", other(), testClient("alice")), nil},
		{"a client's time", eachService(func(s *policy.Service) {
			for i := range s.Clients {
				c := *s.Clients[i]
				c.Expires = time.Unix(1, 0)
				s.Clients[i] = &c
			}
		}), nil},
		{"nothing, but the modes are others", eachService(func(s *policy.Service) {
			s.Visible = s.Mode == policy.ModeKnockAuth && !s.Visible
			if s.Mode == policy.ModeKnock {
				s.Mode = policy.ModeKnockAuth
			}
		}), nil},
		{"nothing, but all services have other properties", eachService(func(s *policy.Service) {
			s.Methods, s.GrantTTL, s.GrantUses, s.MACPort, s.SessionRequired = allFamilies, time.Hour, 3, s.Port+1, true
		}), nil},
		{"nothing, but the window is another", func(o *policy.Options) { o.Window *= 2 }, nil},
	} {
		everywhere(func(addr string) {
			w := newHarness(t)
			v := w.at(addr)
			ports := map[*protocol.Client]uint16{alice: 1000, bob: 2000}
			for client, port := range ports {
				for _, s := range everyService {
					v.begins(client, s, port)
				}
			}
			want := 0
			w.evicted = nil
			r := w.reloads(c.change)
			for client, port := range ports {
				for _, s := range everyService {
					over := slices.Contains(c.ends[client.ID()], s)
					if over {
						want++
					}
					if v.lives(port, s) == over {
						t.Errorf("without %s: %s's flow to %s: over should be %v", c.name, client.ID(), s, over)
					}
					if slices.Contains(w.evicted, v.tuple(port, s)) != over {
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
		{"another client", without("bob"), true},
		{"another service", removing("ssh"), true},
		{"the client", without("alice"), false},
		{"the permission", without("alice", "db"), false},
		{"the service", removing("db"), false},
		{"the secret", keyed("alice", other()), false},
		{"nothing, but there is a new secret", keyed("alice", testClient("alice"), other()), true},
	} {
		everywhere(func(addr string) {
			w := newHarness(t)
			v := w.at(addr)
			v.knocks(alice, "db", "")
			r := w.reloads(c.change)
			if n := w.gate.Stats().Grants; (n == 1) != c.kept || r.Grants != 1-n {
				t.Errorf("without %s: %d grants left, %d ended", c.name, n, r.Grants)
			}
			if w.gate.Policy().Service(v.server("db")) == nil {
				w.want(v.syn(1, "db"), ReasonNotService)
				return
			}
			if !c.kept {
				w.want(v.syn(1, "db"), ReasonNoGrant)
				return
			}
			w.want(v.syn(1, "db"), ReasonGrant)
			v.enters(1, "db", alice)
		})
	}
}

func TestReloadKeepsHandshake(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t)
		v := w.at(addr)
		for _, s := range []string{"ssh", "db"} {
			v.knocks(alice, s, "")
			w.want(v.syn(1, s), ReasonGrant)
		}
		w.want(v.syn(1, "web"), ReasonOpen)
		w.reloads()
		for _, s := range []string{"ssh", "db", "web"} {
			v.handshakes(1, s)
		}
		w.reloads()
		for _, s := range []string{"ssh", "web"} {
			if err := v.authenticates(1, s, alice, ""); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
		if s := w.gate.Stats(); s.Flows != 3 || s.Grants != 0 || s.HalfOpen != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A flow that was let in to authenticate must not be let in without, and the
// other way round.
func TestReloadEndsHandshakeOfChangedService(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	w.want(v.syn(1, "ssh"), ReasonGrant)
	w.want(v.syn(1, "web"), ReasonOpen)
	w.want(v.syn(1, "vpn"), ReasonOpen)
	v.handshakes(1, "web")
	r := w.reloads(eachService(func(s *policy.Service) { s.Mode = policy.ModeKnock }, "ssh"),
		eachService(func(s *policy.Service) { s.Mode, s.Methods = policy.ModeKnockAuth, policy.MethodUDP }, "web"),
		eachService(func(s *policy.Service) { s.Visible = false }, "vpn"))
	if r.Flows != 3 || r.Grants != 0 {
		t.Errorf("%+v were ended", r)
	}
	if err := w.gate.HandshakeDone(v.tuple(1, "ssh")); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("ssh: %v", err)
	}
	if err := v.authenticates(1, "web", alice, ""); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("web: %v", err)
	}
	// Its knock was none of these handshakes' fault.
	w.want(v.syn(2, "ssh"), ReasonGrant)
	v.handshakes(2, "ssh")
}

// Between the swap and the end of the walk through the tables.
func TestRevokedIsRefusedAtOnce(t *testing.T) {
	for name, change := range map[string]func(*policy.Options){
		"the client": without("alice"), "the service": removing("db", "ssh", "web"), "the secret": keyed("alice", other()),
	} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		for _, s := range []string{"ssh", "db"} {
			v.knocks(alice, s, "")
			w.want(v.syn(1, s), ReasonGrant)
		}
		w.want(v.syn(1, "web"), ReasonOpen)
		v.handshakes(1, "ssh")
		v.handshakes(1, "web")
		g := w.gate
		next := stagePolicy(renewed(g.Policy(), change), g.servicesByName)
		g.mu.Lock()
		g.commit(next)
		g.mu.Unlock()
		if err := g.HandshakeDone(v.tuple(1, "db")); err == nil {
			t.Errorf("without %s: Complete", name)
		}
		for _, s := range []string{"ssh", "web"} {
			if err := g.Authenticate(v.tuple(1, s), alice, "", ok); err == nil {
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
		w.check()
	}
}

func TestAuthenticateFailsOnRemovedClient(t *testing.T) {
	for _, s := range []string{"ssh", "web"} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		if s == "ssh" {
			v.knocks(alice, s, "")
		}
		w.admit(v.syn(1, s))
		v.handshakes(1, s)
		err := w.gate.Authenticate(v.tuple(1, s), alice, "", func() error {
			w.gate.SetPolicy(renewed(w.gate.Policy(), without("alice")))
			return nil
		})
		if err == nil {
			t.Errorf("%s: authenticated", s)
		}
		w.check()
	}
}
