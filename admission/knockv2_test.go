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
	everywhere(func(addr string) {
		for off := int64(-3); off <= 3; off++ {
			w := newHarness(t, every(taking(policy.MethodUDPv2)))
			v := w.at(addr)
			b := v.v2At(alice, "ssh", testGateway, off)
			if off < -1 || off > 1 {
				w.want(b, ReasonNotKnock)
				w.empty()
				continue
			}
			if got := w.result(b); got != knock.OK {
				t.Fatalf("slot %+d: %v", off, got)
			}
			if e := w.events[0]; e.Client != "alice" || e.Service != "ssh"+family(v) || e.Method != protocol.MethodUDPv2 {
				t.Errorf("%+v", e)
			}
			w.want(v.syn(40000, "ssh"), ReasonGrant)
			v.enters(40000, "ssh", alice)
		}
	})
}

func TestKnockV2IsForOneGatewayAndService(t *testing.T) {
	w := newHarness(t, every(taking(policy.MethodUDPv2)))
	v := w.at("192.0.2.1")
	w.want(v.v2At(alice, "ssh", "gw.example.org", 0), ReasonNotKnock)
	w.want(v.v2At(alice, "ssh", "", 0), ReasonNotKnock)
	w.want(v.v2(carol, "ssh"), ReasonNotKnock)
	w.want(v.v2(alice, "web"), ReasonNotKnock)
	w.empty()
	w.result(v.v2(alice, "ssh"))
	v.wantGrants(1)
	w.want(v.syn(1, "db"), ReasonNoGrant)
	w.want(v.spoofed(1).syn(1, "ssh"), ReasonNoGrant)
	if e := v.authenticatesAt(1, "ssh", bob); e == nil {
		t.Error("it opened the door to another client")
	}
}

// authenticatesAt has c authenticate on a new connection of v.
func (v testPeer) authenticatesAt(port uint16, service string, c *protocol.Client) error {
	v.w.Helper()
	v.w.want(v.syn(port, service), ReasonGrant)
	v.handshakes(port, service)
	return v.authenticates(port, service, c, "")
}

func TestKnockV2BindingsHold(t *testing.T) {
	everywhere(func(addr string) {
		w := newHarness(t, every())
		v := w.at(addr)
		bind := func(to netip.Addr) func(*protocol.KnockV2Message) {
			return func(m *protocol.KnockV2Message) { m.Source = to }
		}
		if got := w.result(v.v2(alice, "db", bind(v.addr.Next()))); got != knock.WrongSource {
			t.Errorf("bound to another address: %v", got)
		}
		original := v.v2(alice, "db", bind(v.addr))
		thief := v.spoofed(1)
		if got := w.result(thief.from(original)); got != knock.WrongSource {
			t.Errorf("a copy from elsewhere: %v", got)
		}
		// The copy has not spent it.
		if got := w.result(original); got != knock.OK {
			t.Errorf("the original: %v", got)
		}
		if got := w.result(original); got != knock.Replayed {
			t.Errorf("the original again: %v", got)
		}
		thief.wantGrants(0)
		v.wantGrants(1)
		if v.addr.Is4() {
			mapped := netip.AddrFrom16(v.addr.As16())
			if got := w.result(v.v2(alice, "db", bind(mapped))); got != knock.OK {
				t.Errorf("bound to the address in its mapped form: %v", got)
			}
		}
	})
}

func TestGrantBoundToPort(t *testing.T) {
	everywhere(func(addr string) {
		for _, service := range []string{"db", "ssh", "vpn"} {
			w := newHarness(t, every(), banning)
			v := w.at(addr) // and every host behind that NAT
			bound := v.v2(alice, service, func(m *protocol.KnockV2Message) { m.SourcePort = 40000 })
			w.want(bound, ReasonKnock)
			w.want(v.syn(40000, "db"), ReasonDeferred)
			w.decide()
			w.delivered = nil
			if service == "vpn" {
				// It answers any host, but authenticates no other client on
				// that grant.
				w.want(v.syn(41000, service), ReasonOpen)
				v.handshakes(41000, service)
				if err := v.authenticates(41000, service, alice, ""); err == nil {
					t.Error("another port authenticated on a bound grant")
				}
				w.want(v.syn(40000, service), ReasonOpen)
			} else {
				for port := uint16(39990); port < 40010; port++ {
					if port != 40000 {
						w.want(v.syn(port, service), ReasonNoGrant)
					}
				}
				// With a knock that waits, it waits; and is dropped when that
				// was junk.
				w.want(v.junk(), ReasonKnock)
				w.want(v.syn(41000, service), ReasonDeferred)
				w.decide()
				if service != "db" && len(w.delivered) != 0 {
					t.Error("the neighbour is in")
				}
				if got := w.admit(v.syn(40000, service)); got.Action != Pass {
					t.Errorf("the port itself: %v", got.Reason)
				}
			}
			v.enters(40000, service, alice)
		}
	})
}

func TestKnockV2SeveralPerSlot(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	var sent [][]byte
	for port := uint16(1); port <= 6; port++ {
		b := v.v2(alice, "ssh", func(m *protocol.KnockV2Message) { m.SourcePort = port; m.SessionID[0] = byte(port) })
		sent = append(sent, b)
		w.want(b, ReasonKnock)
		w.want(v.syn(port, "ssh"), ReasonDeferred)
	}
	w.decide()
	v.wantGrants(6)
	if len(w.delivered) != 6 {
		t.Fatalf("%d delivered", len(w.delivered))
	}
	for port := uint16(1); port <= 6; port++ {
		v.handshakes(port, "ssh")
		session := [16]byte{byte(port%6 + 1)}
		if err := v.authenticates(port, "ssh", alice, string(session[:])); err == nil {
			t.Error("with the session of another knock")
		}
		session[0] = byte(port)
		if err := v.authenticates(port, "ssh", alice, string(session[:])); err != nil {
			t.Error(err)
		}
	}
	for _, b := range sent {
		if got := w.result(b); got != knock.Replayed {
			t.Errorf("again: %v", got)
		}
	}
}

func TestKnockV2OutsideWindowIsStale(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	for off, want := range map[time.Duration]knock.Result{
		testWindow: knock.OK, -testWindow: knock.OK,
		testWindow + time.Millisecond: knock.Stale, -testWindow - time.Millisecond: knock.Stale,
	} {
		b := v.v2(alice, "db", func(m *protocol.KnockV2Message) { m.Time += off.Milliseconds() })
		if got := w.result(b); got != want {
			t.Errorf("%v off: %v, want %v", off, got, want)
		}
	}
}

func TestKnockV2RequiresSession(t *testing.T) {
	w := newHarness(t, every(func(o *policy.Options) {
		for i := range o.Services {
			o.Services[i].SessionRequired = true
		}
	}))
	v := w.at("192.0.2.1")
	if got := w.result(v.v2(alice, "ssh")); got != knock.NoSession {
		t.Error(got)
	}
	if got := w.result(v.v2(alice, "db")); got != knock.OK {
		t.Errorf("without authentication: %v", got)
	}
	if got := w.result(v.v2(alice, "ssh", func(m *protocol.KnockV2Message) { m.SessionID[3] = 1 })); got != knock.OK {
		t.Error(got)
	}
}

func TestKnockV2CopiedHintIsAnonymous(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	hint := v.v2(alice, "db")
	for at := 28 + 10; at < len(hint); at++ {
		b := slices.Clone(hint)
		b[at] ^= 1
		w.want(v.from(b), ReasonKnock)
		w.decide()
		if e := w.events[len(w.events)-1]; e.Result != knock.UnknownClient || e.Client != "" || e.Service != "" {
			t.Fatalf("byte %d changed: %+v", at, e)
		}
	}
	if got := w.result(hint); got != knock.OK {
		t.Errorf("the original: %v", got)
	}
}

func TestKnockV2CopiesBlockOnlyOriginal(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	v.knocks(bob, "many", "") // is known now
	hint, syn := v.v2(alice, "db"), v.synKnock(alice, "ssh", 0)
	w.result(syn)
	refused, junk := 0, slices.Clone(hint)
	junk[len(junk)-1] ^= 1
	for n := range 60_000 { // in no time
		b := junk
		if n%2 == 0 {
			b = syn
		}
		if got := w.gate.Admit(parsed(v.spoofed(n).from(b))); got.Reason == ReasonBudget {
			refused++
		} else if got.Reason != ReasonKnock {
			t.Fatal(got.Reason)
		}
		for w.worker.Step() {
		}
	}
	w.events = nil
	if opened := 60_000 - refused; opened > 2*testMatchedBurst {
		t.Errorf("%d copies were decided", opened)
	}
	for name, b := range map[string][]byte{
		"udp-v2 of another client":  v.v2(bob, "db"),
		"udp of a known source":     v.knock(alice, "db"),
		"udp of a new source":       v.spoofed(70_000).knock(alice, "db"),
		"tcp-syn of another client": v.synKnock(bob, "ssh", 0),
		"for another service":       v.v2(alice, "ssh"),
		"by another method":         v.synKnock(alice, "db", 0),
		"of the next slot":          v.v2At(alice, "db", testGateway, 1),
	} {
		if got := w.result(b); got != knock.OK {
			t.Errorf("%s: %v", name, got)
		}
	}
	for n := range 3 {
		w.result(v.synPart(bob, "db", 0, n))
	}
	if got := w.lastKnock(); got != knock.OK {
		t.Errorf("a sequence: %v", got)
	}
	// What was copied works again as soon as the flood is over.
	w.pass(time.Second)
	if got := w.result(hint); got != knock.OK {
		t.Errorf("the original: %v", got)
	}
}

func TestKnockVersionsShareAPort(t *testing.T) {
	w := newHarness(t, every())
	v := w.at("192.0.2.1")
	seen := 0
	for size := range 40 {
		m := v.message(string(make([]byte, 16)))
		m.ClientRandom = make([]byte, size)
		b := v.sealed(alice, "db", m)
		if len(v.payload(b)) == protocol.KnockV2Size {
			seen++
		}
		if got := w.result(b); got != knock.OK {
			t.Errorf("v1, %d bytes: %v", len(v.payload(b)), got)
		}
	}
	if seen != 1 {
		t.Errorf("%d knocks v1 had the size of a v2", seen)
	}
	if got := w.result(v.v2(alice, "db")); got != knock.OK {
		t.Errorf("v2: %v", got)
	}
	// Where v1 is off, nothing is searched.
	w = newHarness(t, every(taking(policy.MethodUDPv2)))
	v = w.at("192.0.2.1")
	w.want(v.knock(alice, "db"), ReasonNotKnock)
	w.want(v.udp(testKnockPort, make([]byte, protocol.KnockV2Size)), ReasonNotKnock)
	if w.tried() != 0 {
		t.Errorf("%d HMACs", w.tried())
	}
}

func TestTableSeparatesMethods(t *testing.T) {
	w := newHarness(t, every(legacy))
	v := w.at("192.0.2.1")
	hint := func(f protocol.SYNFields) []byte {
		b := make([]byte, protocol.KnockV2Size)
		binary.BigEndian.PutUint32(b, f.Seq)
		binary.BigEndian.PutUint32(b[4:], f.TSVal)
		binary.BigEndian.PutUint16(b[8:], f.Window)
		return b
	}
	s := protocol.NewScratch()
	part := alice.SYNPart(s, 5432, w.slot(expectPart), 0)
	for name, f := range map[string]protocol.SYNFields{
		"tcp-syn": v.synFields(alice, "db", 0), "tcp-syn-seq": part, "legacy": v.legacyFields(alice, "db", 0),
	} {
		if got := w.admit(v.udp(testKnockPort, hint(f))); got.Reason != ReasonNotKnock {
			t.Errorf("the fields of %s in a datagram: %v", name, got.Reason)
		}
	}
	h := alice.KnockV2Hint(s, testGateway, 5432, w.slot(expectV2))
	f := protocol.SYNFields{
		Seq: binary.BigEndian.Uint32(h[:]), TSVal: binary.BigEndian.Uint32(h[4:]), Window: binary.BigEndian.Uint16(h[8:]),
	}
	for _, to := range []netip.AddrPort{v.server("db"), v.server("vpn"), netip.AddrPortFrom(v.gateway(), 999)} {
		if got := w.admit(v.synAs(f, to)); got.Action == Hold {
			t.Errorf("a hint in a SYN to %v: %v", to, got.Reason)
		}
	}
	w.decide()
	if len(w.events) != 0 {
		t.Errorf("%+v", w.events)
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
