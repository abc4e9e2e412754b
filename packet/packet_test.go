package packet_test

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// ends are a client and a protected port of one family.
type ends struct{ client, server netip.AddrPort }

var families = map[string]ends{
	"IPv4": {netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("10.77.0.1:22")},
	"IPv6": {netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[fd77::1]:22")},
}

func (e ends) tcp(s packettest.TCP) []byte {
	s.Src, s.Dst = e.client, e.server
	return s.Packet()
}

func (e ends) udp(payload string) []byte {
	return packettest.UDP{Src: e.client, Dst: e.server, Payload: []byte(payload)}.Packet()
}

func (e ends) icmp(kind uint8, payload []byte) []byte {
	return packettest.ICMP{Src: e.client.Addr(), Dst: e.server.Addr(), Type: kind, Payload: payload}.Packet()
}

func (e ends) header() int {
	if e.client.Addr().Is4() {
		return 20
	}
	return 40
}

func parse(t *testing.T, b []byte) packet.Packet {
	t.Helper()
	p := packet.Packet{Data: b}
	if ok := p.Parse(); ok != (p.DropReason == packet.NotDropped) {
		t.Fatalf("Parse returned %v with reason %v", ok, p.DropReason)
	}
	return p
}

func wantDropReason(t *testing.T, b []byte, want packet.DropReason) {
	t.Helper()
	if p := parse(t, b); p.DropReason != want {
		t.Fatalf("reason %v, want %v", p.DropReason, want)
	}
}

func TestParseTCP(t *testing.T) {
	options := []byte{2, 4, 5, 0xb4, 1, 3, 3, 7}
	for name, e := range families {
		t.Run(name, func(t *testing.T) {
			b := e.tcp(packettest.TCP{
				Flags: packet.PSH | packet.ACK, Seq: 0x01020304, Ack: 0xfffffffe, Window: 4321,
				Options: options, Payload: []byte("hello"),
			})
			p := parse(t, b)
			want := packet.Packet{
				Data: p.Data, Version: b[0] >> 4, Proto: packet.TCP,
				Tuple: packet.Tuple{
					Src: packet.AddrFrom(e.client.Addr()), SrcPort: e.client.Port(),
					Dst: packet.AddrFrom(e.server.Addr()), DstPort: e.server.Port(),
				},
				L4: e.header(), Payload: e.header() + 28,
				Flags: packet.PSH | packet.ACK, Seq: 0x01020304, Ack: 0xfffffffe, Window: 4321,
			}
			if !reflect.DeepEqual(p, want) {
				t.Fatalf("got  %+v\nwant %+v", p, want)
			}
			if got := p.TCPOptions(); string(got) != string(options) {
				t.Errorf("options %x, want %x", got, options)
			}
			if got := string(p.Data[p.Payload:]); got != "hello" {
				t.Errorf("payload %q", got)
			}
			if p.Tuple.Source() != e.client || p.Tuple.Destination() != e.server {
				t.Errorf("tuple %v", p.Tuple)
			}
			if got, want := p.Tuple.Reverse().String(), e.server.String()+" > "+e.client.String(); got != want {
				t.Errorf("reversed tuple is %q, want %q", got, want)
			}
		})
	}
}

func TestParseUDP(t *testing.T) {
	for name, e := range families {
		for _, payload := range []string{"", "x", "an even number.."} {
			p := parse(t, e.udp(payload))
			if p.DropReason != packet.NotDropped || p.Proto != packet.UDP || string(p.Data[p.Payload:]) != payload || p.Tuple.Destination() != e.server {
				t.Errorf("%s %q: %+v", name, payload, p)
			}
		}
	}
}

func TestParseICMPClearsPorts(t *testing.T) {
	for name, e := range families {
		p := parse(t, e.tcp(packettest.TCP{Flags: packet.SYN}))
		p.Data = e.icmp(8, []byte("ping"))
		if !p.Parse() || p.ICMPType != 8 || string(p.Data[p.Payload:]) != "ping" {
			t.Errorf("%s: %+v", name, p)
		}
		if p.Tuple.SrcPort != 0 || p.Tuple.DstPort != 0 {
			t.Errorf("%s: ports %d and %d in ICMP", name, p.Tuple.SrcPort, p.Tuple.DstPort)
		}
	}
}

func TestParseTrimsToIPLength(t *testing.T) {
	for name, e := range families {
		for kind, b := range map[string][]byte{"TCP": e.tcp(packettest.TCP{Payload: []byte("abc")}), "UDP": e.udp("abc"), "ICMP": e.icmp(8, []byte("abc"))} {
			p := parse(t, append(append([]byte(nil), b...), "ethernet padding"...))
			if p.DropReason != packet.NotDropped || string(p.Data) != string(b) {
				t.Errorf("%s %s: reason %v, %d bytes, want %d", name, kind, p.DropReason, len(p.Data), len(b))
			}
		}
	}
}

// TestParseRejects makes the smallest change for each reason. The checksums are
// updated afterwards, unless they are the reason.
func TestParseRejects(t *testing.T) {
	e4, e6 := families["IPv4"], families["IPv6"]
	set := func(b []byte, at int, x ...byte) []byte { copy(b[at:], x); return b }
	fixed := func(b []byte) []byte { packettest.Checksums(b); return b }
	src := func(e ends, a string) []byte {
		e.client = netip.AddrPortFrom(netip.MustParseAddr(a), 40000)
		return e.tcp(packettest.TCP{Flags: packet.SYN})
	}
	// extended inserts IPv6 extension headers before the segment.
	extended := func(next byte, headers ...byte) []byte {
		b := e6.tcp(packettest.TCP{Flags: packet.SYN})
		b = append(b[:40:40], append(headers, b[40:]...)...)
		b[6] = next
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	options := func() []byte {
		b := e4.tcp(packettest.TCP{Flags: packet.SYN})
		b = append(b[:20:20], append([]byte{1, 1, 1, 0}, b[20:]...)...)
		b[0], b[3] = 0x46, byte(len(b))
		return fixed(b)
	}
	tcp4 := func() []byte { return e4.tcp(packettest.TCP{Flags: packet.SYN}) }
	tcp6 := func() []byte { return e6.tcp(packettest.TCP{Flags: packet.SYN}) }
	for _, c := range []struct {
		name   string
		b      []byte
		reason packet.DropReason
	}{
		{"nothing", nil, packet.DropShort},
		{"an IPv4 header cut short", tcp4()[:19], packet.DropShort},
		{"an IPv6 header cut short", tcp6()[:39], packet.DropShort},
		{"version 5", set(tcp4(), 0, 0x55), packet.DropVersion},
		{"version 0", make([]byte, 60), packet.DropVersion},
		{"a header of 16 bytes", set(tcp4(), 0, 0x44), packet.DropHeaderLength},
		{"a header beyond the packet", set(tcp4(), 0, 0x4f), packet.DropHeaderLength},
		{"a total length below the header", fixed(set(tcp4(), 2, 0, 19)), packet.DropLength},
		{"a total length beyond the packet", fixed(set(tcp4(), 2, 0, 41)), packet.DropLength},
		{"an IPv6 payload beyond the packet", set(tcp6(), 4, 0, 21), packet.DropLength},
		{"an IPv4 header checksum", set(tcp4(), 10, ^tcp4()[10]), packet.DropIPChecksum},
		{"the first fragment", fixed(set(tcp4(), 6, 0x20, 0)), packet.DropFragment},
		{"a later fragment", fixed(set(tcp4(), 6, 0x20, 9)), packet.DropFragment},
		{"the last fragment", fixed(set(tcp4(), 6, 0, 9)), packet.DropFragment},
		{"an IPv6 fragment", extended(44, 6, 0, 0, 1, 0, 0, 0, 7), packet.DropFragment},
		{"a later IPv6 fragment", extended(44, 6, 0, 5, 0xa8, 0, 0, 0, 7), packet.DropFragment},
		{"an atomic IPv6 fragment", extended(44, 6, 0, 0, 0, 0, 0, 0, 7), packet.DropFragment},
		{"IPv4 options", options(), packet.DropOptions},
		{"hop-by-hop options", extended(0, 6, 0, 1, 4, 0, 0, 0, 0), packet.DropExtension},
		{"a routing header", extended(43, 6, 0, 0, 0, 0, 0, 0, 0), packet.DropExtension},
		{"destination options", extended(60, 6, 0, 1, 4, 0, 0, 0, 0), packet.DropExtension},
		{"IPsec's ESP", extended(50), packet.DropExtension},
		{"IPsec's AH", extended(51), packet.DropExtension},
		{"no next header", extended(59), packet.DropExtension},
		{"a mobility header", extended(135), packet.DropExtension},
		{"host identity", extended(139), packet.DropExtension},
		{"shim6", extended(140), packet.DropExtension},
		{"an experiment", extended(253), packet.DropExtension},
		{"another experiment", extended(254), packet.DropExtension},
		{"an IPv4 LAND packet", packettest.SYN(e4.server, e4.server, 1), packet.DropAddress},
		{"an IPv6 LAND packet", packettest.SYN(e6.server, e6.server, 1), packet.DropAddress},
		{"source 0.0.0.0", src(e4, "0.0.0.0"), packet.DropAddress},
		{"source 0.1.2.3", src(e4, "0.1.2.3"), packet.DropAddress},
		{"source 127.0.0.1", src(e4, "127.0.0.1"), packet.DropAddress},
		{"source 224.0.0.1", src(e4, "224.0.0.1"), packet.DropAddress},
		{"source 240.0.0.1", src(e4, "240.0.0.1"), packet.DropAddress},
		{"source 255.255.255.255", src(e4, "255.255.255.255"), packet.DropAddress},
		{"source ::", src(e6, "::"), packet.DropAddress},
		{"source ::1", src(e6, "::1"), packet.DropAddress},
		{"source ff02::1", src(e6, "ff02::1"), packet.DropAddress},
		{"a mapped IPv6 source", src(e6, "::ffff:192.0.2.1"), packet.DropAddress},
		{"a mapped IPv6 destination", packettest.SYN(e6.client, netip.MustParseAddrPort("[::ffff:10.77.0.1]:22"), 1), packet.DropAddress},
		{"GRE", packettest.IP(e4.client.Addr(), e4.server.Addr(), 47, make([]byte, 20)), packet.DropProtocol},
		{"SCTP over IPv6", packettest.IP(e6.client.Addr(), e6.server.Addr(), 132, make([]byte, 20)), packet.DropProtocol},
		{"ICMPv6 in IPv4", packettest.IP(e4.client.Addr(), e4.server.Addr(), packet.ICMPv6, make([]byte, 8)), packet.DropProtocol},
		{"ICMP in IPv6", packettest.IP(e6.client.Addr(), e6.server.Addr(), packet.ICMP, make([]byte, 8)), packet.DropProtocol},
	} {
		t.Run(c.name, func(t *testing.T) { wantDropReason(t, c.b, c.reason) })
	}
}

func TestParseRejectsTransportHeaders(t *testing.T) {
	for family, e := range families {
		l4 := e.header()
		tcp := func() []byte { return e.tcp(packettest.TCP{Flags: packet.SYN, Payload: []byte("abcd")}) }
		raw := func(proto packet.Protocol, n int) []byte {
			return packettest.IP(e.client.Addr(), e.server.Addr(), proto, make([]byte, n))
		}
		ports := func(src, dst uint16) ends {
			return ends{netip.AddrPortFrom(e.client.Addr(), src), netip.AddrPortFrom(e.server.Addr(), dst)}
		}
		change := func(b []byte, at int, x byte, fix bool) []byte {
			b[at] = x
			if fix {
				packettest.Checksums(b)
			}
			return b
		}
		icmp := packet.ICMP
		if e.client.Addr().Is6() {
			icmp = packet.ICMPv6
		}
		for _, c := range []struct {
			name   string
			b      []byte
			reason packet.DropReason
		}{
			{"no TCP header", raw(packet.TCP, 0), packet.DropTransport},
			{"a TCP header cut short", raw(packet.TCP, 19), packet.DropTransport},
			{"a TCP data offset of 16 bytes", change(tcp(), l4+12, 0x40, true), packet.DropTransport},
			{"a TCP data offset beyond the packet", change(tcp(), l4+12, 0x70, true), packet.DropTransport},
			{"TCP source port 0", ports(0, 22).tcp(packettest.TCP{}), packet.DropPort},
			{"TCP destination port 0", ports(40000, 0).tcp(packettest.TCP{}), packet.DropPort},
			{"a TCP checksum", change(tcp(), l4+16, ^tcp()[l4+16], false), packet.DropChecksum},
			{"TCP data that were changed", change(tcp(), len(tcp())-1, 'x', false), packet.DropChecksum},
			{"a UDP header cut short", raw(packet.UDP, 7), packet.DropTransport},
			{"a UDP length below its header", change(e.udp("ab"), l4+5, 7, true), packet.DropLength},
			{"a UDP length below the packet's", change(e.udp("ab"), l4+5, 9, true), packet.DropLength},
			{"a UDP length beyond the packet", change(e.udp("ab"), l4+5, 11, true), packet.DropLength},
			{"UDP source port 0", ports(0, 22).udp(""), packet.DropPort},
			{"UDP destination port 0", ports(40000, 0).udp(""), packet.DropPort},
			{"a UDP checksum", change(e.udp("ab"), l4+6, ^e.udp("ab")[l4+6], false), packet.DropChecksum},
			{"an ICMP header cut short", raw(icmp, 7), packet.DropTransport},
			{"an ICMP checksum", change(e.icmp(8, nil), l4+2, ^e.icmp(8, nil)[l4+2], false), packet.DropChecksum},
		} {
			t.Run(family+" "+c.name, func(t *testing.T) { wantDropReason(t, c.b, c.reason) })
		}
	}
}

func TestParseUDPWithoutChecksum(t *testing.T) {
	for name, want := range map[string]packet.DropReason{"IPv4": packet.NotDropped, "IPv6": packet.DropChecksum} {
		e := families[name]
		b := e.udp("no checksum")
		b[e.header()+6], b[e.header()+7] = 0, 0
		wantDropReason(t, b, want)
		// Not even if the kernel vouches for it: it is zero on the wire.
		p := packet.Packet{Data: b, Offload: packet.Offload{ChecksumValid: true}}
		if p.Parse(); p.DropReason != want {
			t.Errorf("%s, vouched for: reason %v, want %v", name, p.DropReason, want)
		}
	}
}

func TestParseTrustsOffloadForTransportOnly(t *testing.T) {
	for name, e := range families {
		for kind, b := range map[string][]byte{"TCP": e.tcp(packettest.TCP{}), "UDP": e.udp("abc"), "ICMP": e.icmp(8, nil)} {
			at := map[string]int{"TCP": 16, "UDP": 6, "ICMP": 2}[kind]
			b[e.header()+at] ^= 0x55
			p := packet.Packet{Data: b, Offload: packet.Offload{ChecksumValid: true}}
			if !p.Parse() {
				t.Errorf("%s %s with ChecksumValid: %v", name, kind, p.DropReason)
			}
		}
		b := e.tcp(packettest.TCP{})
		b[e.header()+16] ^= 0x55
		p := packet.Packet{Data: b, Offload: packet.Offload{NeedsChecksum: true}}
		if !p.Parse() {
			t.Errorf("%s TCP with NeedsChecksum: %v", name, p.DropReason)
		}
	}
	b := families["IPv4"].tcp(packettest.TCP{})
	b[10] ^= 0x55
	p := packet.Packet{Data: b, Offload: packet.Offload{ChecksumValid: true, NeedsChecksum: true}}
	if p.Parse(); p.DropReason != packet.DropIPChecksum {
		t.Errorf("a wrong IPv4 header checksum with ChecksumValid: %v", p.DropReason)
	}
}

func TestParseRejectsTruncation(t *testing.T) {
	for name, e := range families {
		for kind, b := range map[string][]byte{
			"TCP": e.tcp(packettest.TCP{Options: []byte{1, 1, 1, 1}, Payload: []byte("abc")}), "UDP": e.udp("abc"), "ICMP": e.icmp(8, []byte("abc")),
		} {
			for n := range b {
				p := packet.Packet{Data: b[:n:n]}
				if p.Parse() {
					t.Errorf("%s %s cut to %d of %d bytes passes", name, kind, n, len(b))
				}
			}
		}
	}
}

func TestDropReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for f := range packet.NumDropReasons {
		name := packet.DropReason(f).String()
		if name == "" || name == "unknown" || seen[name] {
			t.Errorf("reason %d has the name %q", f, name)
		}
		seen[name] = true
	}
	if got := packet.DropReason(packet.NumDropReasons).String(); got != "unknown" {
		t.Errorf("an unknown reason has the name %q", got)
	}
}
