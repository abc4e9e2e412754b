package protocol

import (
	"crypto/rand"
	"testing"
)

// What a host without a secret can cause: parsing, and a hint that does not
// match.
func TestRefusalDoesNotAllocate(t *testing.T) {
	owner, other, s := testClient(t, "a"), testClient(t, "b"), NewScratch()
	frame, knock := testFrame(t, owner), testKnock(t, owner)
	envelope := testEnvelope(t, owner, HintRoute, 128)
	bare := testEnvelope(t, owner, HintNone, 128)
	for _, c := range []struct {
		name string
		want float64
		run  func() bool // reports whether the message was refused
	}{
		{"malformed frame", 0, func() bool { _, _, err := ParseFrameV1(knock, DefaultMaxFrame); return err != nil }},
		{"malformed knock", 0, func() bool { _, err := ParseKnock(frame); return err != nil }},
		{"frame of another client", 0, func() bool {
			f, _, err := ParseFrameV1(frame, DefaultMaxFrame)
			return err == nil && !f.Match(s, other, testPort)
		}},
		{"envelope of another client", 0, func() bool {
			e, _, err := ParseEnvelopeV2(envelope, HintRoute)
			return err == nil && !e.Match(s, other, testPort)
		}},
		{"knock of another client", 0, func() bool {
			k, err := ParseKnock(knock)
			return err == nil && !k.Match(s, other, testPort)
		}},
		// Opening with a wrong key costs more, but only a matching hint leads
		// there, or HintNone.
		{"opening a frame", openAllocs, func() bool {
			f, _, _ := ParseFrameV1(frame, DefaultMaxFrame)
			_, err := f.Open(s, other, testPort)
			return err == ErrSealed
		}},
		{"opening an envelope", openAllocs, func() bool {
			e, _, _ := ParseEnvelopeV2(bare, HintNone)
			_, err := e.Open(s, other, testPort, len(bare))
			return err == ErrSealed
		}},
		{"opening a knock", openAllocs, func() bool {
			k, _ := ParseKnock(knock)
			_, err := k.Open(s, other, testPort)
			return err == ErrSealed
		}},
		{"SYN fields", 0, func() bool { return other.SYN(s, testPort, 1) != owner.SYN(s, testPort, 1) }},
		{"SYN part", 0, func() bool { return other.SYNPart(s, testPort, 1, 1) != owner.SYNPart(s, testPort, 1, 1) }},
	} {
		if !c.run() {
			t.Errorf("%s: not refused", c.name)
		}
		if got := testing.AllocsPerRun(100, func() { c.run() }); got > c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}

// openAllocs is what x/crypto's AEADs allocate: the object, for XChaCha one
// more within.
const openAllocs = 2

func BenchmarkMatchKnockOfOther(b *testing.B) {
	owner, other, s := testClient(b, "a"), testClient(b, "b"), NewScratch()
	k, err := ParseKnock(testKnock(b, owner))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if k.Match(s, other, testPort) {
			b.Fatal("matched")
		}
	}
}

func BenchmarkOpenKnock(b *testing.B) {
	owner, s := testClient(b, "a"), NewScratch()
	k, err := ParseKnock(testKnock(b, owner))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(s, owner, testPort); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenEnvelopeOfOther(b *testing.B) {
	owner, other, s := testClient(b, "a"), testClient(b, "b"), NewScratch()
	raw := testEnvelope(b, owner, HintNone, 512)
	b.ReportAllocs()
	for b.Loop() {
		e, _, _ := ParseEnvelopeV2(raw, HintNone)
		if _, err := e.Open(s, other, testPort, len(raw)); err != ErrSealed {
			b.Fatal(err)
		}
	}
}

func BenchmarkSYNFields(b *testing.B) {
	c, s := testClient(b, "a"), NewScratch()
	b.ReportAllocs()
	for b.Loop() {
		c.SYN(s, testPort, 1)
	}
}

func BenchmarkAppendKnock(b *testing.B) {
	c := testClient(b, "a")
	for b.Loop() {
		if _, err := AppendKnock(nil, c, testPort, &KnockMessage{Method: MethodUDP}, rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
