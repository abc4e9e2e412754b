package protocol

import (
	"bytes"
	"testing"
)

// The fuzzers give arbitrary bytes to the decoders, and also seal them: what a
// client with a valid secret could put inside reaches the parsers behind the
// AEAD too.

func FuzzFrameV1(f *testing.F) {
	for _, v := range loadVectors(f).FrameV1 {
		f.Add([]byte(v.Frame), 1024)
	}
	c, s := testClient(f, "a"), NewScratch()
	f.Fuzz(func(t *testing.T, b []byte, max int) {
		frame, size, err := ParseFrameV1(b, max)
		switch err {
		case nil:
			if size > len(b) || size > max {
				t.Fatalf("size %d of %d, max %d", size, len(b), max)
			}
			frame.Match(s, c, testPort)
			if _, err := frame.Open(s, c, testPort); err == nil {
				t.Fatal("forged")
			}
		case ErrNeedMore:
			if size <= len(b) {
				t.Fatalf("needs %d and has %d", size, len(b))
			}
		case ErrMalformed, ErrTooLong:
		default:
			t.Fatal(err)
		}
	})
}

func FuzzEnvelopeV2(f *testing.F) {
	for _, v := range loadVectors(f).EnvelopeV2 {
		f.Add([]byte(v.Frame), v.Bucket, v.HintMode == HintNone)
	}
	c, s := testClient(f, "a"), NewScratch()
	f.Fuzz(func(t *testing.T, b []byte, bucket int, none bool) {
		hint := HintRoute
		if none {
			hint = HintNone
		}
		e, need, err := ParseEnvelopeV2(b, hint)
		if err != nil {
			if need <= len(b) {
				t.Fatalf("needs %d and has %d", need, len(b))
			}
			return
		}
		e.Match(s, c, testPort)
		if _, err := e.Open(s, c, testPort, bucket); err == nil {
			t.Fatal("forged")
		}
	})
}

func FuzzKnock(f *testing.F) {
	for _, v := range loadVectors(f).Knock {
		f.Add([]byte(v.Frame))
	}
	c, s := testClient(f, "a"), NewScratch()
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKnock(b)
		if err != nil {
			return
		}
		k.Match(s, c, testPort)
		if _, err := k.Open(s, c, testPort); err == nil {
			t.Fatal("forged")
		}
	})
}

// FuzzKnockMessage parses plaintexts, with the client hash put right, and
// encodes what it accepts.
func FuzzKnockMessage(f *testing.F) {
	s := NewScratch()
	for _, v := range loadVectors(f).Knock {
		k, err := ParseKnock(v.Frame)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := k.Open(s, v.client(f), v.Port); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(s.plain[:len(v.Frame)-KnockHeader-tagSize]), v.Frame[knockFlags], v.Port)
	}
	c := testClient(f, "a")
	f.Fuzz(func(t *testing.T, plain []byte, flags byte, port uint16) {
		if len(plain) > 1+clientHashSize {
			copy(plain[1:], c.udpHash[:])
		}
		m, err := parseKnockMessage(plain, flags, c, port)
		if err != nil {
			return
		}
		if err := m.check(); err != nil || m.flags() != flags {
			t.Fatalf("accepted %+v: %v", m, err)
		}
		if again := m.append(nil, c, port, m.ClientRandom); !bytes.Equal(again, plain) {
			t.Fatalf("accepted %x\nencodes as %x", plain, again)
		}
	})
}
