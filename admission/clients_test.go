package admission

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/internal/testclock"
	"github.com/knockgw/knockgw/protocol"
)

// methods maps each method to a function that returns its packets.
var methods = map[string]func(peer testPeer, c *protocol.Client, service string) [][]byte{
	"udp": func(peer testPeer, c *protocol.Client, service string) [][]byte {
		return [][]byte{peer.knock(c, service)}
	},
	"udp-seq": func(peer testPeer, c *protocol.Client, service string) (all [][]byte) {
		peer.h.ids++
		for i := range 3 {
			all = append(all, peer.udpPart(c, service, sessionID(int(peer.h.ids)), i, 3))
		}
		return all
	},
	"tcp-syn": func(peer testPeer, c *protocol.Client, service string) [][]byte {
		return [][]byte{peer.synKnock(c, service, 0)}
	},
	"tcp-syn-seq": func(peer testPeer, c *protocol.Client, service string) (all [][]byte) {
		for i := range 3 {
			all = append(all, peer.synPart(c, service, 0, i))
		}
		return all
	},
	"legacy": func(peer testPeer, c *protocol.Client, service string) (all [][]byte) {
		for i := range 3 {
			all = append(all, peer.legacyPart(c, service, 0, i))
		}
		return all
	},
	"udp-v2": func(peer testPeer, c *protocol.Client, service string) [][]byte {
		return [][]byte{peer.v2(c, service)}
	},
}

// tryMethod knocks by a method and returns the result.
func (peer testPeer) tryMethod(method string, c *protocol.Client, service string) knock.Result {
	peer.h.Helper()
	n := len(peer.h.events)
	for _, b := range methods[method](peer, c, service) {
		peer.h.admit(b)
		peer.h.decide()
	}
	if len(peer.h.events) == n {
		return knock.UnknownClient // nothing was queued: treated as any other packet
	}
	return peer.h.lastKnock()
}

func TestKnockGrantsOnlyOwnServices(t *testing.T) {
	for method := range methods {
		h := newHarness(t, allMethods(withLegacySequences, func(o *policy.Options) {
			for i := range o.Services {
				o.Services[i].Clients = policyClients([]*protocol.Client{alice})
				if o.Services[i].Port == 22 {
					o.Services[i].Clients = policyClients([]*protocol.Client{alice, bob})
				}
			}
		}))
		peer := h.peer("192.0.2.1")
		// Only the knocks that clients may send are precomputed: one for
		// another port is treated as junk.
		want := knock.UnknownClient
		if method == "udp" || method == "udp-seq" {
			want = knock.Forbidden
		}
		if got := peer.tryMethod(method, bob, "db"); got != want {
			t.Errorf("%s: %v", method, got)
		}
		h.wantEmpty()
		if got := peer.tryMethod(method, bob, "ssh"); got != knock.OK {
			t.Errorf("%s, for his own: %v", method, got)
		}
		if got := peer.tryMethod(method, alice, "db"); got != knock.OK {
			t.Errorf("%s, for hers: %v", method, got)
		}
	}
}

func TestKnockWithSeveralSecrets(t *testing.T) {
	for method := range methods {
		var until time.Time
		older, newer := alice, testSecret("alice", 2)
		h := newHarness(t, func(o *Options) {
			until = o.Now().Add(time.Hour)
			allMethods(withLegacySequences, withClients(&policy.Client{ID: "alice", Keys: []policy.Key{{Identity: older, Until: until}, {Identity: newer}}}))(o)
		})
		peer := h.peer("192.0.2.1")
		for _, id := range []*protocol.Client{older, newer} {
			if got := peer.tryMethod(method, id, "db"); got != knock.OK {
				t.Errorf("%s: %v", method, got)
			}
		}
		h.Advance(time.Hour - time.Millisecond)
		h.rotateTable()
		if got := peer.tryMethod(method, older, "db"); got != knock.OK {
			t.Errorf("%s, at the last moment: %v", method, got)
		}
		h.Advance(time.Millisecond)
		if got := peer.spoofed(1).tryMethod(method, older, "many"); got == knock.OK {
			t.Errorf("%s: the old secret works after its end", method)
		}
		if got := peer.spoofed(2).tryMethod(method, newer, "many"); got != knock.OK {
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
			h := newHarness(t, func(o *Options) {
				c := policy.NewClient(alice)
				change(c, o.Now())
				allMethods(withLegacySequences, withClients(c))(o)
			})
			peer := h.peer("192.0.2.1")
			if got := peer.tryMethod(method, alice, "db"); got != knock.OK {
				t.Errorf("%s, while it may: %v", method, got)
			}
			h.Advance(time.Minute)
			h.rotateTable()
			h.sweep()
			if got := peer.tryMethod(method, alice, "db"); got != knock.OutsideSchedule && got != knock.UnknownClient {
				t.Errorf("%s, %s: %v", method, name, got)
			}
			h.wantEmpty()
		}
	}
}

func TestAuthenticateRejectsOutsideSchedule(t *testing.T) {
	may := true
	c := policy.NewClient(alice)
	c.Hours = func(time.Time) bool { return may }
	h := newHarness(t, allMethods(withClients(c)))
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	for n, service := range []string{"ssh", "web"} {
		port := uint16(n + 1)
		h.admit(peer.syn(port, service))
		peer.mustHandshake(port, service)
		may = false
		if err := peer.authenticate(port, service, alice, ""); !errors.Is(err, ErrOutsideSchedule) {
			t.Errorf("%s: %v", service, err)
		}
		may = true
		if err := peer.authenticate(port, service, alice, ""); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	}
}

func TestGateLimitsGrantsPerClient(t *testing.T) {
	for method := range methods {
		c := policy.NewClient(alice)
		c.MaxGrants = 3
		h := newHarness(t, allMethods(withLegacySequences, withClients(c, policy.NewClient(bob))))
		peer := h.peer("192.0.2.1")
		for n, service := range []string{"ssh", "db", "many", "vpn"} {
			want := knock.OK
			if n == 3 {
				want = knock.LimitReached
			}
			if got := peer.spoofed(n).tryMethod(method, alice, service); got != want {
				t.Errorf("%s, no. %d: %v, want %v", method, n, got, want)
			}
		}
		if got := peer.tryMethod(method, bob, "db"); got != knock.OK {
			t.Errorf("%s, another client: %v", method, got)
		}
		// A spent grant and an expired one make room.
		h.want(peer.spoofed(1).syn(1, "db"), ReasonGrant)
		peer.spoofed(1).mustEnter(1, "db", alice)
		h.Advance(testWindow)
		h.rotateTable()
		h.sweep()
		if got := peer.tryMethod(method, alice, "db"); got != knock.OK {
			t.Errorf("%s, later: %v", method, got)
		}
	}
}

func TestGrantLimitIgnoresExpired(t *testing.T) {
	c := policy.NewClient(alice)
	c.MaxGrants = 1
	h := newHarness(t, allMethods(withClients(c, policy.NewClient(bob))))
	peer := h.peer("192.0.2.1")
	for n := range 5 { // a client that moves between networks
		if got := peer.spoofed(n).tryMethod("udp", alice, "db"); got != knock.OK {
			t.Fatalf("at address %d: %v", n, got)
		}
		if got := peer.tryMethod("udp-v2", alice, "db"); got != knock.LimitReached {
			t.Errorf("one too many: %v", got)
		}
		h.Advance(testTTL + testDeadline + time.Millisecond)
	}
	if n := h.gate.Stats().Grants; n != 1 {
		t.Errorf("%d grants", n)
	}
}

func TestGateLimitsFlowsPerClient(t *testing.T) {
	c := policy.NewClient(alice)
	c.MaxFlows = 2
	h := newHarness(t, allMethods(withClients(c, policy.NewClient(bob))))
	peer := h.peer("192.0.2.1")
	for n, service := range []string{"db", "ssh"} {
		peer := peer.spoofed(n)
		peer.mustKnock(alice, service, "")
		h.want(peer.syn(1, service), ReasonGrant)
		peer.mustEnter(1, service, alice)
	}
	peer.mustKnock(alice, "db", "")
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.syn(3, "db"), ReasonGrant)
	if err := h.gate.HandshakeDone(peer.tuple(3, "db")); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("mode knock: %v", err)
	}
	h.want(peer.syn(4, "ssh"), ReasonGrant)
	peer.mustHandshake(4, "ssh")
	if err := peer.authenticate(4, "ssh", alice, ""); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("mode knock-auth: %v", err)
	}
	h.want(peer.syn(5, "web"), ReasonOpen)
	peer.mustHandshake(5, "web")
	if err := peer.authenticate(5, "web", alice, ""); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("mode auth: %v", err)
	}
	if err := peer.authenticate(5, "web", bob, ""); err != nil {
		t.Errorf("another client: %v", err)
	}
	h.check()
	// The refused flows have spent nothing. A flow that ends makes room at
	// once, although the stack keeps it in TIME_WAIT.
	first := peer.spoofed(0).tuple(1, "db")
	h.closeStates[first] = EndpointTimeWait
	h.gate.RelayDone(first)
	if err := peer.authenticate(4, "ssh", alice, ""); err != nil {
		t.Error(err)
	}
	h.gate.Remove(peer.tuple(4, "ssh"))
	h.want(peer.syn(6, "db"), ReasonGrant)
	peer.mustEnter(6, "db", alice)
}

// A known client at a forbidden service is recognized, by the methods that can
// tell, and gets neither a grant nor an answer.
func TestKnockNamesForbiddenClient(t *testing.T) {
	for _, method := range []string{"udp", "udp-seq", "udp-v2", "tcp-syn"} {
		// Two services share a port: bob may use only the one at 10.77.1.0/24.
		h := newHarness(t, allMethods(withClients(policyClients([]*protocol.Client{alice})...), func(o *policy.Options) {
			for _, s := range o.Services {
				if s.Name == "ssh4" {
					s.Name, s.Listen, s.Clients = "other", netip.MustParsePrefix("10.77.1.0/24"), policyClients([]*protocol.Client{bob})
					o.Services = append(o.Services, s)
					break
				}
			}
		}))
		peer := h.peer("192.0.2.1")
		if got := peer.tryMethod(method, bob, "ssh"); got != knock.Forbidden {
			t.Errorf("%s: %v", method, got)
			continue
		}
		if e := h.events[len(h.events)-1]; e.Client != "bob" || e.Service != "ssh4" {
			t.Errorf("%s: %+v", method, e)
		}
		peer.wantGrants(0)
		h.want(peer.syn(40000, "ssh"), ReasonNoGrant)
		h.wantEmpty()
	}
}

func TestKnockNamesExpiredClient(t *testing.T) {
	for _, method := range []string{"udp", "udp-v2"} {
		h := newHarness(t, allMethods(withClients(&policy.Client{ID: "alice", Keys: []policy.Key{{Identity: alice}}, Expires: testclock.New().Now()})))
		peer := h.peer("192.0.2.1")
		if got := peer.tryMethod(method, alice, "ssh"); got != knock.OutsideSchedule || h.events[len(h.events)-1].Client != "alice" {
			t.Errorf("%s: %v", method, got)
		}
		peer.wantGrants(0)
	}
}
