package protocol

import (
	"bytes"
	"testing"
)

// FuzzKnockV2 gives arbitrary bytes to the parser and, because these have no
// hint, to Open with the hint put right.
func FuzzKnockV2(f *testing.F) {
	for _, v := range loadKnockV2Vectors(f) {
		f.Add([]byte(v.Datagram))
	}
	c, s := testClient(f, "a"), NewScratch()
	hint := c.KnockV2Hint(s, testGateway, testPort, testSlot)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKnockV2(b)
		if (err == nil) != (len(b) == KnockV2Size) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err != nil {
			return
		}
		if _, err := k.Open(s, c, testGateway, testPort, testSlot); err != ErrSealed {
			t.Fatalf("forged: %v", err)
		}
		b = bytes.Clone(b)
		copy(b, hint[:])
		k, _ = ParseKnockV2(b)
		if _, err := k.Open(s, c, testGateway, testPort, testSlot); err != ErrSealed {
			t.Fatalf("forged: %v", err)
		}
	})
}

// FuzzKnockV2Message parses plaintexts, which a client with a valid secret
// could seal, with the check put right, and encodes what it accepts.
func FuzzKnockV2Message(f *testing.F) {
	var check [knockV2Check]byte
	for _, v := range loadKnockV2Vectors(f) {
		f.Add([]byte(v.Plain), v.Port)
	}
	f.Fuzz(func(t *testing.T, plain []byte, port uint16) {
		if len(plain) == knockV2Plain {
			copy(plain[1+1+timeSize:], check[:])
		}
		m, err := parseKnockV2Message(plain, &check, port)
		if err != nil {
			if m != (KnockV2Message{}) {
				t.Fatalf("refused %+v: %v", m, err)
			}
			return
		}
		if again := m.append(nil, &check, port); !bytes.Equal(again, plain) {
			t.Fatalf("accepted %x\nencodes as %x", plain, again)
		}
		if m.Source.Is4In6() || m.check() != nil {
			t.Fatalf("accepted %+v", m)
		}
	})
}
