package filter

import (
	"github.com/cilium/ebpf/asm"
)

// Where fields of a UDP header are, and what knocks look like that need no key
// to be told from junk: what protocol.ParseKnock and ParseKnockV2 check.
const (
	udpHeader, udpLength = 8, 4

	knockHeader             = 28
	knockLength, knockFlags = 24, 26 // u16 bytes that follow the header; u8 flags, u8 reserved
	knockLeast, knockMost   = 80, 1024
	knockKnownFlags         = 7

	knockV2Size, knockV2Hint = 128, 10
)

// udp judges a datagram, as Gate.admitUDP does.
func (b *builder) udp() {
	v1 := b.fresh("v1")
	b.here(toUDP)
	b.emit(
		asm.Mov.Reg(asm.R1, end),
		asm.Sub.Reg(asm.R1, transport),
		asm.JLT.Imm(asm.R1, udpHeader, b.refused(reasonTransport)),
	)
	b.load(0, atSegment, udpHeader)
	b.getBE(asm.R1, atSegment+udpLength, asm.Half)
	b.emit(
		asm.Add.Reg(asm.R1, transport),
		asm.JNE.Reg(asm.R1, end, b.refused(reasonLength)),
	)
	b.ports()
	b.takes(protoUDP)
	b.emit(
		asm.JEq.Imm(about, 0, b.refused(reasonNotService)),
		asm.Add.Imm(transport, udpHeader), // where the payload begins
		asm.Sub.Reg(end, transport),       // how long it is
	)

	b.emit(
		asm.Mov.Reg(asm.R1, about),
		asm.And.Imm(asm.R1, takesV2),
		asm.JEq.Imm(asm.R1, 0, v1),
		asm.JNE.Imm(end, knockV2Size, v1),
	)
	b.load(0, atSegment, knockV2Hint)
	b.getBE(asm.R1, atSegment, asm.DWord)
	b.set(atAsk, asm.R1, asm.DWord)
	b.getBE(asm.R1, atSegment+8, asm.Half)
	b.set(atAsk+8, asm.R1, asm.DWord)
	b.passExpected()

	b.here(v1)
	b.emit(
		asm.And.Imm(about, takesV1),
		asm.JEq.Imm(about, 0, b.refused(reasonNotKnock)),
		asm.JLT.Imm(end, knockLeast, b.refused(reasonNotKnock)),
		asm.JGT.Imm(end, knockMost, b.refused(reasonNotKnock)),
	)
	b.load(knockLength, atSegment, knockHeader-knockLength)
	b.getBE(asm.R1, atSegment, asm.Half)
	b.emit(
		asm.Add.Imm(asm.R1, knockHeader),
		asm.JNE.Reg(asm.R1, end, b.refused(reasonNotKnock)),
	)
	b.getBE(asm.R1, atSegment+knockFlags-knockLength, asm.Half)
	b.emit(
		asm.And.Imm(asm.R1, ^(knockKnownFlags<<8)),
		asm.JNE.Imm(asm.R1, 0, b.refused(reasonNotKnock)),
		asm.Ja.Label(toKnock),
	)
}
