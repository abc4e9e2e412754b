package filter

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/knockgw/knockgw/packet"
)

// What the services take is in a trie of address prefixes, by protocol and port.
// Its key, with the length that the kernel wants in front:
//
//	u32 bits || u8 protocol || u8 size of the IP header || u16 port, as on the wire || 16 address
//
// (The size says which family it is: ::/0 has no IPv4 address in it.)
const (
	trieKey                                   = 24
	trieProto, trieFamily, triePort, trieAddr = 4, 5, 6, 8
	trieBitsBeforeAddr, trieBitsMost          = 32, 32 + 128
	mappedBits                                = 96 // of an IPv4 address's form in packet.Addr
)

// What a service takes, the value in the trie.
const (
	takesFlows = 1 << iota // those of whom it admits: it is there
	takesAll               // it is open to strangers
	takesSYN               // SYN knocks
	takesV1                // v1 datagrams
	takesV2                // udp-v2 datagrams
)

// port is an entry of the trie.
type port struct {
	proto  uint8
	port   uint16
	prefix netip.Prefix
}

func (p port) key() [trieKey]byte {
	var k [trieKey]byte
	length := trieBitsBeforeAddr + p.prefix.Bits()
	if p.prefix.Addr().Is4() {
		length += mappedBits
	}
	binary.NativeEndian.PutUint32(k[:], uint32(length))
	k[trieProto], k[trieFamily] = p.proto, ipv6Header
	if p.prefix.Addr().Is4() {
		k[trieFamily] = ipv4Header
	}
	binary.BigEndian.PutUint16(k[triePort:], p.port)
	a := packet.AddrFrom(p.prefix.Masked().Addr())
	copy(k[trieAddr:], a[:])
	return k
}

// ports lists what is taken where. The trie knows of an address only the longest
// prefix that has it, so what is taken there is all that the prefixes around it
// take too.
func (p *Policy) ports() map[port]uint64 {
	all := make(map[port]uint64)
	for _, s := range p.Services {
		takes := uint64(takesFlows)
		if s.Open {
			takes |= takesAll
		}
		if s.SYN {
			takes |= takesSYN
		}
		all[port{protoTCP, s.Port, s.Listen}] |= takes
		takes = 0
		if s.UDP {
			takes |= takesV1
		}
		if s.UDPv2 {
			takes |= takesV2
		}
		if takes == 0 {
			continue
		}
		all[port{protoUDP, s.Port, s.Listen}] |= takes
		if p.KnockPort != 0 {
			all[port{protoUDP, p.KnockPort, s.Listen}] |= takes
		}
	}
	inherit(all)
	return all
}

// inherit adds to what each prefix takes what those around it take. In the order
// of addresses, a prefix comes after all that contain it, so that these are on a
// stack when it is reached.
func inherit(all map[port]uint64) {
	order := slices.SortedFunc(maps.Keys(all), func(a, b port) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port),
			a.prefix.Masked().Addr().Compare(b.prefix.Masked().Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	var around []port
	for _, p := range order {
		for len(around) > 0 && !around[len(around)-1].contains(p) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			all[p] |= all[around[len(around)-1]] // which has what is around it
		}
		around = append(around, p)
	}
}

// contains reports whether all of o is in p.
func (p port) contains(o port) bool {
	return p.proto == o.proto && p.port == o.port && p.prefix.Bits() <= o.prefix.Bits() && p.prefix.Contains(o.prefix.Addr())
}

// takes leaves in about what is taken where the packet goes to, 0 for nothing.
// transport is still the size of the IP header.
func (b *builder) takes(proto int32) {
	none := b.fresh("takes nothing")
	b.emit(asm.Mov.Imm(asm.R1, trieBitsMost))
	b.set(atTrie, asm.R1, asm.Word)
	b.emit(asm.Mov.Imm(asm.R1, proto))
	b.set(atTrie+trieProto, asm.R1, asm.Byte)
	b.set(atTrie+trieFamily, transport, asm.Byte)
	b.get(asm.R1, atTuple+keyDstPort, asm.Half)
	b.set(atTrie+triePort, asm.R1, asm.Half)
	b.copy(atTrie+trieAddr, atTuple+keyDst, 2)
	b.lookUp(b.maps.ports, atTrie)
	b.emit(
		asm.Mov.Imm(about, 0),
		asm.JEq.Imm(asm.R0, 0, none),
		asm.LoadMem(about, asm.R0, 0, asm.DWord),
	)
	b.here(none)
}

// passExpected takes the packet for a knock if one is expected that has the fields
// in the first two words at atAsk.
func (b *builder) passExpected() {
	b.control(asm.R1, controlAny)
	b.emit(asm.JNE.Imm(asm.R1, 0, toKnock))
	b.askRest(kindExpected)
	b.hashOf(atAsk)
	b.control(asm.R2, controlBase)
	b.emit(
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Call.Label(subExpected),
		asm.JNE.Imm(asm.R0, 0, toKnock),
	)
	// Asked again: the table may have been swapped for one that is too full.
	b.control(asm.R1, controlAny)
	b.emit(asm.JNE.Imm(asm.R1, 0, toKnock))
}

// Marks are by the tag of a source; those whose tags agree in these bits share one.
const (
	markBits = 17
	marks    = 1 << markBits
)

// mark leaves in R0 where the mark is of the source whose tag is in R1.
func (b *builder) mark() {
	b.emit(asm.RSh.Imm(asm.R1, 64-markBits))
	b.set(atIndex, asm.R1, asm.Word)
	b.lookUp(b.maps.marks, atIndex)
}

// knock passes what is or could be a knock, and marks its source, whose SYN may come
// before the gate has seen the knock.
func (b *builder) knock() {
	b.here(toKnock)
	b.ask(kindSource)
	b.emit(asm.Mov.Reg(asm.R1, asm.R0))
	b.mark()
	b.emit(asm.JEq.Imm(asm.R0, 0, toPass)) // never, but the verifier does not know
	b.control(asm.R1, controlTick)
	b.emit(
		asm.Add.Imm(asm.R1, markTicks),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Ja.Label(toPass),
	)
}

// passMarked passes the packet if the source whose tag is at atTag is marked.
func (b *builder) passMarked() {
	b.get(asm.R1, atTag, asm.DWord)
	b.mark()
	b.emit(
		asm.JEq.Imm(asm.R0, 0, toPass), // never, likewise
		asm.LoadMem(asm.R2, asm.R0, 0, asm.DWord),
	)
	b.control(asm.R1, controlTick)
	b.emit(asm.JLT.Reg(asm.R1, asm.R2, toPass))
}
