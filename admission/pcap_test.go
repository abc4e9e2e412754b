package admission

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// captured is a packet from the IP header on, and the time of its capture.
type captured struct {
	at time.Time
	b  []byte
}

// readCapture reads testdata/client.pcap: the packets of a libknock client, one
// knock by each method, then two connections.
func readCapture(t *testing.T) []captured {
	t.Helper()
	var all []captured
	for _, p := range packettest.ReadCapture(t, "testdata/client.pcap") {
		all = append(all, captured{p.Time, p.Data})
	}
	return all
}

// to returns the packet addressed to a protected address, with correct
// checksums: the capture was made where the kernel leaves them to the hardware.
func (c *captured) to(dst netip.Addr) []byte {
	b := slices.Clone(c.b)
	a := dst.As4()
	copy(b[16:], a[:])
	packettest.Checksums(b)
	return b
}

func TestGateAcceptsCapturedLibknockClient(t *testing.T) {
	client, err := protocol.NewClient("client-001", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	packets := readCapture(t)
	gateway := netip.MustParseAddr("10.77.0.1")
	service := policy.Service{
		Name: "captured", Listen: netip.MustParsePrefix("10.77.0.0/24"), Port: 8443, Mode: policy.ModeKnockAuth, Methods: allFamilies,
		GrantTTL: testTTL, GrantUses: 1, AuthDeadline: testDeadline, Clients: append(manyClients(50), policy.NewClient(client)),
	}
	policy, err := policy.New(policy.Options{KnockPort: testKnockPort, Window: testWindow, Services: []policy.Service{service}})
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(o *Options) { o.Policy = policy })
	h.StepWall(packets[0].at.Sub(h.Now()))
	h.rotateTable()
	var admitted []packet.Tuple
	for i, c := range packets {
		h.Advance(c.at.Sub(h.Now()))
		h.rotateTable()
		b := c.to(gateway)
		p := parsed(b)
		v := h.admit(b)
		h.decide()
		switch syn := p.Proto == packet.TCP && p.Flags&packet.SYN != 0; {
		case p.Proto == packet.TCP && p.Flags&packet.RST != 0 && v.Action != Drop:
			t.Errorf("packet %d, a reset: %v", i, v.Reason)
		case syn && v.Reason == ReasonGrant:
			admitted = append(admitted, p.Tuple)
		case syn && v.Action != Hold, p.Proto == packet.UDP && v.Reason != ReasonKnock:
			t.Errorf("packet %d: %v", i, v.Reason)
		case p.Proto == packet.TCP && v.Action == Pass && !slices.Contains(admitted, p.Tuple):
			t.Errorf("packet %d: %v", i, v.Reason)
		}
		for _, other := range []string{"10.77.1.1", "10.76.0.1"} { // where nothing is protected
			if v := h.admit(c.to(netip.MustParseAddr(other))); v.Action != Drop {
				t.Errorf("packet %d to %s: %v", i, other, v.Reason)
			}
		}
	}
	var methods []string
	for _, e := range h.events {
		switch e.Result {
		case knock.OK:
			methods = append(methods, e.Method)
			if e.Client != "client-001" || e.Skew.Abs() > time.Second || e.Source.String() != "10.0.1.2" {
				t.Errorf("%+v", e)
			}
		case knock.Incomplete:
		default:
			t.Errorf("%+v", e)
		}
	}
	want := []string{
		protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPPassive, protocol.MethodUDPPassiveSeq,
		protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq,
	}
	if !slices.Equal(methods, want) {
		t.Errorf("knocks %v, want %v", methods, want)
	}
	if len(admitted) != 2 {
		t.Errorf("%d connections", len(admitted))
	}
	// Replay all of it: what still opens a service is a replay.
	h.events = nil
	for _, c := range packets {
		h.admit(c.to(gateway))
		h.decide()
	}
	for _, e := range h.events {
		if e.Result == knock.OK && e.Method != protocol.MethodTCPSYN { // whose sender may repeat it eight times
			t.Errorf("again: %+v", e)
		}
	}
}
