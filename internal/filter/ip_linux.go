package filter

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
)

// Where fields of IP headers are, and what they may be. (RFC 791, 3.1; RFC 8200, 3, 4.5.)
const (
	ipv4Header, ipv4Total, ipv4Flags, ipv4Proto, ipv4Src, ipv4Dst = 20, 2, 6, 9, 12, 16
	ipv6Header, ipv6Payload, ipv6Next, ipv6Src, ipv6Dst           = 40, 4, 6, 8, 24

	ipv4Fragment, ipv4Offset = 0x3fff, 0x1fff // more fragments or an offset; the offset

	ipv6FragmentNext, ipv6FragmentHeader = 44, 8
	ipv6FragmentFlags                    = 2 // where they are in the fragment header
	ipv6More, ipv6Offset                 = 1, 0xfff8

	protoICMP, protoTCP, protoUDP, protoICMPv6 = 1, 6, 17, 58
)

// mapped is the second word, of 4 bytes, of the first 12 of an IPv4 address as
// packet.Addr has it: bytes 8 to 11.
func mapped() int32 {
	return int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))
}

// head reads an IPv4 header. What it leaves: addresses and a key's kind in the
// tuple, the protocol in about, transport, end.
func (b *builder) head() {
	b.emit(
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMem(end, skb, skbLength, asm.Word),
		asm.JLT.Imm(end, ipv4Header, b.refused(reasonShort)),
	)
	b.loadHead(ipv4Header)
	b.emit(asm.Mov.Imm(asm.R1, 0))
	b.set(atTuple+keySrcPort, asm.R1, asm.Word)
	b.emit(asm.Mov.Imm(asm.R1, kindFlow))
	b.set(atTuple+keyKind, asm.R1, asm.Word)
	b.get(asm.R1, atHead, asm.Byte)
	b.emit(
		asm.RSh.Imm(asm.R1, 4),
		asm.JEq.Imm(asm.R1, 6, toIPv6),
		asm.JNE.Imm(asm.R1, 4, b.refused(reasonVersion)),
	)
	b.address4(atTuple+keySrc, atHead+ipv4Src)
	b.address4(atTuple+keyDst, atHead+ipv4Dst)

	b.get(transport, atHead, asm.Byte)
	b.emit(
		asm.And.Imm(transport, 15),
		asm.LSh.Imm(transport, 2),
		asm.JLT.Imm(transport, ipv4Header, b.refused(reasonHeaderLength)),
		asm.JGT.Reg(transport, end, b.refused(reasonHeaderLength)),
	)
	b.getBE(asm.R1, atHead+ipv4Total, asm.Half)
	b.emit(
		asm.JLT.Reg(asm.R1, transport, b.refused(reasonLength)),
		asm.JGT.Reg(asm.R1, end, b.refused(reasonLength)),
		asm.Mov.Reg(end, asm.R1),
	)
	b.get(about, atHead+ipv4Proto, asm.Byte)
	b.getBE(asm.R1, atHead+ipv4Flags, asm.Half)
	b.emit(
		asm.And.Imm(asm.R1, ipv4Fragment),
		asm.JNE.Imm(asm.R1, 0, toFragment4),
		asm.JGT.Imm(transport, ipv4Header, b.refused(reasonOptions)),
	)
	b.get(asm.R1, atHead+ipv4Src, asm.Byte)
	b.emit(
		asm.JEq.Imm(asm.R1, 0, b.refused(reasonAddress)),
		asm.JEq.Imm(asm.R1, 127, b.refused(reasonAddress)),
		asm.JGE.Imm(asm.R1, 224, b.refused(reasonAddress)),
		asm.Ja.Label(toTransport),
	)
}

// address4 copies an IPv4 address within the frame into the form of packet.Addr.
func (b *builder) address4(to, from int16) {
	b.emit(asm.Mov.Imm(asm.R1, 0))
	b.set(to, asm.R1, asm.DWord)
	b.emit(asm.Mov.Imm(asm.R1, mapped()))
	b.set(to+8, asm.R1, asm.Word)
	b.get(asm.R1, from, asm.Word)
	b.set(to+12, asm.R1, asm.Word)
}

// ipv6 reads an IPv6 header and leaves what head leaves.
func (b *builder) ipv6() {
	b.here(toIPv6)
	b.emit(asm.JLT.Imm(end, ipv6Header, b.refused(reasonShort)))
	b.loadHead(ipv6Header)
	b.copy(atTuple+keySrc, atHead+ipv6Src, 4) // both addresses
	b.getBE(asm.R1, atHead+ipv6Payload, asm.Half)
	b.emit(
		asm.Add.Imm(asm.R1, ipv6Header),
		asm.JGT.Reg(asm.R1, end, b.refused(reasonLength)),
		asm.Mov.Reg(end, asm.R1),
		asm.Mov.Imm(transport, ipv6Header),
	)
	b.get(about, atHead+ipv6Next, asm.Byte)
	b.emit(asm.JEq.Imm(about, ipv6FragmentNext, toFragment6))
	for _, extension := range []int32{0, 43, 50, 51, 59, 60, 135, 139, 140, 253, 254} {
		b.emit(asm.JEq.Imm(about, extension, b.refused(reasonExtension)))
	}
	b.notMapped(b.refused(reasonAddress))
	b.get(asm.R1, atTuple+keySrc, asm.Byte)
	b.emit(asm.JEq.Imm(asm.R1, 0xff, b.refused(reasonAddress))) // multicast
	b.get(asm.R1, atTuple+keySrc, asm.DWord)
	b.emit(asm.JNE.Imm(asm.R1, 0, toTransport))
	b.getBE(asm.R1, atTuple+keySrc+8, asm.DWord)
	b.emit(
		asm.JLE.Imm(asm.R1, 1, b.refused(reasonAddress)), // unspecified, loopback
		asm.Ja.Label(toTransport),
	)
}

// notMapped jumps to label where one of the tuple's IPv6 addresses would pass for
// an IPv4 address.
func (b *builder) notMapped(label string) {
	for _, at := range []int16{atTuple + keySrc, atTuple + keyDst} {
		is6 := b.fresh("is IPv6")
		b.get(asm.R1, at, asm.DWord)
		b.emit(asm.JNE.Imm(asm.R1, 0, is6))
		b.get(asm.R1, at+8, asm.Word)
		b.emit(asm.JEq.Imm32(asm.R1, mapped(), label))
		b.here(is6)
	}
}

// fragments are dropped unless their source has flows: those of which TCP's
// packets could be put together. The rest says which of two reasons it is.
func (b *builder) fragments() {
	b.here(toFragment4)
	b.emit(
		asm.JGT.Imm(transport, ipv4Header, b.refused(reasonFragment)),
		asm.JNE.Imm(about, protoTCP, b.refused(reasonFragment)),
	)
	b.ask(kindSite)
	b.passListed()
	b.getBE(asm.R1, atHead+ipv4Flags, asm.Half)
	b.emit(
		asm.And.Imm(asm.R1, ipv4Offset),
		asm.Ja.Label(toFragment),
	)

	b.here(toFragment6)
	b.emit(
		asm.Mov.Reg(asm.R1, end),
		asm.Sub.Imm(asm.R1, ipv6FragmentHeader),
		asm.JLT.Reg(asm.R1, transport, b.refused(reasonFragment)),
	)
	b.load(0, atSegment, ipv6FragmentHeader)
	b.emit(asm.Add.Imm(transport, ipv6FragmentHeader))
	b.getBE(asm.R1, atSegment+ipv6FragmentFlags, asm.Half)
	b.emit(
		asm.And.Imm(asm.R1, ipv6Offset|ipv6More),
		asm.JEq.Imm(asm.R1, 0, b.refused(reasonFragment)), // all of its packet
	)
	b.get(about, atSegment, asm.Byte)
	b.emit(asm.JNE.Imm(about, protoTCP, b.refused(reasonFragment)))
	b.notMapped(b.refused(reasonFragment))
	b.get(asm.R1, atTuple+keySrc, asm.DWord)
	b.set(atAsk+keySrc, asm.R1, asm.DWord)
	b.emit(asm.Mov.Imm(asm.R1, 0))
	b.set(atAsk+keySrc+8, asm.R1, asm.DWord) // its /64
	b.askRest(kindSite)
	b.hashOf(atAsk)
	b.passListed()
	b.getBE(asm.R1, atSegment+ipv6FragmentFlags, asm.Half)
	b.emit(asm.And.Imm(asm.R1, ipv6Offset))

	b.here(toFragment)
	b.emit(asm.JNE.Imm(asm.R1, 0, b.refused(reasonFragment)))
	b.tcpHeader(b.refused(reasonTinyFragment))
	b.emit(asm.Ja.Label(b.refused(reasonFragment)))
}

// transport goes on with the protocol of a whole packet.
func (b *builder) transport() {
	other := b.fresh("another destination")
	b.here(toTransport)
	for i := int16(0); i < 16; i += 8 {
		b.get(asm.R1, atTuple+keySrc+i, asm.DWord)
		b.get(asm.R2, atTuple+keyDst+i, asm.DWord)
		b.emit(asm.JNE.Reg(asm.R1, asm.R2, other))
	}
	b.emit(asm.Ja.Label(b.refused(reasonAddress))) // a LAND packet
	b.here(other)
	b.emit(
		asm.JEq.Imm(about, protoTCP, toTCP),
		asm.JEq.Imm(about, protoUDP, toUDP),
		asm.JEq.Imm(about, protoICMP, toICMP),
		asm.JEq.Imm(about, protoICMPv6, toICMPv6),
		asm.Ja.Label(b.refused(reasonProtocol)),
	)
}

// ports copies the ports at atSegment into the tuple; neither may be 0.
func (b *builder) ports() {
	b.get(asm.R1, atSegment, asm.Half)
	b.emit(asm.JEq.Imm(asm.R1, 0, b.refused(reasonPort)))
	b.set(atTuple+keySrcPort, asm.R1, asm.Half)
	b.get(asm.R1, atSegment+2, asm.Half)
	b.emit(asm.JEq.Imm(asm.R1, 0, b.refused(reasonPort)))
	b.set(atTuple+keyDstPort, asm.R1, asm.Half)
}
