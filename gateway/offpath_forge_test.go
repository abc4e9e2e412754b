package gateway_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

const (
	// aroundWindow is more than the distance from the next sequence number, in
	// bytes, at which a segment matters; aroundACKs is the same for ACKs.
	aroundWindow = 1 << 25
	aroundACKs   = 1 << 20
)

// maxInFlight returns the distance in bytes, after what the client has
// received, at which an ACK is for data that was never sent: in the handshake,
// one.
func (o *offPath) maxInFlight() uint32 {
	if o.sent.Len() == 0 {
		return 1
	}
	const limit = 4096
	return limit
}

// forgedTCP returns a segment with the client's address.
func (o *offPath) forgedTCP(syns bool) []byte {
	s := packettest.TCP{
		Src: o.src, Dst: o.dst, Flags: rapid.Byte().Draw(o.draws, "flags"),
		Seq:     o.seq + rapid.Uint32Range(aroundWindow, 1<<32-1-aroundWindow).Draw(o.draws, "seq"),
		Ack:     o.ack + rapid.Uint32Range(o.maxInFlight(), 1<<32-1-aroundACKs).Draw(o.draws, "ack"),
		Window:  rapid.Uint16().Draw(o.draws, "window"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(o.draws, "payload"),
	}
	if rapid.Bool().Draw(o.draws, "usual flags") {
		s.Flags = rapid.SampledFrom([]uint8{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.RST, packet.RST | packet.ACK, packet.SYN, packet.SYN | packet.ACK}).Draw(o.draws, "which")
	}
	if !syns && s.Flags&packet.SYN != 0 {
		s.Flags ^= packet.SYN
	}
	switch rapid.IntRange(0, 3).Draw(o.draws, "luck") {
	case 0: // any number in the window but the next is as good for the attacker as another
		first := uint32(0)
		if s.Flags&packet.RST != 0 {
			first = 1
		}
		s.Seq = o.seq + rapid.Uint32Range(first, 1000).Draw(o.draws, "seq in the window")
	case 1: // in the handshake there is one acknowledgement only
		s.Ack = o.ack
	}
	if rapid.IntRange(0, 3).Draw(o.draws, "has options") == 0 {
		s.Options = rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(o.draws, "options")
	}
	return s.Packet()
}

// forgedICMP returns an error about a packet that the service may have sent.
func (o *offPath) forgedICMP() []byte {
	quoted := packettest.TCP{
		Src: o.dst, Dst: o.src, Flags: packet.ACK,
		Seq: o.ack + rapid.Uint32Range(aroundACKs, 1<<32-1-aroundACKs).Draw(o.draws, "quoted seq"),
		Ack: o.seq, Payload: make([]byte, 8),
	}.Packet()
	m := packettest.ICMP{
		Src: o.src.Addr(), Dst: o.dst.Addr(), Type: rapid.SampledFrom([]uint8{3, 11, 12, 0, 5}).Draw(o.draws, "type"),
		Code: rapid.Byte().Draw(o.draws, "code"), Payload: quoted,
	}
	if o.src.Addr().Is6() {
		m.Type = rapid.SampledFrom([]uint8{1, 2, 3, 4, 128, 137}).Draw(o.draws, "type of IPv6")
	}
	b := m.Packet()
	at := len(b) - len(quoted) - 4 // the rest of the header: MTU, pointer
	binary.BigEndian.PutUint32(b[at:], rapid.Uint32Range(0, 2000).Draw(o.draws, "MTU"))
	packettest.Checksums(b)
	return b
}

// fragments splits a packet into fragments.
func (o *offPath) fragments(b []byte) (all [][]byte) {
	size := 8 * rapid.IntRange(1, 6).Draw(o.draws, "bytes of a piece / 8")
	id := rapid.Uint32().Draw(o.draws, "id")
	header := 20
	if b[0]>>4 == 6 {
		header = 40
	}
	body := b[header:]
	for from := 0; from < len(body); from += size {
		part := body[from:min(from+size, len(body))]
		more := from+size < len(body)
		all = append(all, fragment(b[:header], id, from, more, part))
	}
	return all
}

// fragment returns one fragment of a packet with this header.
func fragment(header []byte, id uint32, offset int, more bool, part []byte) []byte {
	b := bytes.Clone(header)
	if b[0]>>4 == 4 {
		const moreFragments = 0x2000
		flags := uint16(offset >> 3)
		if more {
			flags |= moreFragments
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(part)))
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		binary.BigEndian.PutUint16(b[6:], flags)
		packettest.Checksums(b) // of the header alone: nothing follows yet
		return append(b, part...)
	}
	const fragmentHeader = 44
	flags := uint16(offset)
	if more {
		flags |= 1
	}
	b = append(b, b[6], 0)
	b[6] = fragmentHeader
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, flags), id)
	b = append(b, part...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-len(header)))
	return b
}

// attack sends forged packets; syns permits SYNs among them.
func (o *offPath) attack(when string, syns bool) {
	o.Helper()
	if o.draws == nil {
		return
	}
	for range rapid.IntRange(0, 6).Draw(o.draws, when) {
		switch rapid.IntRange(0, 9).Draw(o.draws, "kind") {
		case 0:
			o.inject(o.forgedICMP())
		case 1, 2:
			o.inject(o.fragments(o.forgedTCP(syns))...)
		case 3:
			o.inject(packettest.UDP{
				Src: o.src, Dst: netip.AddrPortFrom(o.dst.Addr(), offPathKnock),
				Payload: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(o.draws, "datagram"),
			}.Packet())
		default:
			o.inject(o.forgedTCP(syns))
		}
	}
}

func (o *offPath) verify() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !bytes.Equal(o.heard.Bytes(), o.sent.Bytes()) {
		o.Fatalf("the service hears %d bytes, the client said %d", o.heard.Len(), o.sent.Len())
	}
	if n := o.requests.Load(); n != 1 {
		o.Fatalf("%d connections reach the service", n)
	}
	if o.completed.Load() != 1 || o.failed.Load() != 0 || o.bans.Load() != 0 {
		o.Fatalf("%d handshakes, %d failed authentications, %d bans", o.completed.Load(), o.failed.Load(), o.bans.Load())
	}
	for len(o.knocked) > 0 {
		if e := <-o.knocked; e.Result == knock.OK {
			o.Fatalf("the attacker has knocked: %+v", e)
		}
	}
}

// state describes the connection.
func (o *offPath) state() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := fmt.Sprintf("%d connections, %d handshakes, %d failed authentications; the service has heard %d bytes, the client %d of %d",
		o.requests.Load(), o.completed.Load(), o.failed.Load(), o.heard.Len(), o.echoed.Len(), o.sent.Len())
	for _, c := range o.gate.Stats().Packets {
		if c.Count > 0 {
			s += fmt.Sprintf("; %d %v %s", c.Count, c.Action, c.Reason)
		}
	}
	return s
}
