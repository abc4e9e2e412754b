package client

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/protocol"
)

// The SYNs of the vectors and of a captured libknock client, compared with
// those of a Dialer. test/interop compares the rest.

// packets is a packetWriter that records whole packets.
type packets [][]byte

func (p *packets) WriteTo(b []byte, _ net.Addr) (int, error) {
	*p = append(*p, bytes.Clone(b))
	return len(b), nil
}

// sentSYNs returns the packets of one knock.
func sentSYNs(t *testing.T, d *Dialer, source netip.Addr, target netip.AddrPort) (sent packets) {
	t.Helper()
	s, err := d.synSequence(d.Method)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.sendSYNs(t.Context(), &sent, source, target, s); err != nil {
		t.Fatal(err)
	}
	return sent
}

// synSlot is the length of a slot in the vectors and in the capture.
const synSlot = 30 * time.Second

type synPart struct {
	DstPort uint16 `json:"dst_port"`
	Seq     uint32 `json:"seq"`
	Window  uint16 `json:"window"`
	TSVal   uint32 `json:"tsval"`
}

type synVector struct {
	ClientID string `json:"client_id"`
	Secret   string `json:"secret"`
	Port     uint16 `json:"port"`
	Slot     int64  `json:"slot"`
	synPart
	Parts []synPart `json:"parts"`
}

func TestKnockSYNVectors(t *testing.T) {
	raw, err := os.ReadFile("../protocol/testdata/wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		SYN    []synVector `json:"tcp_syn"`
		SYNSeq []synVector `json:"tcp_syn_seq"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.SYN) == 0 || len(all.SYNSeq) == 0 {
		t.Fatal("there are none")
	}
	for i, v := range all.SYN {
		v.DstPort = v.Port
		compareSYNs(t, i, protocol.MethodTCPSYN, v, []synPart{v.synPart})
	}
	for i, v := range all.SYNSeq {
		compareSYNs(t, i, protocol.MethodTCPSYNSeq, v, v.Parts)
	}
}

func compareSYNs(t *testing.T, i int, method string, v synVector, want []synPart) {
	t.Helper()
	secret, err := hex.DecodeString(v.Secret)
	if err != nil {
		t.Fatal(err)
	}
	id, err := protocol.NewClient(v.ClientID, secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(v.Slot*int64(synSlot/time.Second), 0)
	d := &Dialer{
		Identity: id, Method: method, Slot: synSlot, Now: func() time.Time { return now },
		Sequence: Sequence{Length: len(want), Gap: time.Microsecond, Slot: synSlot},
	}
	sent := sentSYNs(t, d, source4, netip.AddrPortFrom(target4.Addr(), v.Port))
	if len(sent) != len(want) {
		t.Fatalf("%s, %d: %d SYNs, want %d", method, i, len(sent), len(want))
	}
	for part, b := range sent {
		tcp := b[ipv4Header:]
		got := synPart{
			DstPort: binary.BigEndian.Uint16(tcp[2:]), Seq: binary.BigEndian.Uint32(tcp[4:]),
			Window: binary.BigEndian.Uint16(tcp[14:]), TSVal: binary.BigEndian.Uint32(tcp[24:]),
		}
		if got != want[part] {
			t.Errorf("%s, %d, part %d: %+v, want %+v", method, i, part, got, want[part])
		}
	}
}

func TestKnockSYNMatchesCapture(t *testing.T) {
	id, err := protocol.NewClient("client-001", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	captured, at := capturedSYNs(t)
	if len(captured) != 1+DefaultSequenceLength {
		t.Fatalf("%d SYN knocks were captured", len(captured))
	}
	src, _ := netip.AddrFromSlice(captured[0][12:16])
	dst, _ := netip.AddrFromSlice(captured[0][16:20])
	target := netip.AddrPortFrom(dst, 8443)
	for _, c := range []struct {
		method string
		want   [][]byte
		at     time.Time
	}{
		{protocol.MethodTCPSYN, captured[:1], at[0]},
		{protocol.MethodTCPSYNSeq, captured[1:], at[1]},
	} {
		d := &Dialer{
			Identity: id, Method: c.method, Now: func() time.Time { return c.at }, Sequence: Sequence{Gap: time.Microsecond},
		}
		for i, b := range sentSYNs(t, d, src, target) {
			if got, want := withoutRandom(b), withoutRandom(c.want[i]); !bytes.Equal(got, want) {
				t.Errorf("%s, part %d:\n%x, captured\n%x", c.method, i, got, want)
			}
		}
	}
}

// withoutRandom returns an IPv4 SYN with its id, source port and checksums
// zeroed.
func withoutRandom(b []byte) []byte {
	b = bytes.Clone(b)
	for _, at := range []int{4, 10, ipv4Header, ipv4Header + 16} {
		clear(b[at : at+2])
	}
	return b
}

// capturedSYNs returns the SYNs with a 32-byte TCP header in the order sent,
// from the IP header on, and their times.
func capturedSYNs(t *testing.T) (all [][]byte, at []time.Time) {
	t.Helper()
	for _, p := range packettest.ReadCapture(t, "../admission/testdata/client.pcap") {
		b := p.Data
		if b[0] != 4<<4|ipv4Header/4 || b[9] != protocolTCP {
			continue
		}
		if tcp := b[ipv4Header:]; tcp[12]>>4 == tcpHeader/4 && tcp[13] == flagSYN {
			all = append(all, bytes.Clone(b[:ipv4Header+tcpHeader]))
			at = append(at, p.Time)
		}
	}
	return all, at
}
