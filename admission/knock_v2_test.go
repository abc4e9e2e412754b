package admission

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/protocol"
)

func TestKnockV2AcceptedSlots(t *testing.T) {
	forEachFamily(func(addr string) {
		for off := int64(-3); off <= 3; off++ {
			h := newHarness(t, allMethods(withMethods(policy.MethodUDPv2)))
			peer := h.peer(addr)
			b := peer.v2At(alice, "ssh", testGateway, off)
			if off < -1 || off > 1 {
				h.want(b, ReasonNotKnock)
				h.wantEmpty()
				continue
			}
			if got := h.knockResult(b); got != knock.OK {
				t.Fatalf("slot %+d: %v", off, got)
			}
			if e := h.events[0]; e.Client != "alice" || e.Service != "ssh"+addressFamily(peer) || e.Method != protocol.MethodUDPv2 {
				t.Errorf("%+v", e)
			}
			h.want(peer.syn(40000, "ssh"), ReasonGrant)
			peer.mustEnter(40000, "ssh", alice)
		}
	})
}

func TestKnockV2IsForOneGatewayAndService(t *testing.T) {
	h := newHarness(t, allMethods(withMethods(policy.MethodUDPv2)))
	peer := h.peer("192.0.2.1")
	h.want(peer.v2At(alice, "ssh", "gw.example.org", 0), ReasonNotKnock)
	h.want(peer.v2At(alice, "ssh", "", 0), ReasonNotKnock)
	h.want(peer.v2(carol, "ssh"), ReasonNotKnock)
	h.want(peer.v2(alice, "web"), ReasonNotKnock)
	h.wantEmpty()
	h.knockResult(peer.v2(alice, "ssh"))
	peer.wantGrants(1)
	h.want(peer.syn(1, "db"), ReasonNoGrant)
	h.want(peer.spoofed(1).syn(1, "ssh"), ReasonNoGrant)
	if e := peer.authenticateAt(1, "ssh", bob); e == nil {
		t.Error("it admitted another client")
	}
}

// authenticateAt authenticates c on a new connection of peer.
func (peer testPeer) authenticateAt(port uint16, service string, c *protocol.Client) error {
	peer.h.Helper()
	peer.h.want(peer.syn(port, service), ReasonGrant)
	peer.mustHandshake(port, service)
	return peer.authenticate(port, service, c, "")
}

func TestKnockV2BindingsHold(t *testing.T) {
	forEachFamily(func(addr string) {
		h := newHarness(t, allMethods())
		peer := h.peer(addr)
		bind := func(to netip.Addr) func(*protocol.KnockV2Message) {
			return func(m *protocol.KnockV2Message) { m.Source = to }
		}
		if got := h.knockResult(peer.v2(alice, "db", bind(peer.addr.Next()))); got != knock.WrongSource {
			t.Errorf("bound to another address: %v", got)
		}
		original := peer.v2(alice, "db", bind(peer.addr))
		thief := peer.spoofed(1)
		if got := h.knockResult(thief.readdress(original)); got != knock.WrongSource {
			t.Errorf("a copy from elsewhere: %v", got)
		}
		// The copy has not spent the grant.
		if got := h.knockResult(original); got != knock.OK {
			t.Errorf("the original: %v", got)
		}
		if got := h.knockResult(original); got != knock.Replayed {
			t.Errorf("the original again: %v", got)
		}
		thief.wantGrants(0)
		peer.wantGrants(1)
		if peer.addr.Is4() {
			mapped := netip.AddrFrom16(peer.addr.As16())
			if got := h.knockResult(peer.v2(alice, "db", bind(mapped))); got != knock.OK {
				t.Errorf("bound to the address in its mapped form: %v", got)
			}
		}
	})
}

func TestGrantBoundToPort(t *testing.T) {
	forEachFamily(func(addr string) {
		for _, service := range []string{"db", "ssh", "vpn"} {
			h := newHarness(t, allMethods(), withBans)
			peer := h.peer(addr) // and every host behind that NAT
			bound := peer.v2(alice, service, func(m *protocol.KnockV2Message) { m.SourcePort = 40000 })
			h.want(bound, ReasonKnock)
			h.want(peer.syn(40000, "db"), ReasonDeferred)
			h.decide()
			h.delivered = nil
			if service == "vpn" {
				// It answers any host, but authenticates no other client on
				// that grant.
				h.want(peer.syn(41000, service), ReasonOpen)
				peer.mustHandshake(41000, service)
				if err := peer.authenticate(41000, service, alice, ""); err == nil {
					t.Error("another port authenticated on a bound grant")
				}
				h.want(peer.syn(40000, service), ReasonOpen)
			} else {
				for port := uint16(39990); port < 40010; port++ {
					if port != 40000 {
						h.want(peer.syn(port, service), ReasonNoGrant)
					}
				}
				// While a knock is queued the SYN is deferred; it is dropped if
				// that was junk.
				h.want(peer.junk(), ReasonKnock)
				h.want(peer.syn(41000, service), ReasonDeferred)
				h.decide()
				if service != "db" && len(h.delivered) != 0 {
					t.Error("the neighbor was admitted")
				}
				if got := h.admit(peer.syn(40000, service)); got.Action != Pass {
					t.Errorf("the port itself: %v", got.Reason)
				}
			}
			peer.mustEnter(40000, service, alice)
		}
	})
}

func TestKnockV2SeveralPerSlot(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	var sent [][]byte
	for port := uint16(1); port <= 6; port++ {
		b := peer.v2(alice, "ssh", func(m *protocol.KnockV2Message) { m.SourcePort = port; m.SessionID[0] = byte(port) })
		sent = append(sent, b)
		h.want(b, ReasonKnock)
		h.want(peer.syn(port, "ssh"), ReasonDeferred)
	}
	h.decide()
	peer.wantGrants(6)
	if len(h.delivered) != 6 {
		t.Fatalf("%d delivered", len(h.delivered))
	}
	for port := uint16(1); port <= 6; port++ {
		peer.mustHandshake(port, "ssh")
		session := [16]byte{byte(port%6 + 1)}
		if err := peer.authenticate(port, "ssh", alice, string(session[:])); err == nil {
			t.Error("with the session of another knock")
		}
		session[0] = byte(port)
		if err := peer.authenticate(port, "ssh", alice, string(session[:])); err != nil {
			t.Error(err)
		}
	}
	for _, b := range sent {
		if got := h.knockResult(b); got != knock.Replayed {
			t.Errorf("again: %v", got)
		}
	}
}

func TestKnockV2OutsideWindowIsStale(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	for off, want := range map[time.Duration]knock.Result{
		testWindow: knock.OK, -testWindow: knock.OK,
		testWindow + time.Millisecond: knock.Stale, -testWindow - time.Millisecond: knock.Stale,
	} {
		b := peer.v2(alice, "db", func(m *protocol.KnockV2Message) { m.Time += off.Milliseconds() })
		if got := h.knockResult(b); got != want {
			t.Errorf("%v off: %v, want %v", off, got, want)
		}
	}
}

func TestKnockV2RequiresSession(t *testing.T) {
	h := newHarness(t, allMethods(func(o *policy.Options) {
		for i := range o.Services {
			o.Services[i].SessionRequired = true
		}
	}))
	peer := h.peer("192.0.2.1")
	if got := h.knockResult(peer.v2(alice, "ssh")); got != knock.NoSession {
		t.Error(got)
	}
	if got := h.knockResult(peer.v2(alice, "db")); got != knock.OK {
		t.Errorf("without authentication: %v", got)
	}
	if got := h.knockResult(peer.v2(alice, "ssh", func(m *protocol.KnockV2Message) { m.SessionID[3] = 1 })); got != knock.OK {
		t.Error(got)
	}
}

func TestKnockV2CopiedHintIsAnonymous(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	hint := peer.v2(alice, "db")
	for at := 28 + 10; at < len(hint); at++ {
		b := slices.Clone(hint)
		b[at] ^= 1
		h.want(peer.readdress(b), ReasonKnock)
		h.decide()
		if e := h.events[len(h.events)-1]; e.Result != knock.UnknownClient || e.Client != "" || e.Service != "" {
			t.Fatalf("byte %d changed: %+v", at, e)
		}
	}
	if got := h.knockResult(hint); got != knock.OK {
		t.Errorf("the original: %v", got)
	}
}

func TestKnockV2CopiesBlockOnlyOriginal(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	peer.mustKnock(bob, "many", "") // is known now
	hint, syn := peer.v2(alice, "db"), peer.synKnock(alice, "ssh", 0)
	h.knockResult(syn)
	refused, junk := 0, slices.Clone(hint)
	junk[len(junk)-1] ^= 1
	for n := range 60_000 { // in no time
		b := junk
		if n%2 == 0 {
			b = syn
		}
		if got := h.gate.Admit(parsed(peer.spoofed(n).readdress(b))); got.Reason == ReasonBudget {
			refused++
		} else if got.Reason != ReasonKnock {
			t.Fatal(got.Reason)
		}
		for h.worker.Step() {
		}
	}
	h.events = nil
	if opened := 60_000 - refused; opened > 2*testMatchedBurst {
		t.Errorf("%d copies were decided", opened)
	}
	for name, b := range map[string][]byte{
		"udp-v2 of another client":  peer.v2(bob, "db"),
		"udp of a known source":     peer.knock(alice, "db"),
		"udp of a new source":       peer.spoofed(70_000).knock(alice, "db"),
		"tcp-syn of another client": peer.synKnock(bob, "ssh", 0),
		"for another service":       peer.v2(alice, "ssh"),
		"by another method":         peer.synKnock(alice, "db", 0),
		"of the next slot":          peer.v2At(alice, "db", testGateway, 1),
	} {
		if got := h.knockResult(b); got != knock.OK {
			t.Errorf("%s: %v", name, got)
		}
	}
	for n := range 3 {
		h.knockResult(peer.synPart(bob, "db", 0, n))
	}
	if got := h.lastKnock(); got != knock.OK {
		t.Errorf("a sequence: %v", got)
	}
	// The copied hint works again as soon as the flood is over.
	h.Advance(time.Second)
	if got := h.knockResult(hint); got != knock.OK {
		t.Errorf("the original: %v", got)
	}
}

func TestKnockVersionsShareAPort(t *testing.T) {
	h := newHarness(t, allMethods())
	peer := h.peer("192.0.2.1")
	seen := 0
	for size := range 40 {
		m := peer.message(string(make([]byte, 16)))
		m.ClientRandom = make([]byte, size)
		b := peer.sealKnock(alice, "db", m)
		if len(peer.payload(b)) == protocol.KnockV2Size {
			seen++
		}
		if got := h.knockResult(b); got != knock.OK {
			t.Errorf("v1, %d bytes: %v", len(peer.payload(b)), got)
		}
	}
	if seen != 1 {
		t.Errorf("%d knocks v1 had the size of a v2", seen)
	}
	if got := h.knockResult(peer.v2(alice, "db")); got != knock.OK {
		t.Errorf("v2: %v", got)
	}
	// Where v1 is disabled, the gate searches no client.
	h = newHarness(t, allMethods(withMethods(policy.MethodUDPv2)))
	peer = h.peer("192.0.2.1")
	h.want(peer.knock(alice, "db"), ReasonNotKnock)
	h.want(peer.udp(testKnockPort, make([]byte, protocol.KnockV2Size)), ReasonNotKnock)
	if h.tried() != 0 {
		t.Errorf("%d HMACs", h.tried())
	}
}

func TestTableSeparatesMethods(t *testing.T) {
	h := newHarness(t, allMethods(withLegacySequences))
	peer := h.peer("192.0.2.1")
	hint := func(f protocol.SYNFields) []byte {
		b := make([]byte, protocol.KnockV2Size)
		binary.BigEndian.PutUint32(b, f.Seq)
		binary.BigEndian.PutUint32(b[4:], f.TSVal)
		binary.BigEndian.PutUint16(b[8:], f.Window)
		return b
	}
	s := protocol.NewScratch()
	part := alice.SYNPart(s, 5432, h.slot(expectPart), 0)
	for name, f := range map[string]protocol.SYNFields{
		"tcp-syn": peer.synFields(alice, "db", 0), "tcp-syn-seq": part, "legacy": peer.legacyFields(alice, "db", 0),
	} {
		if got := h.admit(peer.udp(testKnockPort, hint(f))); got.Reason != ReasonNotKnock {
			t.Errorf("the fields of %s in a datagram: %v", name, got.Reason)
		}
	}
	synHint := alice.KnockV2Hint(s, testGateway, 5432, h.slot(expectV2))
	f := protocol.SYNFields{
		Seq: binary.BigEndian.Uint32(synHint[:]), TSVal: binary.BigEndian.Uint32(synHint[4:]), Window: binary.BigEndian.Uint16(synHint[8:]),
	}
	for _, to := range []netip.AddrPort{peer.server("db"), peer.server("vpn"), netip.AddrPortFrom(peer.gateway(), 999)} {
		if got := h.admit(peer.synAs(f, to)); got.Action == Hold {
			t.Errorf("a hint in a SYN to %v: %v", to, got.Reason)
		}
	}
	h.decide()
	if len(h.events) != 0 {
		t.Errorf("%+v", h.events)
	}
}

func TestPolicyRejectsLongGatewayIdentity(t *testing.T) {
	o := policy.Options{
		Window: time.Second, Gateway: string(make([]byte, protocol.MaxGateway+1)),
		Services: []policy.Service{{Name: "ssh", Listen: netip.MustParsePrefix("10.0.0.1/32"), Port: 22, Mode: policy.ModeKnock, Methods: policy.MethodUDP}},
	}
	if _, err := policy.New(o); err != nil {
		t.Errorf("where no service takes them: %v", err)
	}
	o.Services[0].Methods = policy.MethodUDPv2
	if _, err := policy.New(o); err == nil {
		t.Error("taken")
	}
}
