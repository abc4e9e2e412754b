package packet

import "encoding/binary"

func (p *Packet) parseTCP(b []byte) DropReason {
	if len(b) < tcpHeaderSize {
		return DropTransport
	}
	headerLen := int(b[12]>>4) * 4
	if headerLen < tcpHeaderSize || headerLen > len(b) {
		return DropTransport
	}
	if reason := p.parsePorts(b); reason != NotDropped {
		return reason
	}
	p.Seq = binary.BigEndian.Uint32(b[4:])
	p.Ack = binary.BigEndian.Uint32(b[8:])
	p.Flags = b[13]
	p.Window = binary.BigEndian.Uint16(b[14:])
	p.Payload = p.L4 + headerLen
	if !p.checksumOK(b) {
		return DropChecksum
	}
	return NotDropped
}

// TCPOptions returns the bytes of the TCP options, borrowed from p.Data.
func (p *Packet) TCPOptions() []byte { return p.Data[p.L4+tcpHeaderSize : p.Payload] }

// DecodeTCP decodes a packet that our own stack built: header holds at least its
// IP and TCP headers, and becomes p.Data. It sets the addresses, ports, flags,
// sequence numbers and window, and verifies only lengths. It reports false
// unless the packet is TCP without IP options.
func (p *Packet) DecodeTCP(header []byte) (ok bool) {
	if len(header) < ipv4HeaderSize {
		return false
	}
	switch header[0] {
	case 0x45:
		p.Version, p.L4, p.Proto = 4, ipv4HeaderSize, Protocol(header[9])
		p.Tuple.Src, p.Tuple.Dst = addr4(header[12:16]), addr4(header[16:20])
	default:
		if header[0]>>4 != 6 || len(header) < ipv6HeaderSize {
			return false
		}
		p.Version, p.L4, p.Proto = 6, ipv6HeaderSize, Protocol(header[6])
		copy(p.Tuple.Src[:], header[8:24])
		copy(p.Tuple.Dst[:], header[24:40])
	}
	if p.Proto != TCP || len(header) < p.L4+tcpHeaderSize {
		return false
	}

	b := header[p.L4:]
	p.Tuple.SrcPort = binary.BigEndian.Uint16(b)
	p.Tuple.DstPort = binary.BigEndian.Uint16(b[2:])
	p.Seq = binary.BigEndian.Uint32(b[4:])
	p.Ack = binary.BigEndian.Uint32(b[8:])
	p.Flags = b[13]
	p.Window = binary.BigEndian.Uint16(b[14:])

	headerLen := int(b[12]>>4) * 4
	if headerLen < tcpHeaderSize || headerLen > len(b) {
		return false
	}
	p.Payload = p.L4 + headerLen
	p.Data = header
	return true
}
