package filter

import (
	"encoding/binary"
	"math/bits"

	"github.com/knockgw/knockgw/packet"
)

// A key is what a fingerprint stands for: union key in bpf/siphash.h, in five
// words as both sides read them from memory. Addresses and ports are as on the
// wire, an IPv4 address as packet.Addr has it.
type key [keyWords]uint64

const (
	keyWords = 5
	keySize  = 8 * keyWords // bytes
)

// The kinds of keys.
const (
	kindFlow     = programKeyKindKEY_FLOW
	kindSource   = programKeyKindKEY_SOURCE
	kindSubnet   = programKeyKindKEY_SUBNET // that has flows
	kindTraced   = programKeyKindKEY_TRACED // a source
	kindExpected = programKeyKindKEY_EXPECTED
)

// lastWord returns the last word of a key: ports and kind.
func lastWord(srcPort, dstPort uint16, kind programKeyKind) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint16(b[0:], srcPort)
	binary.BigEndian.PutUint16(b[2:], dstPort)
	binary.NativeEndian.PutUint32(b[4:], uint32(kind))
	return binary.NativeEndian.Uint64(b[:])
}

// addrWords returns the two words of an address.
func addrWords(a *packet.Addr) (uint64, uint64) {
	return binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])
}

func flowKey(t *packet.Tuple) (k key) {
	k[0], k[1] = addrWords(&t.Src)
	k[2], k[3] = addrWords(&t.Dst)
	k[4] = lastWord(t.SrcPort, t.DstPort, kindFlow)
	return k
}

func addrKey(a *packet.Addr, kind programKeyKind) (k key) {
	k[0], k[1] = addrWords(a)
	k[4] = lastWord(0, 0, kind)
	return k
}

func expectedKey(a uint64, b uint16) key {
	return key{a, uint64(b), 0, 0, lastWord(0, 0, kindExpected)}
}

// secret keys the hash. An attacker who could choose colliding keys could fill a
// bucket, and with it make the filter pass every packet.
type secret [2]uint64

// SipHash-1-3 (Aumasson, Bernstein 2012): one round for each word, three at the
// end. bpf/siphash.h has the same in C.
const (
	sip0, sip1, sip2, sip3 = 0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261, 0x7465646279746573
	sipLength              = keySize << 56 // the last word: how many bytes there were
	sipEnd                 = 0xff
)

// hash returns the fingerprint of k. It is never 0, which is a free slot: its
// lowest bit is set.
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
