package filter

import (
	"math"

	"github.com/cilium/ebpf/asm"
)

// The program. A packet on its way through it:
//
//	head        version, lengths, options, addresses     ip_linux.go
//	fragment    of a source that has flows?                       pass
//	transport   lengths, ports                           tcp_linux.go, udp_linux.go, icmp_linux.go
//	            to a service, or to a port that takes knocks?
//	datagram    shaped like a knock                               mark the source, pass
//	SYN         an expected knock                                 mark the source, pass
//	            to an open service; of a known source, or a
//	            marked one                                        pass
//	TCP else    of a flow; an ACK while SYN cookies are about     pass
//	ICMP error  about a flow                                      pass
//	refused     of a traced source, or while everything passes    pass
//	drop        counted
//
// Each check is that of packet.Packet.Parse and admission.Gate.Admit, in their
// order, so that the reasons are the same.

// mapFDs are the maps that the program reads and writes.
type mapFDs struct {
	control, listed, expected, marks, ports, dropped int
}

// builder makes the program.
type builder struct {
	assembler
	maps            mapFDs
	secret          secret
	listedBuckets   int
	expectedBuckets int
}

// build returns the program's instructions.
func (b *builder) build() asm.Instructions {
	for _, part := range b.parts() {
		part()
	}
	return b.code
}

// parts are what the program consists of, in order. None goes over into the next.
func (b *builder) parts() []func() {
	return []func(){
		b.head, b.ipv6, b.fragments, b.transport, b.tcp, b.udp, b.icmp, b.knock, b.verdict,
		// Subprograms.
		func() { b.hash(b.secret) },
		func() { b.find(subListed, b.maps.listed, b.listedBuckets) },
		func() { b.find(subExpected, b.maps.expected, b.expectedBuckets) },
		b.timestamp,
	}
}

// verdict ends every way through the program.
func (b *builder) verdict() {
	for r := range reasonCount {
		if b.refuse[r] {
			b.here(b.refused(r))
			b.emit(asm.Mov.Imm(about, int32(r)))
			if r == reasonShort || r == reasonVersion {
				b.emit(asm.Ja.Label(toDrop)) // there is no source that could be traced
			} else {
				b.emit(asm.Ja.Label(toRefuse))
			}
		}
	}
	b.here(toRefuse)
	b.control(asm.R1, controlTraced)
	b.emit(asm.JEq.Imm(asm.R1, 0, toDrop))
	b.ask(kindTraced)
	b.passListed()

	b.here(toDrop)
	b.control(asm.R1, controlTick)
	b.control(asm.R2, controlPassing)
	b.emit(asm.JLT.Reg(asm.R1, asm.R2, toPass))
	b.set(atIndex, about, asm.Word)
	b.lookUp(b.maps.dropped, atIndex)
	b.emit(
		asm.JEq.Imm(asm.R0, 0, toPass), // never, but the verifier does not know
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord), // each processor has a count of its own
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)

	b.here(toPass)
	b.emit(
		asm.LoadMem(asm.R0, skb, skbLength, asm.Word),
		asm.Return(),
	)
}

// skbLength is where struct __sk_buff has the packet's length. What the program
// returns is how much of the packet is kept.
const skbLength = 0

// control loads a field of the control map.
func (b *builder) control(to asm.Register, field uint32) {
	b.emit(
		asm.LoadMapValue(to, b.maps.control, 8*field),
		asm.LoadMem(to, to, 0, asm.DWord),
	)
}

// lookUp leaves in R0 where a map's value is, for the map's key in the frame; 0
// if there is none.
func (b *builder) lookUp(fd int, key int16) {
	b.emit(
		asm.LoadMapPtr(asm.R1, fd),
		asm.Mov.Reg(asm.R2, frame),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
	)
}

// The control map is one value with these fields of 8 bytes.
const (
	controlTick    = iota // what time it is, in ticks
	controlPassing        // everything passes until then
	controlFlooded        // stray ACKs to open services pass until then
	controlTraced         // how many sources are traced
	controlBase           // index of the first bucket of the current table of expected knocks
	controlAny            // not 0: whatever could be an expected knock is one
	controlLegacy         // not 0: a SYN to any port may be a knock
	controlFields
)

// forever is a tick that never comes.
const forever = math.MaxUint64
