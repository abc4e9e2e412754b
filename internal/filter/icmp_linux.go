package filter

import (
	"github.com/cilium/ebpf/asm"
)

// Where things are in ICMP errors. (RFC 792; RFC 4443, 2.1.)
const (
	icmpHeader  = 8
	quotedBytes = 8 // of the transport header, at least
)

// icmp lets errors about flows pass, as packet.Packet.OriginalDatagram reads them, and drops
// all else.
func (b *builder) icmp() {
	refused := b.refused(reasonICMP)
	quoted := b.fresh("quoted IPv4")

	b.here(toICMP)
	b.emit(asm.JNE.Imm(transport, ipv4Header, b.refused(reasonProtocol)))
	b.icmpHeader()
	b.get(asm.R1, atSegment, asm.Byte)
	b.emit(
		// Destination unreachable, time exceeded, parameter problem.
		asm.JEq.Imm(asm.R1, 3, quoted),
		asm.JEq.Imm(asm.R1, 11, quoted),
		asm.JNE.Imm(asm.R1, 12, refused),
	)
	b.here(quoted)
	b.quoting(ipv4Header)
	b.get(asm.R1, atHead, asm.Byte)
	b.emit(
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 4),
		asm.JNE.Imm(asm.R2, 4, refused),
		asm.And.Imm(asm.R1, 15),
		asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, ipv4Header, refused),
		asm.Add.Reg(transport, asm.R1),
	)
	b.get(asm.R1, atHead+ipv4Proto, asm.Byte)
	b.emit(asm.JNE.Imm(asm.R1, protoTCP, refused))
	b.getBE(asm.R1, atHead+ipv4Flags, asm.Half)
	b.emit(
		asm.And.Imm(asm.R1, ipv4Offset),
		asm.JNE.Imm(asm.R1, 0, refused),
	)
	// The tuple of the other direction: from where our packet was sent to.
	b.address4(atAsk+keySrc, atHead+ipv4Dst)
	b.address4(atAsk+keyDst, atHead+ipv4Src)
	b.emit(asm.Ja.Label(toQuoted))

	b.here(toICMPv6)
	b.emit(asm.JEq.Imm(transport, ipv4Header, b.refused(reasonProtocol)))
	b.icmpHeader()
	b.get(asm.R1, atSegment, asm.Byte)
	b.emit(
		asm.JEq.Imm(asm.R1, 0, refused), // types 1 to 4 are the errors
		asm.JGT.Imm(asm.R1, 4, refused),
	)
	b.quoting(ipv6Header)
	b.get(asm.R1, atHead, asm.Byte)
	b.emit(
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, refused),
		asm.Add.Imm(transport, ipv6Header),
	)
	b.get(asm.R1, atHead+ipv6Next, asm.Byte)
	b.emit(asm.JNE.Imm(asm.R1, protoTCP, refused))
	b.copy(atAsk+keySrc, atHead+ipv6Dst, 2)
	b.copy(atAsk+keyDst, atHead+ipv6Src, 2)

	b.here(toQuoted)
	b.emit(
		asm.Mov.Reg(asm.R1, transport),
		asm.Add.Imm(asm.R1, quotedBytes),
		asm.JGT.Reg(asm.R1, end, refused),
	)
	for i := int16(0); i < 16; i += 8 {
		b.get(asm.R1, atAsk+keyDst+i, asm.DWord)
		b.get(asm.R2, atTuple+keyDst+i, asm.DWord)
		b.emit(asm.JNE.Reg(asm.R1, asm.R2, refused))
	}
	b.load(0, atSegment, 4)
	b.get(asm.R1, atSegment, asm.Half)
	b.set(atAsk+keyDstPort, asm.R1, asm.Half)
	b.get(asm.R1, atSegment+2, asm.Half)
	b.set(atAsk+keySrcPort, asm.R1, asm.Half)
	b.emit(asm.Mov.Imm(asm.R1, kindFlow))
	b.set(atAsk+keyKind, asm.R1, asm.Word)
	b.hashOf(atAsk)
	b.passListed()
	b.emit(asm.Ja.Label(refused))
}

// icmpHeader loads the first bytes of an ICMP header, which must be there whole,
// and moves transport behind it.
func (b *builder) icmpHeader() {
	b.emit(
		asm.Mov.Reg(asm.R1, end),
		asm.Sub.Reg(asm.R1, transport),
		asm.JLT.Imm(asm.R1, icmpHeader, b.refused(reasonTransport)),
	)
	b.load(0, atSegment, icmpHeader)
	b.emit(asm.Add.Imm(transport, icmpHeader))
}

// quoting loads the header of the packet that an error quotes to atHead.
func (b *builder) quoting(size int32) {
	b.emit(
		asm.Mov.Reg(asm.R1, transport),
		asm.Add.Imm(asm.R1, size),
		asm.JGT.Reg(asm.R1, end, b.refused(reasonICMP)),
	)
	b.load(0, atHead, size)
}
