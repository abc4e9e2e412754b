package protocol

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	testGateway = "gw.example.net"
	testSlot    = 59666666
)

func testKnockV2(t testing.TB, c *Client, m KnockV2Message) []byte {
	t.Helper()
	b, err := AppendKnockV2(nil, c, testGateway, testPort, testSlot, &m, testRandom())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsedKnockV2(t testing.TB, b []byte) KnockV2 {
	t.Helper()
	k, err := ParseKnockV2(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKnockV2Size(t *testing.T) {
	knock := testKnockV2(t, testClient(t, "a"), KnockV2Message{})
	for n := range 2 * KnockV2Size {
		_, err := ParseKnockV2(make([]byte, n))
		if want := map[bool]error{true: nil, false: ErrMalformed}[n == len(knock)]; err != want {
			t.Errorf("%d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestKnockV2RoundTrip(t *testing.T) {
	s := NewScratch()
	rapid.Check(t, func(t *rapid.T) {
		c, port, slot := drawClient(t), rapid.Uint16().Draw(t, "port"), rapid.Int64().Draw(t, "slot")
		gateway := string(rapid.SliceOfN(rapid.Byte(), 0, MaxGateway).Draw(t, "gateway"))
		m := KnockV2Message{
			Time:       rapid.Int64Min(0).Draw(t, "time"),
			SessionID:  [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "session")),
			SourcePort: rapid.Uint16().Draw(t, "source port"),
		}
		want := m
		if size := rapid.SampledFrom([]int{0, 4, 16}).Draw(t, "address size"); size != 0 {
			m.Source, _ = netip.AddrFromSlice(rapid.SliceOfN(rapid.ByteMin(1), size, size).Draw(t, "source"))
			want.Source = m.Source
			if m.Source.Is4() && rapid.Bool().Draw(t, "mapped") {
				m.Source = netip.AddrFrom16(m.Source.As16())
			}
		}
		raw, err := AppendKnockV2(nil, c, gateway, port, slot, &m, rand.Reader)
		if err != nil || len(raw) != KnockV2Size {
			t.Fatalf("%d bytes, %v", len(raw), err)
		}
		k, err := ParseKnockV2(raw)
		if err != nil || k.Hint() != c.KnockV2Hint(s, gateway, port, slot) {
			t.Fatalf("hint %x, %v", k.Hint(), err)
		}
		got, err := k.Open(s, c, gateway, port, slot)
		if err != nil || got != want {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func TestKnockV2DetectsFlippedBits(t *testing.T) {
	c, s := testClient(t, "a"), NewScratch()
	knock := testKnockV2(t, c, KnockV2Message{Time: 1})
	for i := range knock {
		for bit := range 8 {
			k := parsedKnockV2(t, altered(knock, i, knock[i]^1<<bit))
			if _, err := k.Open(s, c, testGateway, testPort, testSlot); err != ErrSealed {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
	}
}

// contextV2 is the context of a hint and a key.
type contextV2 struct {
	c       *Client
	gateway string
	port    uint16
	slot    int64
}

func TestKnockV2BindsContext(t *testing.T) {
	c, s := testClient(t, "a"), NewScratch()
	alias, err := NewClient("alias", c.secret) // the same secret under another id
	if err != nil {
		t.Fatal(err)
	}
	knock := testKnockV2(t, c, KnockV2Message{Time: 1})
	here := contextV2{c, testGateway, testPort, testSlot}
	hints := map[HintV2]string{here.c.KnockV2Hint(s, here.gateway, here.port, here.slot): "here"}
	for name, d := range map[string]contextV2{
		"another client":                {testClient(t, "b"), here.gateway, here.port, here.slot},
		"another id":                    {alias, here.gateway, here.port, here.slot},
		"another gateway":               {c, testGateway + ".", here.port, here.slot},
		"no gateway":                    {c, "", here.port, here.slot},
		"a gateway of the longest name": {c, strings.Repeat("g", MaxGateway), here.port, here.slot},
		"another port":                  {c, here.gateway, here.port + 1, here.slot},
		"the slot before":               {c, here.gateway, here.port, here.slot - 1},
		"the slot after":                {c, here.gateway, here.port, here.slot + 1},
	} {
		hint := d.c.KnockV2Hint(s, d.gateway, d.port, d.slot)
		if other, taken := hints[hint]; taken {
			t.Errorf("%s: has the hint of %s", name, other)
		}
		hints[hint] = name
		k := parsedKnockV2(t, knock)
		if _, err := k.Open(s, d.c, d.gateway, d.port, d.slot); err != ErrSealed {
			t.Errorf("%s: %v", name, err)
		}
		// With the hint put right it is still not that one's: the key is
		// another.
		forged := bytes.Clone(knock)
		copy(forged, hint[:])
		k = parsedKnockV2(t, forged)
		if _, err := k.Open(s, d.c, d.gateway, d.port, d.slot); err != ErrSealed {
			t.Errorf("%s, hint put right: %v", name, err)
		}
	}
}

// The boundary between a text and the next field must be unambiguous.
func TestKnockV2MACInputIsUnambiguous(t *testing.T) {
	s, secret := NewScratch(), []byte(strings.Repeat("k", 32))
	seen := map[HintV2]bool{}
	count := 0
	for split := 1; split < 12; split++ {
		text := "aaaaaaaaaaaaa"
		c, err := NewClient(text[:split], secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, gateway := range []string{text[split:], text[split:] + "\x61\x61", "\x00\x0a" + text[split:]} {
			for _, port := range []uint16{0x6161, 0x0061, 0x6100} {
				seen[c.KnockV2Hint(s, gateway, port, 0x6161616161616161)] = true
				count++
			}
		}
	}
	if len(seen) != count {
		t.Errorf("%d hints of %d contexts", len(seen), count)
	}
}

func TestKnockV2SharesOnlyHintPerSlot(t *testing.T) {
	c := testClient(t, "a")
	random, m := testRandom(), KnockV2Message{Time: 1}
	var knocks [][]byte
	for range 64 {
		b, err := AppendKnockV2(nil, c, testGateway, testPort, testSlot, &m, random)
		if err != nil {
			t.Fatal(err)
		}
		knocks = append(knocks, b)
	}
	for i := range KnockV2Size {
		values := map[byte]bool{}
		for _, b := range knocks {
			values[b[i]] = true
		}
		if shared := len(values) == 1; shared != (i < len(HintV2{})) {
			t.Errorf("byte %d has %d values in %d knocks", i, len(values), len(knocks))
		}
	}
}

func TestKnockV2ContentIsChecked(t *testing.T) {
	c := testClient(t, "a")
	for _, tc := range []struct {
		name    string
		gateway string
		m       KnockV2Message
		err     error
	}{
		{"time before 1970", "", KnockV2Message{Time: -1}, ErrContent},
		{"source 0.0.0.0", "", KnockV2Message{Source: netip.IPv4Unspecified()}, ErrContent},
		{"source ::", "", KnockV2Message{Source: netip.IPv6Unspecified()}, ErrContent},
		{"source ::ffff:0.0.0.0", "", KnockV2Message{Source: netip.MustParseAddr("::ffff:0.0.0.0")}, ErrContent},
		{"source with a zone", "", KnockV2Message{Source: netip.MustParseAddr("fe80::1%eth0")}, ErrContent},
		{"longest gateway", strings.Repeat("g", MaxGateway), KnockV2Message{}, nil},
		{"longer gateway", strings.Repeat("g", MaxGateway+1), KnockV2Message{}, ErrTooLong},
	} {
		b, err := AppendKnockV2([]byte("before"), c, tc.gateway, testPort, testSlot, &tc.m, rand.Reader)
		if err != tc.err || (err != nil && string(b) != "before") {
			t.Errorf("%s: %d bytes, %v; want %v", tc.name, len(b), err, tc.err)
		}
	}
	k := parsedKnockV2(t, testKnockV2(t, c, KnockV2Message{}))
	if _, err := k.Open(NewScratch(), c, strings.Repeat("g", MaxGateway+1), testPort, testSlot); err != ErrTooLong {
		t.Errorf("opened at a longer gateway: %v", err)
	}
	short := bytes.NewReader(make([]byte, KnockV2Nonce-1))
	if b, err := AppendKnockV2(nil, c, "", testPort, testSlot, &KnockV2Message{}, short); err != io.ErrUnexpectedEOF || b != nil {
		t.Errorf("too little randomness: %x, %v", b, err)
	}
}

// The same id in the key keeps this from happening on the wire; the parser does
// not rely on it.
func TestKnockV2CheckIsTag(t *testing.T) {
	var mine, other [knockV2Check]byte
	other[15] = 1
	plain := (&KnockV2Message{Time: 1}).append(nil, &other, testPort)
	if _, err := parseKnockV2Message(plain, &mine, testPort); err != ErrClientHash {
		t.Errorf("%v, want %v", err, ErrClientHash)
	}
	if _, err := parseKnockV2Message(plain, &other, testPort); err != nil {
		t.Error(err)
	}
}

func TestKnockV2AllowsBoundSourceOnly(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tc := range []struct {
		bound, from netip.Addr
		want        bool
	}{
		{netip.Addr{}, addr("192.0.2.7"), true},
		{netip.Addr{}, netip.Addr{}, true},
		{addr("192.0.2.7"), addr("192.0.2.7"), true},
		{addr("192.0.2.7"), addr("::ffff:192.0.2.7"), true},
		{addr("::ffff:192.0.2.7"), addr("192.0.2.7"), true},
		{addr("192.0.2.7"), addr("192.0.2.8"), false},
		{addr("192.0.2.7"), addr("::c000:207"), false},
		{addr("192.0.2.7"), netip.Addr{}, false},
		{addr("2001:db8::7"), addr("2001:db8::7"), true},
		{addr("2001:db8::7"), addr("2001:db8::8"), false},
		{addr("fe80::7"), addr("fe80::7%eth0"), true},
	} {
		m := KnockV2Message{Source: tc.bound}
		if got := m.AllowsSource(tc.from); got != tc.want {
			t.Errorf("bound to %v, from %v: %v", tc.bound, tc.from, got)
		}
	}
	for _, tc := range []struct {
		bound, from uint16
		want        bool
	}{{0, 0, true}, {0, 40000, true}, {40000, 40000, true}, {40000, 40001, false}, {65535, 65535, true}, {1, 0, false}} {
		m := KnockV2Message{SourcePort: tc.bound}
		if got := m.AllowsSourcePort(tc.from); got != tc.want {
			t.Errorf("bound to port %d, from %d: %v", tc.bound, tc.from, got)
		}
	}
	if m := (KnockV2Message{}); m.Session() != nil {
		t.Error("no session id is one")
	}
	if m := (KnockV2Message{SessionID: [16]byte{15: 1}}); len(m.Session()) != MinSessionID {
		t.Error("a session id is none")
	}
}

// On one port with knocks v1, what v1's header has at 24 to 27 lies within v2's
// nonce. Of random datagrams of v2's size one in 2^29 passes for a v1 knock;
// the lookup comes first and keeps even that from it.
func TestKnockV2IsRarelyWellFormedV1(t *testing.T) {
	c, random := testClient(t, "a"), testRandom()
	for range 2000 {
		b, err := AppendKnockV2(nil, c, testGateway, testPort, testSlot, &KnockV2Message{}, random)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseKnock(b); err != ErrMalformed {
			t.Fatalf("%x: %v", b, err)
		}
	}
	// And a v1 knock of that size is in no table of hints.
	m := KnockMessage{Method: MethodUDP, SessionID: make([]byte, MinSessionID), ClientRandom: make([]byte, 30)}
	v1, err := AppendKnock(nil, c, testPort, &m, random)
	if err != nil || len(v1) != KnockV2Size {
		t.Fatalf("%d bytes, %v", len(v1), err)
	}
	k, s := parsedKnockV2(t, v1), NewScratch()
	for _, slot := range []int64{testSlot - 1, testSlot, testSlot + 1} {
		if k.Hint() == c.KnockV2Hint(s, testGateway, testPort, slot) {
			t.Error("a v1 knock has a v2 hint")
		}
		if _, err := k.Open(s, c, testGateway, testPort, slot); err != ErrSealed {
			t.Error(err)
		}
	}
}

func TestMethodUDPv2(t *testing.T) {
	if method, err := ParseMethod("udp-v2"); method != MethodUDPv2 || err != nil || MethodFamily(method) != MethodUDPv2 {
		t.Errorf("%q, %v", method, err)
	}
}

func TestKnockV2RefusalDoesNotAllocate(t *testing.T) {
	owner, other, s := testClient(t, "a"), testClient(t, "b"), NewScratch()
	knock := testKnockV2(t, owner, KnockV2Message{Time: 1})
	table := map[HintV2]*Client{other.KnockV2Hint(s, testGateway, testPort, testSlot): other}
	forged := altered(knock, KnockV2Size-1, knock[KnockV2Size-1]^1)
	gateway := strings.Repeat("g", MaxGateway) // outgrows a new Scratch, once
	for _, c := range []struct {
		name string
		want float64
		run  func() bool
	}{
		{"another size", 0, func() bool { _, err := ParseKnockV2(knock[1:]); return err == ErrMalformed }},
		{"a hint in no table", 0, func() bool { k, _ := ParseKnockV2(knock); return table[k.Hint()] == nil }},
		{"hint", 0, func() bool {
			return owner.KnockV2Hint(s, gateway, testPort, testSlot) != owner.KnockV2Hint(s, "", testPort, testSlot)
		}},
		{"looked up wrongly", 0, func() bool {
			k, _ := ParseKnockV2(knock)
			_, err := k.Open(s, other, testGateway, testPort, testSlot)
			return err == ErrSealed
		}},
		{"a hint that was overheard", openAllocs, func() bool {
			k, _ := ParseKnockV2(forged)
			_, err := k.Open(s, owner, testGateway, testPort, testSlot)
			return err == ErrSealed
		}},
		{"opening", openAllocs, func() bool {
			k, _ := ParseKnockV2(knock)
			_, err := k.Open(s, owner, testGateway, testPort, testSlot)
			return err == nil
		}},
	} {
		if !c.run() {
			t.Errorf("%s: not as expected", c.name)
		}
		if got := testing.AllocsPerRun(100, func() { c.run() }); got > c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}
