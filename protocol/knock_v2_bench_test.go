package protocol

import (
	"crypto/rand"
	"fmt"
	"testing"
)

func BenchmarkKnockV2Hint(b *testing.B) {
	c, s := testClient(b, "a"), NewScratch()
	b.ReportAllocs()
	for b.Loop() {
		c.KnockV2Hint(s, testGateway, testPort, testSlot)
	}
}

// A datagram without a valid hint: parsing, and a lookup in a table of three
// slots per client.
func BenchmarkMissKnockV2(b *testing.B) {
	for _, clients := range []int{1, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s, table := NewScratch(), map[HintV2]uint32{}
			for i := range clients {
				c := testClient(b, fmt.Sprint(i))
				for slot := range int64(3) {
					table[c.KnockV2Hint(s, testGateway, testPort, slot)] = uint32(i)
				}
			}
			junk := make([]byte, 1024*KnockV2Size) // not one datagram again and again: its hash would be cached
			if _, err := rand.Read(junk); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				k, err := ParseKnockV2(junk[at : at+KnockV2Size])
				if err != nil {
					b.Fatal(err)
				}
				if _, found := table[k.Hint()]; found {
					b.Fatal("found")
				}
				at = (at + KnockV2Size) % len(junk)
			}
		})
	}
}

func BenchmarkOpenKnockV2(b *testing.B) {
	c, s := testClient(b, "a"), NewScratch()
	knock := testKnockV2(b, c, KnockV2Message{Time: 1})
	for _, forged := range []bool{false, true} {
		raw, want, name := knock, error(nil), "genuine"
		if forged { // what an observer of the slot's hint can make the receiver do
			raw, want, name = altered(knock, KnockV2Size-1, knock[KnockV2Size-1]^1), ErrSealed, "forged"
		}
		b.Run(name, func(b *testing.B) {
			k := parsedKnockV2(b, raw)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Open(s, c, testGateway, testPort, testSlot); err != want {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendKnockV2(b *testing.B) {
	c := testClient(b, "a")
	for b.Loop() {
		if _, err := AppendKnockV2(nil, c, testGateway, testPort, testSlot, &KnockV2Message{}, rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
