package admission

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

// methods are the ways to knock, each as what has to be sent for it.
var methods = map[string]func(v testPeer, c *protocol.Client, service string) [][]byte{
	"udp": func(v testPeer, c *protocol.Client, service string) [][]byte {
		return [][]byte{v.knock(c, service)}
	},
	"udp-seq": func(v testPeer, c *protocol.Client, service string) (all [][]byte) {
		v.w.ids++
		for i := range 3 {
			all = append(all, v.part(c, service, sessionID(int(v.w.ids)), i, 3))
		}
		return all
	},
	"tcp-syn": func(v testPeer, c *protocol.Client, service string) [][]byte {
		return [][]byte{v.synKnock(c, service, 0)}
	},
	"tcp-syn-seq": func(v testPeer, c *protocol.Client, service string) (all [][]byte) {
		for i := range 3 {
			all = append(all, v.synPart(c, service, 0, i))
		}
		return all
	},
	"legacy": func(v testPeer, c *protocol.Client, service string) (all [][]byte) {
		for i := range 3 {
			all = append(all, v.legacyPart(c, service, 0, i))
		}
		return all
	},
	"udp-v2": func(v testPeer, c *protocol.Client, service string) [][]byte {
		return [][]byte{v.v2(c, service)}
	},
}

// tries knocks by a method and returns how that ended.
func (v testPeer) tries(method string, c *protocol.Client, service string) knock.Result {
	v.w.Helper()
	n := len(v.w.events)
	for _, b := range methods[method](v, c, service) {
		v.w.admit(b)
		v.w.decide()
	}
	if len(v.w.events) == n {
		return knock.UnknownClient // nothing was queued: it is like any other packet
	}
	return v.w.lastKnock()
}

func TestKnockGrantsOnlyOwnServices(t *testing.T) {
	for method := range methods {
		w := newHarness(t, every(legacy, func(o *policy.Options) {
			for i := range o.Services {
				o.Services[i].Clients = members([]*protocol.Client{alice})
				if o.Services[i].Port == 22 {
					o.Services[i].Clients = members([]*protocol.Client{alice, bob})
				}
			}
		}))
		v := w.at("192.0.2.1")
		// What is computed ahead is only what clients may send: of another
		// port, it is like junk.
		want := knock.UnknownClient
		if method == "udp" || method == "udp-seq" {
			want = knock.Forbidden
		}
		if got := v.tries(method, bob, "db"); got != want {
			t.Errorf("%s: %v", method, got)
		}
		w.empty()
		if got := v.tries(method, bob, "ssh"); got != knock.OK {
			t.Errorf("%s, for his own: %v", method, got)
		}
		if got := v.tries(method, alice, "db"); got != knock.OK {
			t.Errorf("%s, for hers: %v", method, got)
		}
	}
}

func TestKnockWithSeveralSecrets(t *testing.T) {
	for method := range methods {
		var until time.Time
		older, newer := alice, testSecret("alice", 2)
		w := newHarness(t, func(o *Options) {
			until = o.Now().Add(time.Hour)
			every(legacy, having(&policy.Client{ID: "alice", Keys: []policy.Key{{Identity: older, Until: until}, {Identity: newer}}}))(o)
		})
		v := w.at("192.0.2.1")
		for _, id := range []*protocol.Client{older, newer} {
			if got := v.tries(method, id, "db"); got != knock.OK {
				t.Errorf("%s: %v", method, got)
			}
		}
		w.pass(time.Hour - time.Millisecond)
		w.turn()
		if got := v.tries(method, older, "db"); got != knock.OK {
			t.Errorf("%s, at the last moment: %v", method, got)
		}
		w.pass(time.Millisecond)
		if got := v.spoofed(1).tries(method, older, "many"); got == knock.OK {
			t.Errorf("%s: the old secret works after its end", method)
		}
		if got := v.spoofed(2).tries(method, newer, "many"); got != knock.OK {
			t.Errorf("%s, the new one: %v", method, got)
		}
	}
}

func TestKnockOutsideSchedule(t *testing.T) {
	for method := range methods {
		for name, change := range map[string]func(*policy.Client, time.Time){
			"expired": func(c *policy.Client, now time.Time) { c.Expires = now.Add(time.Minute) },
			"out of hours": func(c *policy.Client, now time.Time) {
				c.Hours = func(t time.Time) bool { return t.Before(now.Add(time.Minute)) }
			},
		} {
			w := newHarness(t, func(o *Options) {
				c := policy.NewClient(alice)
				change(c, o.Now())
				every(legacy, having(c))(o)
			})
			v := w.at("192.0.2.1")
			if got := v.tries(method, alice, "db"); got != knock.OK {
				t.Errorf("%s, while it may: %v", method, got)
			}
			w.pass(time.Minute)
			w.turn()
			w.sweep()
			if got := v.tries(method, alice, "db"); got != knock.OutsideSchedule && got != knock.UnknownClient {
				t.Errorf("%s, %s: %v", method, name, got)
			}
			w.empty()
		}
	}
}

func TestAuthenticateRejectsOutsideSchedule(t *testing.T) {
	may := true
	c := policy.NewClient(alice)
	c.Hours = func(time.Time) bool { return may }
	w := newHarness(t, every(having(c)))
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	for n, service := range []string{"ssh", "web"} {
		port := uint16(n + 1)
		w.admit(v.syn(port, service))
		v.handshakes(port, service)
		may = false
		if err := v.authenticates(port, service, alice, ""); !errors.Is(err, ErrOutsideSchedule) {
			t.Errorf("%s: %v", service, err)
		}
		may = true
		if err := v.authenticates(port, service, alice, ""); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	}
}

func TestGateLimitsGrantsPerClient(t *testing.T) {
	for method := range methods {
		c := policy.NewClient(alice)
		c.MaxGrants = 3
		w := newHarness(t, every(legacy, having(c, policy.NewClient(bob))))
		v := w.at("192.0.2.1")
		for n, service := range []string{"ssh", "db", "many", "vpn"} {
			want := knock.OK
			if n == 3 {
				want = knock.LimitReached
			}
			if got := v.spoofed(n).tries(method, alice, service); got != want {
				t.Errorf("%s, no. %d: %v, want %v", method, n, got, want)
			}
		}
		if got := v.tries(method, bob, "db"); got != knock.OK {
			t.Errorf("%s, another client: %v", method, got)
		}
		// A grant that was used up makes room, and one that is over.
		w.want(v.spoofed(1).syn(1, "db"), ReasonGrant)
		v.spoofed(1).enters(1, "db", alice)
		w.pass(testWindow)
		w.turn()
		w.sweep()
		if got := v.tries(method, alice, "db"); got != knock.OK {
			t.Errorf("%s, later: %v", method, got)
		}
	}
}

func TestGrantLimitIgnoresExpired(t *testing.T) {
	c := policy.NewClient(alice)
	c.MaxGrants = 1
	w := newHarness(t, every(having(c, policy.NewClient(bob))))
	v := w.at("192.0.2.1")
	for n := range 5 { // a traveller
		if got := v.spoofed(n).tries("udp", alice, "db"); got != knock.OK {
			t.Fatalf("at address %d: %v", n, got)
		}
		if got := v.tries("udp-v2", alice, "db"); got != knock.LimitReached {
			t.Errorf("one too many: %v", got)
		}
		w.pass(testTTL + testDeadline + time.Millisecond)
	}
	if n := w.gate.Stats().Grants; n != 1 {
		t.Errorf("%d grants", n)
	}
}

func TestGateLimitsFlowsPerClient(t *testing.T) {
	c := policy.NewClient(alice)
	c.MaxFlows = 2
	w := newHarness(t, every(having(c, policy.NewClient(bob))))
	v := w.at("192.0.2.1")
	for n, service := range []string{"db", "ssh"} {
		v := v.spoofed(n)
		v.knocks(alice, service, "")
		w.want(v.syn(1, service), ReasonGrant)
		v.enters(1, service, alice)
	}
	v.knocks(alice, "db", "")
	v.knocks(alice, "ssh", "")
	w.want(v.syn(3, "db"), ReasonGrant)
	if err := w.gate.HandshakeDone(v.tuple(3, "db")); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("mode knock: %v", err)
	}
	w.want(v.syn(4, "ssh"), ReasonGrant)
	v.handshakes(4, "ssh")
	if err := v.authenticates(4, "ssh", alice, ""); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("mode knock-auth: %v", err)
	}
	w.want(v.syn(5, "web"), ReasonOpen)
	v.handshakes(5, "web")
	if err := v.authenticates(5, "web", alice, ""); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("mode auth: %v", err)
	}
	if err := v.authenticates(5, "web", bob, ""); err != nil {
		t.Errorf("another client: %v", err)
	}
	w.check()
	// What was refused has spent nothing; a flow that ends makes room at once,
	// though the stack keeps it in TIME_WAIT.
	first := v.spoofed(0).tuple(1, "db")
	w.stages[first] = EndpointTimeWait
	w.gate.RelayDone(first)
	if err := v.authenticates(4, "ssh", alice, ""); err != nil {
		t.Error(err)
	}
	w.gate.Remove(v.tuple(4, "ssh"))
	w.want(v.syn(6, "db"), ReasonGrant)
	v.enters(6, "db", alice)
}

// A known client at a service that it may not use is recognised, by the methods
// that can tell, and gets no grant and no answer.
func TestKnockNamesForbiddenClient(t *testing.T) {
	for _, method := range []string{"udp", "udp-seq", "udp-v2", "tcp-syn"} {
		// Two services of one port: bob may use the one at 10.77.1.0/24 alone.
		w := newHarness(t, every(having(members([]*protocol.Client{alice})...), func(o *policy.Options) {
			for _, s := range o.Services {
				if s.Name == "ssh4" {
					s.Name, s.Listen, s.Clients = "other", netip.MustParsePrefix("10.77.1.0/24"), members([]*protocol.Client{bob})
					o.Services = append(o.Services, s)
					break
				}
			}
		}))
		v := w.at("192.0.2.1")
		if got := v.tries(method, bob, "ssh"); got != knock.Forbidden {
			t.Errorf("%s: %v", method, got)
			continue
		}
		if e := w.events[len(w.events)-1]; e.Client != "bob" || e.Service != "ssh4" {
			t.Errorf("%s: %+v", method, e)
		}
		v.wantGrants(0)
		w.want(v.syn(40000, "ssh"), ReasonNoGrant)
		w.empty()
	}
}

func TestKnockNamesExpiredClient(t *testing.T) {
	for _, method := range []string{"udp", "udp-v2"} {
		w := newHarness(t, every(having(&policy.Client{ID: "alice", Keys: []policy.Key{{Identity: alice}}, Expires: newTestClocks().wall})))
		v := w.at("192.0.2.1")
		if got := v.tries(method, alice, "ssh"); got != knock.OutsideSchedule || w.events[len(w.events)-1].Client != "alice" {
			t.Errorf("%s: %v", method, got)
		}
		v.wantGrants(0)
	}
}
