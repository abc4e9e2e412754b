package filter

import (
	"github.com/cilium/ebpf/asm"

	"github.com/knockgw/knockgw/packet"
)

// Where fields of a TCP header are. (RFC 9293, 3.1.)
const (
	tcpHeader                              = 20
	tcpSeq, tcpOffset, tcpFlags, tcpWindow = 4, 12, 13, 14
)

// tcpHeader loads a TCP header to atSegment and leaves its length in R1; it jumps
// to label where it is cut short.
func (b *builder) tcpHeader(label string) {
	b.emit(
		asm.Mov.Reg(asm.R1, end),
		asm.Sub.Reg(asm.R1, transport),
		asm.JLT.Imm(asm.R1, tcpHeader, label),
	)
	b.load(0, atSegment, tcpHeader)
	b.get(asm.R1, atSegment+tcpOffset, asm.Byte)
	b.emit(
		asm.RSh.Imm(asm.R1, 4),
		asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, tcpHeader, label),
		asm.Mov.Reg(asm.R2, end),
		asm.Sub.Reg(asm.R2, transport),
		asm.JGT.Reg(asm.R1, asm.R2, label),
	)
}

// tcp judges a segment, as Gate.admitTCP does.
func (b *builder) tcp() {
	isSYN, known := b.fresh("syn"), b.fresh("known")
	b.here(toTCP)
	b.tcpHeader(b.refused(reasonTransport))
	b.ports()
	b.takes(protoTCP)
	b.get(asm.R1, atSegment+tcpFlags, asm.Byte)
	b.emit(
		asm.And.Imm(asm.R1, packet.SYN|packet.ACK|packet.RST|packet.FIN),
		asm.JEq.Imm(asm.R1, packet.SYN, isSYN),
	)

	b.emit(asm.JEq.Imm(about, 0, b.refused(reasonNotService)))
	b.hashOf(atTuple)
	b.passListed()
	// An answer to a SYN cookie?
	b.get(asm.R1, atSegment+tcpFlags, asm.Byte)
	b.emit(
		asm.And.Imm(asm.R1, packet.SYN|packet.ACK|packet.RST),
		asm.JNE.Imm(asm.R1, packet.ACK, b.refused(reasonNoFlow)),
		asm.And.Imm(about, takesAll),
		asm.JEq.Imm(about, 0, b.refused(reasonNoFlow)),
	)
	b.control(asm.R1, controlTick)
	b.control(asm.R2, controlFlooded)
	b.emit(
		asm.JLT.Reg(asm.R1, asm.R2, toPass),
		asm.Ja.Label(b.refused(reasonNoFlow)),
	)

	// A knock? First of all, and whoever sends it: its source is to be marked.
	b.here(isSYN)
	b.control(asm.R1, controlLegacy)
	b.emit(
		asm.Mov.Reg(asm.R2, about),
		asm.And.Imm(asm.R2, takesSYN),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.JEq.Imm(asm.R1, 0, known),
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Reg(asm.R2, transport),
	)
	b.get(asm.R3, atSegment+tcpOffset, asm.Byte)
	b.emit(
		asm.RSh.Imm(asm.R3, 4),
		asm.LSh.Imm(asm.R3, 2),
		asm.Add.Reg(asm.R3, transport),
		asm.Add.Imm(asm.R2, tcpHeader),
		asm.Call.Label(subTimestamp),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.RSh.Imm(asm.R2, 32),
		asm.JNE.Imm(asm.R2, 0, known), // it has none
	)
	b.getBE(asm.R1, atSegment+tcpSeq, asm.Word)
	b.emit(
		asm.LSh.Imm(asm.R1, 32),
		asm.Or.Reg(asm.R1, asm.R0),
	)
	b.set(atAsk, asm.R1, asm.DWord)
	b.getBE(asm.R1, atSegment+tcpWindow, asm.Half)
	b.set(atAsk+8, asm.R1, asm.DWord)
	b.passExpected()

	b.here(known)
	b.emit(
		asm.JEq.Imm(about, 0, b.refused(reasonNotService)),
		asm.And.Imm(about, takesAll),
		asm.JNE.Imm(about, 0, toPass),
	)
	b.ask(kindSource)
	b.set(atTag, asm.R0, asm.DWord)
	b.passListed()
	b.passMarked()
	b.emit(asm.Ja.Label(b.refused(reasonNoGrant)))
}

// timestamp is a subprogram: the Timestamps option's value (RFC 7323, 3.2) of the
// TCP options from R2 to R3 of the packet R1, in R0; all ones where there is none.
// It reads as admission does. There is one way only from an option to the next:
// the verifier follows each of two, forty times in a row.
func (b *builder) timestamp() {
	const (
		skb, at, last, left = asm.R6, asm.R7, asm.R8, asm.R9
		size, other, step   = asm.R2, asm.R3, asm.R4
		option              = -8 // in the frame

		most                  = 40 // bytes of options, each of which could be one
		nop, timestamps       = 1, 8<<8 | 10
		next, found, notThere = "timestamp next", "timestamp found", "timestamp not there"
	)
	load := func(n int32) {
		b.emit(
			asm.Mov.Reg(asm.R1, skb),
			asm.Mov.Reg(asm.R2, at),
			asm.Mov.Reg(asm.R3, frame),
			asm.Add.Imm(asm.R3, option),
			asm.Mov.Imm(asm.R4, n),
			asm.FnSkbLoadBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, notThere),
		)
	}
	b.here(subTimestamp)
	b.emit(
		asm.Mov.Reg(skb, asm.R1),
		asm.Mov.Reg(at, asm.R2),
		asm.Mov.Reg(last, asm.R3),
		asm.Mov.Imm(left, most),
	)
	b.here(next)
	b.emit(
		asm.JEq.Imm(left, 0, notThere),
		asm.Sub.Imm(left, 1),
		asm.JGE.Reg(at, last, notThere),
	)
	load(2) // beyond the last byte there is no value either
	b.getBE(asm.R1, option, asm.Half)
	b.get(size, option+1, asm.Byte)
	b.emit(asm.Mov.Reg(other, asm.R1), asm.RSh.Imm(other, 8))
	b.emit(
		asm.JEq.Imm(other, 0, notThere), // the end of the options
		// other = 0 for a NOP, and 1 otherwise
		asm.Xor.Imm(other, nop),
		asm.Neg.Imm(other, 0),
		asm.RSh.Imm(other, 63),
		// a NOP has no size; another option has 2 at least
		asm.Mov.Reg(step, size),
		asm.Sub.Imm(step, 2),
		asm.RSh.Imm(step, 63),
		asm.And.Reg(step, other),
		asm.JNE.Imm(step, 0, notThere),
		// step = 1, or size
		asm.Mov.Reg(step, size),
		asm.Sub.Imm(step, 1),
		asm.Mul.Reg(step, other),
		asm.Add.Imm(step, 1),
		asm.Add.Reg(step, at),
		asm.JGT.Reg(step, last, notThere),
		asm.JEq.Imm(asm.R1, timestamps, found),
		asm.Mov.Reg(at, step),
		asm.Ja.Label(next),
	)

	b.here(found)
	b.emit(asm.Add.Imm(at, 2))
	load(4)
	b.getBE(asm.R0, option, asm.Word)
	b.emit(asm.Return())
	b.here(notThere)
	b.emit(asm.Mov.Imm(asm.R0, -1), asm.Return())
}
