package admission

import (
	"errors"
	"slices"
	"testing"

	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func ok() error { return nil }

// handshakes completes the TCP handshake of a flow.
func (v testPeer) handshakes(port uint16, service string) {
	v.w.Helper()
	v.shakes(port, service)
	if err := v.w.gate.HandshakeDone(v.tuple(port, service)); err != nil {
		v.w.Fatalf("Complete: %v", err)
	}
	v.w.check()
}

func (v testPeer) authenticates(port uint16, service string, c *protocol.Client, session string) error {
	v.w.Helper()
	err := v.w.gate.Authenticate(v.tuple(port, service), c, session, ok)
	v.w.check()
	return err
}

func TestGrantExpires(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.pass(testTTL)
	w.want(v.syn(40000, "db"), ReasonGrant)
	w.pass(1)
	w.sweep()
	w.want(v.syn(40001, "db"), ReasonNoGrant)
	w.want(v.syn(40000, "db"), ReasonFlow) // a retransmission
}

func TestGrantLimitsUses(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "many", "")
	for port := range uint16(3) {
		w.want(v.syn(40000+port, "many"), ReasonGrant)
		v.enters(40000+port, "many", alice)
	}
	w.want(v.syn(40003, "many"), ReasonNoGrant)
}

func TestGrantSurvivesSpoofedSYN(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	for port := range uint16(100) {
		w.want(v.syn(1000+port, "db"), ReasonGrant) // another host that forges our address
	}
	w.want(v.syn(40000, "db"), ReasonGrant)
	v.enters(40000, "db", alice)
	w.want(v.syn(40001, "db"), ReasonNoGrant)
}

func TestGrantGoesToFirstEstablished(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "db"), ReasonGrant)
	w.want(v.syn(40001, "db"), ReasonGrant)
	v.handshakes(40001, "db")
	if err := w.gate.HandshakeDone(v.tuple(40000, "db")); !errors.Is(err, ErrNoGrant) {
		t.Fatalf("the second: %v", err)
	}
	w.check()
	// It is still admitted, so that its client hears the reset.
	if !w.egress(v.reply(40000, "db", 0x14, 1, 1001, "")) {
		t.Error("the reset is kept back")
	}
	w.gate.Remove(v.tuple(40000, "db"))
	w.check()
}

func TestGrantsOfOneClientCoexist(t *testing.T) {
	for _, service := range []string{"db", "ssh"} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		for i := range 6 {
			v.knocks(alice, service, sessionID(i))
		}
		for port := range uint16(6) {
			w.want(v.syn(40000+port, service), ReasonGrant)
		}
		for i := range 6 {
			port := 40000 + uint16((i+3)%6) // the streams need not come in the order of the knocks
			v.handshakes(port, service)
			if service == "ssh" {
				if err := v.authenticates(port, service, alice, sessionID(i)); err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
			}
		}
		w.want(v.syn(40010, service), ReasonNoGrant)
		w.sweep()
		if n := w.gate.Stats().Grants; n != 0 {
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
			w := newHarness(t)
			v := w.at("192.0.2.1")
			v.knocks(alice, "ssh", c.knocked)
			w.want(v.syn(40000, "ssh"), ReasonGrant)
			v.handshakes(40000, "ssh")
			if err := v.authenticates(40000, "ssh", c.client, c.named); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want != nil {
				// A mismatch consumes nothing.
				if err := v.authenticates(40000, "ssh", alice, c.knocked); err != nil {
					t.Fatalf("the rightful one after it: %v", err)
				}
			}
		})
	}
}

func TestGrantWithSessionIsPreferred(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	for _, s := range []string{"", sessionID(1), ""} {
		v.knocks(alice, "ssh", s)
	}
	for i, session := range []string{sessionID(1), sessionID(2), sessionID(3)} {
		w.want(v.syn(40000+uint16(i), "ssh"), ReasonGrant)
		v.handshakes(40000+uint16(i), "ssh")
		if err := v.authenticates(40000+uint16(i), "ssh", alice, session); err != nil {
			t.Fatalf("session %d: %v", i+1, err)
		}
	}
}

func TestNeighborCannotTakeGrant(t *testing.T) {
	for _, service := range []string{"db", "ssh"} {
		w := newHarness(t)
		v := w.at("192.0.2.1") // both are behind it
		v.knocks(alice, service, "")
		for port := range uint16(ReservationsPerGrant) {
			w.want(v.syn(1000+port, service), ReasonGrant)
			if service == "ssh" {
				w.pass(1)
				v.handshakes(1000+port, service)
			}
		}
		w.want(v.syn(40000, service), ReasonGrant)
		w.tell()
		if len(w.evicted) != 0 {
			t.Fatalf("a SYN evicts %v", w.evicted)
		}
		v.enters(40000, service, alice)
		w.tell()
		if service == "ssh" { // the one that has been thinking for the longest
			if len(w.evicted) != 1 || w.evicted[0] != v.tuple(1000, service) {
				t.Fatalf("evicted: %v", w.evicted)
			}
			w.want(v.tcp(1000, service, 0x10, 1001, 1, ""), ReasonNoFlow)
			if w.egress(v.reply(1000, service, 0x11, 1, 1001, "")) {
				t.Error("an evicted flow is answered")
			}
		}
		// The door has closed behind us, for all who waited.
		w.want(v.syn(1100, service), ReasonNoGrant)
		for port := range uint16(ReservationsPerGrant) {
			if service == "ssh" {
				if err := v.authenticates(1000+port, service, alice, ""); err == nil {
					t.Error("a second authentication on a grant of one use")
				}
			} else if err := w.gate.HandshakeDone(v.tuple(1000+port, service)); err == nil {
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
			w := newHarness(t)
			v := w.at("192.0.2.1")
			v.knocks(alice, service, "")
			w.pass(testTTL)
			w.want(v.syn(40000, service), ReasonGrant)
			w.pass(testDeadline)
			if c.late {
				w.pass(1)
			}
			w.sweep()
			err := w.gate.HandshakeDone(v.tuple(40000, service))
			if service == "ssh" && err == nil {
				err = v.authenticates(40000, service, alice, "")
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s, late %v: %v, want %v", service, c.late, err, c.want)
			}
		}
	}
}

func TestGrantServesEarlierFlow(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	w.want(v.syn(40000, "vpn"), ReasonOpen)
	v.handshakes(40000, "vpn")
	if err := v.authenticates(40000, "vpn", alice, ""); !errors.Is(err, ErrNoGrant) {
		t.Fatalf("without knock: %v", err)
	}
	v.knocks(alice, "vpn", "")
	if err := v.authenticates(40000, "vpn", alice, ""); err != nil {
		t.Fatal(err)
	}
}

func TestGateClientOwnsUsedGrant(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "db"), ReasonGrant)
	w.want(v.syn(40001, "db"), ReasonGrant)
	v.handshakes(40000, "db")
	v.knocks(bob, "db", "")
	v.handshakes(40001, "db") // on bob's: alice's is used up
	for port, want := range map[uint16]string{40000: "alice", 40001: "bob"} {
		if got := w.clientOf(v.tuple(port, "db")); got != want {
			t.Errorf("port %d: %q, want %q", port, got, want)
		}
	}
	if got := w.clientOf(v.tuple(40002, "db")); got != "" {
		t.Errorf("a flow that is not there is of %q", got)
	}
}

// others are the further candidates of a flow.
func (w *harness) others(t packet.Tuple) []*protocol.Client {
	all, ok := w.gate.OtherCandidates(t)
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
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(bob, "ssh", "")
	v.knocks(bob, "ssh", "")
	v.knocks(alice, "db", "")
	w.want(v.syn(40000, "ssh"), ReasonGrant)
	w.want(v.syn(40000, "web"), ReasonOpen)
	w.want(v.syn(40000, "vpn"), ReasonOpen)
	for service, want := range map[string]string{"ssh": "bob ", "web": "alice bob ", "vpn": "alice bob ", "db": ""} {
		if got := names(w.gate.Candidates(v.tuple(40000, service))); got != want {
			t.Errorf("%s: %q, want %q", service, got, want)
		}
		if got := names(w.others(v.tuple(40000, service))); got != "" && got != "alice bob " || (got == "") != (want == "") {
			t.Errorf("%s: others are %q", service, got)
		}
	}
}

func TestCandidatesIncludePendingKnock(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1") // both are behind it
	v.knocks(alice, "ssh", "")
	w.want(v.knock(bob, "ssh"), ReasonKnock)
	w.want(v.syn(40000, "ssh"), ReasonGrant) // bob's, let in on alice's grant
	v.handshakes(40000, "ssh")
	if got, others := names(w.gate.Candidates(v.tuple(40000, "ssh"))), names(w.others(v.tuple(40000, "ssh"))); got != "alice " || others != "alice bob " {
		t.Errorf("candidates: %q, and %q", got, others)
	}
	w.decide()
	if err := v.authenticates(40000, "ssh", bob, ""); err != nil {
		t.Error(err)
	}
}

func TestGrantIsRemovedAfterLastUse(t *testing.T) {
	for _, service := range []string{"db", "ssh", "vpn"} {
		w := newHarness(t, func(o *Options) { o.Limits.Grants = 2 })
		v := w.at("192.0.2.1")
		for range 10 { // never a sweep
			v.knocks(alice, service, "")
			w.admit(v.syn(40000, service))
			v.enters(40000, service, alice)
			w.gate.Remove(v.tuple(40000, service))
		}
		w.empty()
	}
}

func TestSweepForgetsUntakenFlow(t *testing.T) {
	for _, service := range []string{"db", "ssh", "web", "vpn"} {
		w := newHarness(t)
		v := w.at("192.0.2.1")
		if service == "db" || service == "ssh" {
			v.knocks(alice, service, "")
		}
		if got := w.admit(v.syn(40000, service)); got.Action != Pass {
			t.Fatal(got)
		}
		w.pass(testTTL + testDeadline + 1)
		w.sweep()
		w.want(v.syn(40000, service), ReasonFlow) // its handshake may go on
		w.pass(halfOpenTime)
		w.sweep()
		w.want(v.tcp(40000, service, packet.ACK, 1001, 1, ""), ReasonNoFlow)
		if len(w.evicted) != 1 {
			t.Errorf("%s: evicted %v", service, w.evicted)
		}
		w.empty()
	}
}

func TestSweepForgetsManyGrants(t *testing.T) {
	w := newHarness(t)
	v := w.at("10.0.0.1")
	c := policy.NewClient(alice)
	c.MaxGrants = 5000
	w.gate.mu.Lock()
	for range c.MaxGrants {
		w.gate.sources.addGrant(w.gate.sources.get(packet.AddrFrom(v.addr)), &grant{key: alice, service: w.gate.services[0], uses: 1}, c, 0)
		v.addr = v.addr.Next()
	}
	w.gate.mu.Unlock()
	w.check()
	w.pass(testTTL + testDeadline + 1)
	w.gate.sweep()
	w.gate.sweep()
	w.empty()
}
