package interop

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/policy"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

// The captured client, and the service that it knocked for.
const (
	capturedID     = "client-001"
	capturedSecret = "0123456789abcdef0123456789abcdef"
	capturedPort   = 8443
)

// captured is a captured packet from its IP header on, and when it was seen.
type captured struct {
	at time.Time
	b  []byte
}

func readCapture(t *testing.T) (all []captured) {
	t.Helper()
	for _, p := range packettest.ReadCapture(t, "../../admission/testdata/client.pcap") {
		all = append(all, captured{p.Time, p.Data})
	}
	return all
}

// from is the packet as if it went from src to the protected address, with
// right checksums: the capture was made where the kernel leaves them to the
// hardware.
func (p *captured) from(src netip.Addr) []byte {
	b := slices.Clone(p.b)
	a := src.As4()
	copy(b[12:], a[:])
	a = protected.As4()
	copy(b[16:], a[:])
	packettest.Checksums(b)
	return b
}

// data is what a TCP segment carries; nil for other packets.
func (p *captured) data() []byte {
	const tcp = 6
	if p.b[9] != tcp {
		return nil
	}
	header := int(p.b[0]&15) * 4
	return p.b[header+int(p.b[header+12]>>4)*4 : binary.BigEndian.Uint16(p.b[2:])]
}

// capturedEndpoint is open to the captured client, by some methods, at the time
// of the first packet.
func capturedEndpoint(t *testing.T, first time.Time, methods policy.MethodSet) (*endpoint, *protocol.Client) {
	t.Helper()
	id, err := protocol.NewClient(capturedID, []byte(capturedSecret))
	if err != nil {
		t.Fatal(err)
	}
	return newEndpoint(t, first, policy.Service{
		Port: capturedPort, Mode: policy.ModeKnockAuth, SessionRequired: true, Methods: methods,
		Clients: []*policy.Client{policy.NewClient(id)},
	}, 0), id
}

// play shows the gate all packets, each at its time.
func (d *endpoint) play(packets []captured, src netip.Addr, each func(p *captured, v admission.Verdict, t packet.Tuple)) {
	for _, p := range packets {
		time.Sleep(p.at.Sub(d.now()))
		v, tuple := d.admit(p.from(src))
		if each != nil {
			each(&p, v, tuple)
		}
	}
}

// answerSYN shows the gate the SYN-ACK that the captured client has
// acknowledged: the capture has the client's packets alone.
func (d *endpoint) answerSYN(syn []byte, packets []captured) {
	const ports, sequence, acknowledgement = 20, 24, 28 // behind an IPv4 header without options
	field := func(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	for _, p := range packets {
		if p.b[9] != syn[9] || field(p.b, ports) != field(syn, ports) || field(p.b, acknowledgement) == 0 {
			continue
		}
		answer := packet.Packet{}
		answer.DecodeTCP(packettest.TCP{
			Src:   netip.AddrPortFrom(protected, capturedPort),
			Dst:   netip.AddrPortFrom(source, binary.BigEndian.Uint16(syn[ports:])),
			Flags: packet.SYN | packet.ACK, Seq: field(p.b, acknowledgement) - 1, Ack: field(syn, sequence) + 1, Window: 64240,
		}.Packet())
		if !d.Egress(&answer, 0) {
			d.t.Error("the SYN-ACK may not leave")
		}
		return
	}
	d.t.Error("the capture has no acknowledgement of the SYN-ACK")
}

// accepted are the methods of the knocks that opened the endpoint.
func (d *endpoint) accepted() (methods []string) {
	for _, e := range d.events {
		if e.Result == knock.OK {
			methods = append(methods, e.Method)
		}
	}
	return methods
}

func TestLibknockKnockMatchesOnlyItsMethod(t *testing.T) {
	packets := readCapture(t)
	for _, c := range []struct {
		name    string
		methods policy.MethodSet
		want    []string
	}{
		{"udp", policy.MethodUDP, []string{protocol.MethodUDP, protocol.MethodUDPPassive}},
		{"udp-seq", policy.MethodUDPSeq, []string{protocol.MethodUDPSeq, protocol.MethodUDPPassiveSeq}},
		{"tcp-syn", policy.MethodSYN, []string{protocol.MethodTCPSYN}},
		{"tcp-syn-seq", policy.MethodSYNSeq, []string{protocol.MethodTCPSYNSeq}},
		{"every method", everyKind, []string{
			protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPPassive, protocol.MethodUDPPassiveSeq,
			protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, _ := capturedEndpoint(t, packets[0].at, c.methods)
				d.play(packets, source, nil)
				if got := d.accepted(); !slices.Equal(got, c.want) {
					t.Errorf("took %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestLibknockClientAuthenticates(t *testing.T) {
	packets := readCapture(t)
	synctest.Test(t, func(t *testing.T) {
		d, id := capturedEndpoint(t, packets[0].at, everyKind)
		streams, completed := map[packet.Tuple][]byte{}, map[packet.Tuple]bool{}
		var order []packet.Tuple
		server := &auth.Server{
			Port: capturedPort, Proof: true, Now: d.now,
			Clients: func(yield func(*protocol.Client) bool) { yield(id) },
		}
		d.play(packets, source, func(p *captured, v admission.Verdict, tuple packet.Tuple) {
			b := p.data()
			switch {
			case v.Reason == admission.ReasonGrant:
				order = append(order, tuple)
				d.answerSYN(p.b, packets)
			case v.Reason == admission.ReasonFlow && !completed[tuple]: // the acknowledgement of the SYN-ACK
				completed[tuple] = true
				if err := d.HandshakeDone(tuple); err != nil {
					t.Errorf("complete: %v", err)
				}
			case len(b) > 0 && streams[tuple] == nil: // the authentication; the application's data follow
				streams[tuple] = b
				peer, err := authenticate(t, server, d.Gate, tuple, b)
				if err != nil || peer.Protocol != []auth.Protocol{auth.V1, auth.V2}[len(streams)-1] {
					t.Errorf("stream %d: %v, %v", len(streams), peer.Protocol, err)
				}
			case len(b) > 0 && v.Action != admission.Pass:
				t.Errorf("the application's data: %v", v.Reason)
			}
		})
		if len(order) != 2 || len(streams) != 2 {
			t.Fatalf("%d connections, %d authentications", len(order), len(streams))
		}

		// The same again, recorded and sent from another address.
		d.events = nil
		for _, p := range packets {
			if v, _ := d.admit(p.from(netip.MustParseAddr("10.0.1.9"))); v.Action == admission.Pass {
				t.Errorf("a recorded packet was let in: %v", v.Reason)
			}
		}
		if got := d.accepted(); got != nil {
			t.Errorf("recorded knocks were taken: %v", got)
		}
		// The authentications again, on a connection that would have a grant of
		// its own.
		for _, tuple := range order {
			if _, _, _, err := stream(t, server, streams[tuple], 0); !errors.Is(err, auth.ErrReplayed) {
				t.Errorf("a recorded authentication: %v", err)
			}
		}
	})
}

// authenticate runs the server's handshake on a stream and asks the gate for
// its grant, as a gateway does.
func authenticate(t *testing.T, s *auth.Server, g *admission.Gate, tuple packet.Tuple, b []byte) (auth.Peer, error) {
	t.Helper()
	peer, _, _, err := stream(t, s, b, 0)
	if err != nil {
		return peer, err
	}
	return peer, g.Authenticate(tuple, peer.Client, string(peer.Message.SessionID), func() error { return nil })
}
