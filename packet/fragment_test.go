package packet_test

import (
	"encoding/binary"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// fragment returns the bytes from..to of the payload of whole as a fragment.
// Offsets are rounded down to a multiple of 8 bytes.
func fragment(whole []byte, id uint32, from, to int, more bool) []byte {
	return fragmentOf(whole, id, from, more, whole[ipHeader(whole):][from:to])
}

// fragmentOf returns part as a fragment with the IP header of whole.
func fragmentOf(whole []byte, id uint32, offset int, more bool, part []byte) []byte {
	header := ipHeader(whole)
	b := append([]byte(nil), whole[:header]...)
	flags := uint16(offset &^ 7)
	if b[0]>>4 == 4 {
		flags >>= 3
		if more {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		binary.BigEndian.PutUint16(b[6:], flags)
		b = append(b, part...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		checksum4(b)
		return b
	}
	if more {
		flags |= 1
	}
	next := b[6]
	b[6] = 44
	b = append(b, next, 0)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, part...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func ipHeader(b []byte) int {
	if b[0]>>4 == 4 {
		return int(b[0]&15) * 4
	}
	return 40
}

// checksum4 updates the header checksum only, unlike packettest.Checksums.
func checksum4(b []byte) {
	h := append([]byte(nil), b[:ipHeader(b)]...)
	packettest.Checksums(h)
	copy(b, h)
}

func TestParseFragment(t *testing.T) {
	for name, e := range families {
		whole := e.tcp(packettest.TCP{Flags: packet.ACK, Options: []byte{1, 1, 1, 0}, Payload: make([]byte, 1000)})
		header := e.header()
		if header == 40 {
			header += 8
		}
		const id = 0xbeef
		for _, c := range []struct {
			name       string
			b          []byte
			reason     packet.DropReason
			offset     int
			more       bool
			ports      bool
			payloadLen int
		}{
			{"the first", fragment(whole, id, 0, 512, true), packet.DropFragment, 0, true, true, 512},
			{"a first one with no more than the header", fragment(whole, id, 0, 24, true), packet.DropFragment, 0, true, true, 24},
			{"a first one without all of the options", fragment(whole, id, 0, 23, true), packet.DropTinyFragment, 0, true, false, 23},
			{"a first one without all of the header", fragment(whole, id, 0, 16, true), packet.DropTinyFragment, 0, true, false, 16},
			{"an empty first one", fragment(whole, id, 0, 0, true), packet.DropTinyFragment, 0, true, false, 0},
			{"one in between", fragment(whole, id, 512, 768, true), packet.DropFragment, 512, true, false, 256},
			{"the last", fragment(whole, id, 768, 1024, false), packet.DropFragment, 768, false, false, 256},
			{"the farthest", fragmentOf(whole, id, 0xfff8, false, []byte("ping of death")), packet.DropFragment, 0xfff8, false, false, 13},
			{"one with padding behind it", append(fragment(whole, id, 768, 1024, false), "ethernet"...), packet.DropFragment, 768, false, false, 256},
		} {
			t.Run(name+" "+c.name, func(t *testing.T) {
				p := packet.Packet{Tuple: packet.Tuple{SrcPort: 1, DstPort: 2}} // of an earlier packet
				p.Data = c.b
				if p.Parse() || p.DropReason != c.reason {
					t.Fatalf("reason %v, want %v", p.DropReason, c.reason)
				}
				want := packet.Fragment{ID: id, Offset: c.offset, More: c.more, Payload: header}
				if p.Fragment != want {
					t.Errorf("%+v, want %+v", p.Fragment, want)
				}
				tuple := packet.Tuple{Src: packet.AddrFrom(e.client.Addr()), Dst: packet.AddrFrom(e.server.Addr())}
				if c.ports {
					tuple.SrcPort, tuple.DstPort = e.client.Port(), e.server.Port()
				}
				if p.Tuple != tuple || p.Proto != packet.TCP || p.Version != whole[0]>>4 {
					t.Errorf("version %d, protocol %d, %v; want %v", p.Version, p.Proto, p.Tuple, tuple)
				}
				if n := len(p.Data) - p.Fragment.Payload; n != c.payloadLen {
					t.Errorf("%d bytes of payload, want %d", n, c.payloadLen)
				}
				if !p.Reassemblable() {
					t.Error("not reassemblable")
				}
				if n := testing.AllocsPerRun(100, func() { p.Data = c.b; p.Parse() }); n != 0 {
					t.Errorf("%v allocations", n)
				}
			})
		}
	}
}

func TestParseUnreassemblable(t *testing.T) {
	e4, e6 := families["IPv4"], families["IPv6"]
	tcp4 := e4.tcp(packettest.TCP{Payload: make([]byte, 100)})
	tcp6 := e6.tcp(packettest.TCP{Payload: make([]byte, 100)})
	options := append([]byte{0x46}, tcp4[1:20]...)
	options = append(append(options, 1, 1, 1, 0), tcp4[20:]...)
	mapped := func(at int) []byte {
		b := fragment(tcp6, 7, 0, 64, true)
		copy(b[at:], make([]byte, 10))
		b[at+10], b[at+11] = 0xff, 0xff
		return b
	}
	change := func(b []byte, at int, x byte) []byte { b[at] = x; return b }
	for name, b := range map[string][]byte{
		"a whole packet":                   tcp4,
		"a fragment with IPv4 options":     fragment(options, 7, 0, 64, true),
		"an atomic fragment":               fragment(tcp6, 7, 0, 120, false),
		"a fragment header cut short":      append(append([]byte(nil), tcp6[:4]...), append([]byte{0, 7, 44, 64}, tcp6[8:47]...)...),
		"a mapped source":                  mapped(8),
		"a mapped destination":             mapped(24),
		"a fragment behind an extension":   change(fragment(tcp6, 7, 0, 64, true), 6, 60),
		"an extension behind the fragment": change(fragment(tcp6, 7, 0, 64, true), 40, 60),
		"a fragment of UDP":                fragment(e4.udp(string(make([]byte, 100))), 7, 0, 64, true),
		"a fragment of UDP over IPv6":      fragment(e6.udp(string(make([]byte, 100))), 7, 0, 64, true),
		"a tiny fragment of UDP":           fragment(e4.udp(string(make([]byte, 100))), 7, 0, 4, true),
		"a fragment of ICMP":               fragment(e4.icmp(8, make([]byte, 100)), 7, 0, 64, true),
		"a fragment with a bad checksum":   change(fragment(tcp4, 7, 0, 64, true), 11, 0x55),
		"a fragment cut short":             fragment(tcp4, 7, 0, 64, true)[:80],
	} {
		// The fields of an earlier packet must not matter.
		p := packet.Packet{Data: fragment(tcp6, 7, 64, 120, false)}
		p.Parse()
		p.Data = b
		p.Parse()
		if p.Reassemblable() {
			t.Errorf("%s: reassemblable: %v, %+v", name, p.DropReason, p.Fragment)
		}
		if whole, f := packet.NewReassembler(packet.ReassemblerOptions{}).Add(&p); whole != nil || f != p.DropReason {
			t.Errorf("%s: reassembled with %v, want %v", name, f, p.DropReason)
		}
	}
}
