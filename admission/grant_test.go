package admission

import (
	"errors"
	"slices"
	"testing"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func succeed() error { return nil }

// mustHandshake completes the TCP handshake of a flow.
func (peer testPeer) mustHandshake(port uint16, service string) {
	peer.h.Helper()
	peer.completeHandshake(port, service)
	if err := peer.h.gate.HandshakeDone(peer.tuple(port, service)); err != nil {
		peer.h.Fatalf("Complete: %v", err)
	}
	peer.h.check()
}

func (peer testPeer) authenticate(port uint16, service string, c *protocol.Client, session string) error {
	peer.h.Helper()
	err := peer.h.gate.Authenticate(peer.tuple(port, service), c, session, succeed)
	peer.h.check()
	return err
}

func TestGrantExpires(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.Advance(testTTL)
	h.want(peer.syn(40000, "db"), ReasonGrant)
	h.Advance(1)
	h.sweep()
	h.want(peer.syn(40001, "db"), ReasonNoGrant)
	h.want(peer.syn(40000, "db"), ReasonFlow) // a retransmission
}

func TestGrantLimitsUses(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "many", "")
	for port := range uint16(3) {
		h.want(peer.syn(40000+port, "many"), ReasonGrant)
		peer.mustEnter(40000+port, "many", alice)
	}
	h.want(peer.syn(40003, "many"), ReasonNoGrant)
}

func TestGrantSurvivesSpoofedSYN(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	for port := range uint16(100) {
		h.want(peer.syn(1000+port, "db"), ReasonGrant) // another host that forges our address
	}
	h.want(peer.syn(40000, "db"), ReasonGrant)
	peer.mustEnter(40000, "db", alice)
	h.want(peer.syn(40001, "db"), ReasonNoGrant)
}

func TestGrantGoesToFirstEstablished(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "db"), ReasonGrant)
	h.want(peer.syn(40001, "db"), ReasonGrant)
	peer.mustHandshake(40001, "db")
	if err := h.gate.HandshakeDone(peer.tuple(40000, "db")); !errors.Is(err, ErrNoGrant) {
		t.Fatalf("the second: %v", err)
	}
	h.check()
	// It is still admitted, so that its client gets the reset.
	if !h.egress(peer.reply(40000, "db", 0x14, 1, 1001, "")) {
		t.Error("the reset is kept back")
	}
	h.gate.Remove(peer.tuple(40000, "db"))
	h.check()
}

func TestGrantsOfOneClientCoexist(t *testing.T) {
	for _, service := range []string{"db", "ssh"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		for i := range 6 {
			peer.mustKnock(alice, service, sessionID(i))
		}
		for port := range uint16(6) {
			h.want(peer.syn(40000+port, service), ReasonGrant)
		}
		for i := range 6 {
			port := 40000 + uint16((i+3)%6) // the streams need not come in the order of the knocks
			peer.mustHandshake(port, service)
			if service == "ssh" {
				if err := peer.authenticate(port, service, alice, sessionID(i)); err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
			}
		}
		h.want(peer.syn(40010, service), ReasonNoGrant)
		h.sweep()
		if n := h.gate.Stats().Grants; n != 0 {
			t.Errorf("%s: %d grants left", service, n)
		}
	}
}

func TestSessionBindsAuthentication(t *testing.T) {
	for _, c := range []struct {
		name           string
		knocked, named string
		client         *protocol.Client
		want           error
	}{
		{"the same", sessionID(1), sessionID(1), alice, nil},
		{"another", sessionID(1), sessionID(2), alice, ErrNoGrant},
		{"none, where the knock had one", sessionID(1), "", alice, ErrNoGrant},
		{"any, where the knock had none", "", sessionID(1), alice, nil},
		{"none on either side", "", "", alice, nil},
		{"the same, by another client", sessionID(1), sessionID(1), bob, ErrNoGrant},
		{"none, by another client", "", "", bob, ErrNoGrant},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			peer := h.peer("192.0.2.1")
			peer.mustKnock(alice, "ssh", c.knocked)
			h.want(peer.syn(40000, "ssh"), ReasonGrant)
			peer.mustHandshake(40000, "ssh")
			if err := peer.authenticate(40000, "ssh", c.client, c.named); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want != nil {
				// A mismatch consumes nothing.
				if err := peer.authenticate(40000, "ssh", alice, c.knocked); err != nil {
					t.Fatalf("the rightful one after it: %v", err)
				}
			}
		})
	}
}

func TestGrantWithSessionIsPreferred(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	for _, s := range []string{"", sessionID(1), ""} {
		peer.mustKnock(alice, "ssh", s)
	}
	for i, session := range []string{sessionID(1), sessionID(2), sessionID(3)} {
		h.want(peer.syn(40000+uint16(i), "ssh"), ReasonGrant)
		peer.mustHandshake(40000+uint16(i), "ssh")
		if err := peer.authenticate(40000+uint16(i), "ssh", alice, session); err != nil {
			t.Fatalf("session %d: %v", i+1, err)
		}
	}
}

func TestNeighborCannotTakeGrant(t *testing.T) {
	for _, service := range []string{"db", "ssh"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1") // both share this address
		peer.mustKnock(alice, service, "")
		for port := range uint16(ReservationsPerGrant) {
			h.want(peer.syn(1000+port, service), ReasonGrant)
			if service == "ssh" {
				h.Advance(1)
				peer.mustHandshake(1000+port, service)
			}
		}
		h.want(peer.syn(40000, service), ReasonGrant)
		h.notifyEvictions()
		if len(h.evicted) != 0 {
			t.Fatalf("a SYN evicts %v", h.evicted)
		}
		peer.mustEnter(40000, service, alice)
		h.notifyEvictions()
		if service == "ssh" { // the one that has been waiting longest
			if len(h.evicted) != 1 || h.evicted[0] != peer.tuple(1000, service) {
				t.Fatalf("evicted: %v", h.evicted)
			}
			h.want(peer.tcp(1000, service, 0x10, 1001, 1, ""), ReasonNoFlow)
			if h.egress(peer.reply(1000, service, 0x11, 1, 1001, "")) {
				t.Error("an evicted flow is answered")
			}
		}
		// The grant is spent, for all who waited.
		h.want(peer.syn(1100, service), ReasonNoGrant)
		for port := range uint16(ReservationsPerGrant) {
			if service == "ssh" {
				if err := peer.authenticate(1000+port, service, alice, ""); err == nil {
					t.Error("a second authentication on a grant of one use")
				}
			} else if err := h.gate.HandshakeDone(peer.tuple(1000+port, service)); err == nil {
				t.Error("a second flow on a grant of one use")
			}
		}
	}
}

func TestReservationExpires(t *testing.T) {
	for _, c := range []struct {
		late bool
		want error
	}{{false, nil}, {true, ErrNoGrant}} {
		for _, service := range []string{"db", "ssh"} {
			h := newHarness(t)
			peer := h.peer("192.0.2.1")
			peer.mustKnock(alice, service, "")
			h.Advance(testTTL)
			h.want(peer.syn(40000, service), ReasonGrant)
			h.Advance(testDeadline)
			if c.late {
				h.Advance(1)
			}
			h.sweep()
			err := h.gate.HandshakeDone(peer.tuple(40000, service))
			if service == "ssh" && err == nil {
				err = peer.authenticate(40000, service, alice, "")
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s, late %v: %v, want %v", service, c.late, err, c.want)
			}
		}
	}
}

func TestGrantServesEarlierFlow(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	h.want(peer.syn(40000, "vpn"), ReasonOpen)
	peer.mustHandshake(40000, "vpn")
	if err := peer.authenticate(40000, "vpn", alice, ""); !errors.Is(err, ErrNoGrant) {
		t.Fatalf("without knock: %v", err)
	}
	peer.mustKnock(alice, "vpn", "")
	if err := peer.authenticate(40000, "vpn", alice, ""); err != nil {
		t.Fatal(err)
	}
}

func TestGateClientOwnsUsedGrant(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "db"), ReasonGrant)
	h.want(peer.syn(40001, "db"), ReasonGrant)
	peer.mustHandshake(40000, "db")
	peer.mustKnock(bob, "db", "")
	peer.mustHandshake(40001, "db") // on bob's: alice's is used up
	for port, want := range map[uint16]string{40000: "alice", 40001: "bob"} {
		if got := h.clientID(peer.tuple(port, "db")); got != want {
			t.Errorf("port %d: %q, want %q", port, got, want)
		}
	}
	if got := h.clientID(peer.tuple(40002, "db")); got != "" {
		t.Errorf("a flow that is not there is of %q", got)
	}
}

// candidates returns the further candidates of a flow.
func (h *harness) candidates(t packet.Tuple) []*protocol.Client {
	all, ok := h.gate.OtherCandidates(t)
	if !ok {
		return nil
	}
	return slices.Collect(all)
}

func names(clients []*protocol.Client) (s string) {
	for _, c := range clients {
		s += c.ID() + " "
	}
	return s
}

func TestCandidatesKnockedFromSource(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(bob, "ssh", "")
	peer.mustKnock(bob, "ssh", "")
	peer.mustKnock(alice, "db", "")
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
	h.want(peer.syn(40000, "web"), ReasonOpen)
	h.want(peer.syn(40000, "vpn"), ReasonOpen)
	for service, want := range map[string]string{"ssh": "bob ", "web": "alice bob ", "vpn": "alice bob ", "db": ""} {
		if got := names(h.gate.Candidates(peer.tuple(40000, service))); got != want {
			t.Errorf("%s: %q, want %q", service, got, want)
		}
		if got := names(h.candidates(peer.tuple(40000, service))); got != "" && got != "alice bob " || (got == "") != (want == "") {
			t.Errorf("%s: others are %q", service, got)
		}
	}
}

func TestCandidatesIncludePendingKnock(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1") // both share this address
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.knock(bob, "ssh"), ReasonKnock)
	h.want(peer.syn(40000, "ssh"), ReasonGrant) // bob's, admitted on alice's grant
	peer.mustHandshake(40000, "ssh")
	if got, others := names(h.gate.Candidates(peer.tuple(40000, "ssh"))), names(h.candidates(peer.tuple(40000, "ssh"))); got != "alice " || others != "alice bob " {
		t.Errorf("candidates: %q, and %q", got, others)
	}
	h.decide()
	if err := peer.authenticate(40000, "ssh", bob, ""); err != nil {
		t.Error(err)
	}
}

func TestGrantIsRemovedAfterLastUse(t *testing.T) {
	for _, service := range []string{"db", "ssh", "vpn"} {
		h := newHarness(t, func(o *Options) { o.Limits.Grants = 2 })
		peer := h.peer("192.0.2.1")
		for range 10 { // never a sweep
			peer.mustKnock(alice, service, "")
			h.admit(peer.syn(40000, service))
			peer.mustEnter(40000, service, alice)
			h.gate.Remove(peer.tuple(40000, service))
		}
		h.wantEmpty()
	}
}

func TestSweepForgetsUntakenFlow(t *testing.T) {
	for _, service := range []string{"db", "ssh", "web", "vpn"} {
		h := newHarness(t)
		peer := h.peer("192.0.2.1")
		if service == "db" || service == "ssh" {
			peer.mustKnock(alice, service, "")
		}
		if got := h.admit(peer.syn(40000, service)); got.Action != Pass {
			t.Fatal(got)
		}
		h.Advance(testTTL + testDeadline + 1)
		h.sweep()
		h.want(peer.syn(40000, service), ReasonFlow) // its handshake may go on
		h.Advance(halfOpenTime)
		h.sweep()
		h.want(peer.tcp(40000, service, packet.ACK, 1001, 1, ""), ReasonNoFlow)
		if len(h.evicted) != 1 {
			t.Errorf("%s: evicted %v", service, h.evicted)
		}
		h.wantEmpty()
	}
}

func TestSweepForgetsManyGrants(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("10.0.0.1")
	c := policy.NewClient(alice)
	c.MaxGrants = 5000
	h.gate.mu.Lock()
	for range c.MaxGrants {
		h.gate.sources.addGrant(h.gate.sources.get(packet.AddrFrom(peer.addr)), &grant{key: alice, service: h.gate.services[0], uses: 1}, c, 0)
		peer.addr = peer.addr.Next()
	}
	h.gate.mu.Unlock()
	h.check()
	h.Advance(testTTL + testDeadline + 1)
	h.gate.sweep()
	h.gate.sweep()
	h.wantEmpty()
}
