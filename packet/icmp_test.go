package packet_test

import (
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// sent returns a segment of the gateway, which errors return.
func (e ends) sent() []byte {
	return packettest.TCP{Src: e.server, Dst: e.client, Flags: packet.ACK, Seq: 0xdeadbeef, Payload: []byte("data")}.Packet()
}

func (e ends) errorTypes() []uint8 {
	if e.client.Addr().Is4() {
		return []uint8{3, 11, 12}
	}
	return []uint8{1, 2, 3, 4}
}

func TestOriginalDatagram(t *testing.T) {
	for name, e := range families {
		for _, kind := range e.errorTypes() {
			for _, quoted := range [][]byte{e.sent(), e.sent()[:e.header()+8]} {
				p := parse(t, e.icmp(kind, quoted))
				tuple, seq, ok := p.OriginalDatagram()
				if !ok || tuple.Source() != e.server || tuple.Destination() != e.client || seq != 0xdeadbeef {
					t.Errorf("%s type %d, %d bytes: %v %x %v", name, kind, len(quoted), tuple, seq, ok)
				}
			}
		}
	}
}

func TestPathMTU(t *testing.T) {
	for name, e := range families {
		for kind := range uint8(20) {
			for code := range uint8(6) {
				want := -1
				if name == "IPv4" && kind == 3 && code == 4 || name == "IPv6" && kind == 2 {
					want = 1400
				}
				m := packettest.ICMP{Src: e.client.Addr(), Dst: e.server.Addr(), Type: kind, Code: code, Rest: [4]byte{2: 1400 >> 8, 3: 1400 & 255}, Payload: e.sent()}
				p := parse(t, m.Packet())
				if got := p.PathMTU(); got != want {
					t.Errorf("%s type %d, code %d: %d, not %d", name, kind, code, got, want)
				}
			}
		}
		p := parse(t, e.tcp(packettest.TCP{Payload: e.sent()}))
		if got := p.PathMTU(); got != -1 {
			t.Errorf("%s: TCP has a path MTU of %d", name, got)
		}
	}
	e := families["IPv6"]
	m := packettest.ICMP{Src: e.client.Addr(), Dst: e.server.Addr(), Type: 2, Rest: [4]byte{255, 255, 5, 120}, Payload: e.sent()}
	p := parse(t, m.Packet())
	if got := p.PathMTU(); got != packet.MaxPacket {
		t.Errorf("an MTU of 2^32 - 64136 is %d", got)
	}
}

func TestOriginalDatagramWithOptions(t *testing.T) {
	e := families["IPv4"]
	b := e.sent()
	b = append(b[:20:20], append([]byte{1, 1, 1, 0}, b[20:]...)...)
	b[0], b[10] = 0x46, 0x55
	p := parse(t, e.icmp(3, b))
	if tuple, seq, ok := p.OriginalDatagram(); !ok || tuple.Source() != e.server || seq != 0xdeadbeef {
		t.Errorf("%v %x %v", tuple, seq, ok)
	}
}

func TestOriginalDatagramRejects(t *testing.T) {
	change := func(b []byte, at int, x byte) []byte { b[at] = x; return b }
	for name, e := range families {
		other := families["IPv6"]
		proto := 9
		if name == "IPv6" {
			other, proto = families["IPv4"], 6
		}
		bad := map[string][]byte{
			"nothing":              e.icmp(3, nil),
			"7 bytes of TCP":       e.icmp(3, e.sent()[:e.header()+7]),
			"half an IP header":    e.icmp(3, e.sent()[:e.header()/2]),
			"UDP":                  e.icmp(3, change(e.sent(), proto, 17)),
			"the other IP version": e.icmp(3, other.sent()),
			"an echo request":      e.icmp(8, e.sent()),
			"an informational":     e.icmp(128, e.sent()),
			"type 0":               e.icmp(0, e.sent()),
			"TCP":                  e.tcp(packettest.TCP{Payload: e.sent()}),
			"a datagram":           e.udp(string(e.sent())),
		}
		if name == "IPv4" {
			bad["a header of 16 bytes"] = e.icmp(3, change(e.sent(), 0, 0x44))
			bad["a header beyond the quote"] = e.icmp(3, change(e.sent(), 0, 0x4f))
			bad["a later fragment"] = e.icmp(3, change(e.sent(), 7, 1))
			bad["a redirect"] = e.icmp(5, e.sent())
			bad["source quench"] = e.icmp(4, e.sent())
		} else {
			bad["an unassigned error"] = e.icmp(100, e.sent())
		}
		for what, b := range bad {
			p := parse(t, b)
			if p.DropReason != packet.NotDropped {
				t.Errorf("%s %s: %v", name, what, p.DropReason)
			}
			if tuple, _, ok := p.OriginalDatagram(); ok {
				t.Errorf("%s %s returns %v", name, what, tuple)
			}
		}
	}
}

func TestDecodeTCP(t *testing.T) {
	for name, e := range families {
		b := packettest.TCP{Src: e.server, Dst: e.client, Flags: packet.SYN | packet.ACK, Seq: 7, Ack: 8, Options: []byte{2, 4, 5, 0xb4}}.Packet()
		b[e.header()+16] ^= 0x55 // the kernel completes the checksum
		var p packet.Packet
		if !p.DecodeTCP(b) || p.Tuple.Source() != e.server || p.Tuple.Destination() != e.client ||
			p.Flags != packet.SYN|packet.ACK || p.Seq != 7 || p.Ack != 8 || p.Payload != len(b) || int(p.Version) != int(b[0]>>4) {
			t.Errorf("%s: %+v", name, p)
		}
		if p.DecodeTCP(e.udp("x")) || p.DecodeTCP(e.icmp(0, make([]byte, 60))) {
			t.Errorf("%s: another protocol is accepted as TCP", name)
		}
		for n := range e.header() + 20 {
			if p.DecodeTCP(b[:n]) {
				t.Errorf("%s: %d bytes of headers are enough", name, n)
			}
		}
	}
	b := families["IPv4"].tcp(packettest.TCP{})
	b[0] = 0x46
	if p := new(packet.Packet); p.DecodeTCP(b) {
		t.Error("a packet with IP options passes")
	}
}
