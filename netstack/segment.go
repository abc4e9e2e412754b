package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/knockgw/knockgw/packet"
)

// minMSS is the smallest MSS, in bytes, that the stack accepts from a SYN: with
// a smaller one, a client could have each kilobyte sent in dozens of packets.
// It is FreeBSD's net.inet.tcp.minmss; no link that carries TCP has an MTU
// below 256.
const minMSS = 216

// raiseMSS raises the MSS in the options of a SYN to minMSS. It does not update
// the checksum, which was verified: the stack ignores it.
func raiseMSS(options []byte) {
	for len(options) > 1 && options[0] != header.TCPOptionEOL {
		length := int(options[1])
		switch {
		case options[0] == header.TCPOptionNOP:
			length = 1
		case length < 2 || length > len(options):
			return
		case options[0] == header.TCPOptionMSS && length == header.TCPOptionMSSLength:
			mss := options[2:header.TCPOptionMSSLength]
			binary.BigEndian.PutUint16(mss, max(binary.BigEndian.Uint16(mss), minMSS))
		}
		options = options[length:]
	}
}

// writeSegments writes the packet in w, with size bytes of payload, in segments
// of at most mss bytes: for devices without segmentation offload.
func (l *link) writeSegments(w *writeBuf, size, mss int) error {
	p := &w.packet
	w.header = append(w.header[:0], w.parts[0][:p.Payload]...)
	w.payload = append(w.payload[:0], w.parts[0][p.Payload:]...)
	for _, part := range w.parts[1:w.n] {
		w.payload = append(w.payload, part...)
	}

	for from := 0; from < size; from += mss {
		piece := w.payload[from:min(from+mss, size)]
		flags := p.Flags
		if from+mss < size {
			flags &^= packet.FIN | packet.PSH
		}
		writeHeader(w.header, p, flags, p.Seq+uint32(from), piece)
		if err := l.s.opts.Device.Write(packet.Offload{}, [][]byte{w.header, piece}); err != nil {
			return err
		}
	}
	return nil
}

// writeHeader turns b, the headers of p, into those of a segment with these
// flags, this sequence number and this payload.
func writeHeader(b []byte, p *packet.Packet, flags uint8, seq uint32, payload []byte) {
	segment := header.TCP(b[p.L4:])
	segment.SetSequenceNumber(seq)
	segment.SetFlags(flags)

	length := uint16(len(segment) + len(payload)) // a packet's
	var sum uint16
	if p.Version == 4 {
		ip := header.IPv4(b)
		ip.SetTotalLength(uint16(p.L4) + length)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		sum = header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), length)
	} else {
		ip := header.IPv6(b)
		ip.SetPayloadLength(length)
		sum = header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), length)
	}
	segment.SetChecksum(0)
	segment.SetChecksum(^segment.CalculateChecksum(checksum.Checksum(payload, sum)))
}

// resetTTL is the stack's default TTL.
const resetTTL = 64

// sendReset answers a segment with a reset if it acknowledges data: the reset
// then has the sequence number that its sender expects (RFC 9293, 3.5.2).
func (l *link) sendReset(p *packet.Packet) {
	if p.DropReason != packet.NotDropped || p.Proto != packet.TCP || p.Flags&(packet.ACK|packet.RST) != packet.ACK {
		return
	}
	to, from := toAddress(p.Tuple.Src), toAddress(p.Tuple.Dst)
	b := make([]byte, p.L4+header.TCPMinimumSize)
	if p.Version == 4 {
		header.IPv4(b).Encode(&header.IPv4Fields{
			Flags: header.IPv4FlagDontFragment, TTL: resetTTL, Protocol: uint8(packet.TCP), SrcAddr: from, DstAddr: to,
		})
	} else {
		header.IPv6(b).Encode(&header.IPv6Fields{
			TransportProtocol: header.TCPProtocolNumber, HopLimit: resetTTL, SrcAddr: from, DstAddr: to,
		})
	}
	header.TCP(b[p.L4:]).Encode(&header.TCPFields{
		SrcPort: p.Tuple.DstPort, DstPort: p.Tuple.SrcPort, DataOffset: header.TCPMinimumSize,
	})

	var answer packet.Packet
	writeHeader(b, p, packet.RST, p.Ack, nil)
	if answer.DecodeTCP(b); l.s.opts.Egress(&answer, 0) {
		// An error means that the device is gone, which its reader notices too.
		_ = l.s.opts.Device.Write(packet.Offload{}, [][]byte{b})
	}
}

// timestampSize is the size of an aligned Timestamps option in bytes.
const timestampSize = 12

// withTimestamp returns the headers of p with a Timestamps option of that
// value, which echoes nothing. If there is no room for it, it replaces the
// other options.
func withTimestamp(p *packet.Packet, value uint32) []byte {
	options := p.TCPOptions()
	if len(options)+timestampSize > header.TCPOptionsMaximumSize {
		options = nil
	}
	length := p.L4 + header.TCPMinimumSize + timestampSize + len(options)
	if length-p.Payload+len(p.Data) > packet.MaxPacket {
		return p.Data[:p.Payload]
	}

	b := make([]byte, 0, length)
	b = append(b, p.Data[:p.L4+header.TCPMinimumSize]...)
	b = append(b, header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionTS, header.TCPOptionTSLength)
	b = binary.BigEndian.AppendUint32(b, value)
	b = append(b, 0, 0, 0, 0)
	b = append(b, options...)

	header.TCP(b[p.L4:]).SetDataOffset(uint8(length - p.L4))
	size := uint16(length - p.L4 + len(p.Data) - p.Payload) // a packet's
	if p.Version == 4 {
		ip := header.IPv4(b)
		ip.SetTotalLength(uint16(p.L4) + size)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	} else {
		header.IPv6(b).SetPayloadLength(size)
	}
	return b
}
