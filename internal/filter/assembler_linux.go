package filter

import (
	"strconv"

	"github.com/cilium/ebpf/asm"
)

// An assembler collects instructions. What the program keeps for all of its way
// is in the registers that calls leave alone.
type assembler struct {
	code   asm.Instructions
	label  string            // of the next instruction
	labels int               // made by fresh
	refuse [reasonCount]bool // reasons for which there is a jump
}

const (
	skb       = asm.R6 // the socket buffer
	transport = asm.R7 // where the transport header begins
	end       = asm.R8 // where the packet ends, by its IP header
	about     = asm.R9 // protocol; then what its service takes; at the end the reason
	frame     = asm.R10
)

// The frame: what is in memory, below frame.
const (
	atTuple   = -keySize            // the packet's addresses and ports, a key of kindFlow
	atAsk     = atTuple - keySize   // whatever other key is asked for
	atHead    = atAsk - headSize    // an IP header
	atSegment = atHead - segment    // a transport header, or the part of it that counts
	atTrie    = atSegment - trieKey // where the packet goes to
	atTag     = atTrie - 8          // a tag that is needed again
	atIndex   = atTag - 8           // a map's index

	headSize = 40 // an IPv6 header
	segment  = 24 // a TCP header without options, in whole words
)

// Labels. Those of subprograms are called, not jumped to.
const (
	subHash      = "hash"
	subListed    = "listed"
	subExpected  = "expected"
	subTimestamp = "timestamp"
	toIPv6       = "ipv6"
	toFragment4  = "fragment4"
	toFragment6  = "fragment6"
	toFragment   = "fragment"
	toTransport  = "transport"
	toTCP        = "tcp"
	toUDP        = "udp"
	toICMP       = "icmp"
	toICMPv6     = "icmpv6"
	toQuoted     = "quoted"
	toKnock      = "knock"
	toPass       = "pass"
	toRefuse     = "refuse"
	toDrop       = "drop"
)

// emit appends instructions.
func (a *assembler) emit(code ...asm.Instruction) {
	if a.label != "" {
		code[0] = code[0].WithSymbol(a.label)
		a.label = ""
	}
	a.code = append(a.code, code...)
}

// here gives the next instruction a label.
func (a *assembler) here(label string) {
	if a.label != "" { // two labels for one instruction are not to be had
		a.emit(asm.Mov.Reg(asm.R0, asm.R0))
	}
	a.label = label
}

// fresh makes a label that no other place has.
func (a *assembler) fresh(name string) string {
	a.labels++
	return name + " " + strconv.Itoa(a.labels)
}

// refused is the label that drops a packet for a reason, if nothing speaks for it.
func (a *assembler) refused(r Reason) string {
	a.refuse[r] = true
	return "refused " + r.String()
}

// load copies size bytes of the packet, more bytes behind transport, to the frame.
// The caller has compared with end.
func (a *assembler) load(more int32, to int16, size int32) {
	a.emit(asm.Mov.Reg(asm.R2, transport))
	if more != 0 {
		a.emit(asm.Add.Imm(asm.R2, more))
	}
	a.loadAt(to, size)
}

// loadHead copies the first size bytes of the packet to atHead.
func (a *assembler) loadHead(size int32) {
	a.emit(asm.Mov.Imm(asm.R2, 0))
	a.loadAt(atHead, size)
}

// loadAt copies size bytes of the packet, from where R2 says, to the frame. If they
// are not there, which it does not come to, the packet passes.
func (a *assembler) loadAt(to int16, size int32) {
	a.emit(
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Reg(asm.R3, frame),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, size),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, toPass),
	)
}

// get loads a number of the frame, in the order of bytes of this machine.
func (a *assembler) get(to asm.Register, at int16, size asm.Size) {
	a.emit(asm.LoadMem(to, frame, at, size))
}

// getBE loads a number of the frame that is as on the wire.
func (a *assembler) getBE(to asm.Register, at int16, size asm.Size) {
	a.emit(asm.LoadMem(to, frame, at, size), asm.HostTo(asm.BE, to, size))
}

// set stores a register in the frame.
func (a *assembler) set(at int16, from asm.Register, size asm.Size) {
	a.emit(asm.StoreMem(frame, at, from, size))
}

// copy copies words of 8 bytes from one place of the frame to another.
func (a *assembler) copy(to, from int16, words int) {
	for i := range words {
		a.get(asm.R1, from+int16(8*i), asm.DWord)
		a.set(to+int16(8*i), asm.R1, asm.DWord)
	}
}

// hashOf leaves the tag of the key in the frame in R0.
func (a *assembler) hashOf(at int16) {
	a.emit(
		asm.Mov.Reg(asm.R1, frame),
		asm.Add.Imm(asm.R1, int32(at)),
		asm.Call.Label(subHash),
	)
}

// ask makes the key at atAsk that of the packet's source, and leaves its tag in R0.
func (a *assembler) ask(kind uint32) {
	a.copy(atAsk+keySrc, atTuple+keySrc, 2)
	a.askRest(kind)
	a.hashOf(atAsk)
}

// askRest fills in what follows the first two words of the key at atAsk.
func (a *assembler) askRest(kind uint32) {
	a.emit(asm.Mov.Imm(asm.R1, 0))
	a.set(atAsk+keyDst, asm.R1, asm.DWord)
	a.set(atAsk+keyDst+8, asm.R1, asm.DWord)
	a.set(atAsk+keySrcPort, asm.R1, asm.Word)
	a.emit(asm.Mov.Imm(asm.R1, int32(kind)))
	a.set(atAsk+keyKind, asm.R1, asm.Word)
}

// passListed passes the packet if the tag in R0 is in the table.
func (a *assembler) passListed() {
	a.emit(
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Mov.Imm(asm.R2, 0),
		asm.Call.Label(subListed),
		asm.JNE.Imm(asm.R0, 0, toPass),
	)
}
