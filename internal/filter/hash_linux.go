package filter

import (
	"encoding/binary"
	"math/bits"

	"github.com/cilium/ebpf/asm"

	"github.com/knockgw/knockgw/packet"
)

// A key is what a tag stands for, in five words as both sides read them from
// memory:
//
//	0        16       32       34       36     40
//	source   dest.    s. port  d. port  kind      kindFlow
//	address  0        0        0        kind      kindSource, kindSite, kindTraced
//	fields   0        0        0        kind      kindExpected: u64, u16 in words 0 and 1
//
// Addresses and ports are as on the wire, an IPv4 address as packet.Addr has it.
type key [keyWords]uint64

const (
	keyWords = 5
	keySize  = 8 * keyWords

	// Where the parts of a key are, in bytes.
	keySrc, keyDst, keySrcPort, keyDstPort, keyKind = 0, 16, 32, 34, 36
)

// The kinds of keys.
const (
	kindFlow = iota + 1
	kindSource
	kindSite
	kindTraced
	kindExpected
)

// last is the last word of a key: ports and kind.
func last(srcPort, dstPort uint16, kind uint32) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint16(b[0:], srcPort)
	binary.BigEndian.PutUint16(b[2:], dstPort)
	binary.NativeEndian.PutUint32(b[4:], kind)
	return binary.NativeEndian.Uint64(b[:])
}

func words(a *packet.Addr) (uint64, uint64) {
	return binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])
}

func flowKey(t *packet.Tuple) (k key) {
	k[0], k[1] = words(&t.Src)
	k[2], k[3] = words(&t.Dst)
	k[4] = last(t.SrcPort, t.DstPort, kindFlow)
	return k
}

func addrKey(a *packet.Addr, kind uint32) (k key) {
	k[0], k[1] = words(a)
	k[4] = last(0, 0, kind)
	return k
}

func expectedKey(a uint64, b uint16) key {
	return key{a, uint64(b), 0, 0, last(0, 0, kindExpected)}
}

// secret keys the hash. Whoever could choose what collides could fill a bucket,
// and with it have every packet passed.
type secret [2]uint64

// SipHash-1-3 (Aumasson, Bernstein 2012): one round for each word, three at the
// end. Here in Go; as instructions below.
const (
	sip0, sip1, sip2, sip3 = 0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261, 0x7465646279746573
	sipLength              = keySize << 56 // the last word: how many bytes there were
	sipEnd                 = 0xff
)

// hash returns the tag of k. It is never 0, which is an empty place: its lowest
// bit is set.
func (s *secret) hash(k *key) uint64 {
	v0, v1, v2, v3 := s[0]^sip0, s[1]^sip1, s[0]^sip2, s[1]^sip3
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	for _, m := range k {
		v3 ^= m
		round()
		v0 ^= m
	}
	v3 ^= sipLength
	round()
	v0 ^= sipLength
	v2 ^= sipEnd
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3 | 1
}

// hash is the subprogram subHash: the tag, in R0, of the key at R1.
func (a *assembler) hash(s secret) {
	const v0, v1, v2, v3, word, k = asm.R0, asm.R2, asm.R3, asm.R4, asm.R5, asm.R1
	rotate := func(v asm.Register, n int32) {
		a.emit(
			asm.Mov.Reg(word, v),
			asm.LSh.Imm(v, n),
			asm.RSh.Imm(word, 64-n),
			asm.Or.Reg(v, word),
		)
	}
	round := func() {
		a.emit(asm.Add.Reg(v0, v1))
		rotate(v1, 13)
		a.emit(asm.Xor.Reg(v1, v0))
		rotate(v0, 32)
		a.emit(asm.Add.Reg(v2, v3))
		rotate(v3, 16)
		a.emit(asm.Xor.Reg(v3, v2), asm.Add.Reg(v0, v3))
		rotate(v3, 21)
		a.emit(asm.Xor.Reg(v3, v0), asm.Add.Reg(v2, v1))
		rotate(v1, 17)
		a.emit(asm.Xor.Reg(v1, v2))
		rotate(v2, 32)
	}
	take := func(load asm.Instruction) {
		a.emit(load, asm.Xor.Reg(v3, word))
		round()
		a.emit(load, asm.Xor.Reg(v0, word))
	}
	a.here(subHash)
	a.emit(
		asm.LoadImm(v0, int64(s[0]^sip0), asm.DWord),
		asm.LoadImm(v1, int64(s[1]^sip1), asm.DWord),
		asm.LoadImm(v2, int64(s[0]^sip2), asm.DWord),
		asm.LoadImm(v3, int64(s[1]^sip3), asm.DWord),
	)
	for i := range keyWords {
		take(asm.LoadMem(word, k, int16(8*i), asm.DWord))
	}
	take(asm.LoadImm(word, sipLength, asm.DWord))
	a.emit(asm.Xor.Imm(v2, sipEnd))
	round()
	round()
	round()
	a.emit(
		asm.Xor.Reg(v0, v1),
		asm.Xor.Reg(v0, v2),
		asm.Xor.Reg(v0, v3),
		asm.Or.Imm(v0, 1),
		asm.Return(),
	)
}
