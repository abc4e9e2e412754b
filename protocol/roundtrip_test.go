package protocol

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawMessage(t *rapid.T, longest int) Message {
	field := func(name string, most int) []byte {
		return rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name)
	}
	return Message{
		WantProof:  rapid.Bool().Draw(t, "proof"),
		Time:       rapid.Int64Min(0).Draw(t, "time"),
		Method:     string(field("method", min(maxShort, longest))),
		SessionID:  field("session", min(maxShort, longest)),
		Extensions: field("extensions", longest),
	}
}

func drawClient(t *rapid.T) *Client {
	c, err := NewClient(
		rapid.StringMatching(`[a-zåß中]{1,20}`).Draw(t, "id"),
		rapid.SliceOfN(rapid.Byte(), MinSecret, 100).Draw(t, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMessageRoundTrip(t *testing.T) {
	s := NewScratch()
	rapid.Check(t, func(t *rapid.T) {
		c, port := drawClient(t), rapid.Uint16().Draw(t, "port")
		m := drawMessage(t, 400)
		frame, err := AppendFrameV1(nil, c, port, &m, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f, size, err := ParseFrameV1(frame, len(frame))
		if err != nil || size != len(frame) || !f.Match(s, c, port) {
			t.Fatalf("frame: %v", err)
		}
		if got, err := f.Open(s, c, port); err != nil || !sameMessage(got, m) {
			t.Fatalf("frame: %+v, %v", got, err)
		}
		if !f.VerifyProof(s, c, port, f.AppendProof(nil, s, c, port)) {
			t.Fatal("frame: proof does not verify")
		}
		for _, hint := range []HintMode{"", HintRoute, HintNone} {
			bucket := envelopeSize(&m, hint) + rapid.IntRange(0, 300).Draw(t, "pad")
			raw, err := AppendEnvelopeV2(nil, c, port, &m, hint, bucket, rand.Reader)
			if err != nil || len(raw) != bucket || raw[0] == FrameV1Version {
				t.Fatalf("envelope: %d bytes for %d, %v", len(raw), bucket, err)
			}
			e, _, err := ParseEnvelopeV2(raw, hint)
			if err != nil || !e.Match(s, c, port) {
				t.Fatalf("envelope: %v", err)
			}
			if got, err := e.Open(s, c, port, bucket); err != nil || !sameMessage(got, m) {
				t.Fatalf("envelope: %+v, %v", got, err)
			}
			if !e.VerifyProof(s, c, port, e.AppendProof(nil, s, c, port)) {
				t.Fatal("envelope: proof does not verify")
			}
		}
	})
}

func TestKnockRoundTrip(t *testing.T) {
	s := NewScratch()
	rapid.Check(t, func(t *rapid.T) {
		c, port := drawClient(t), rapid.Uint16().Draw(t, "port")
		m := KnockMessage{
			Method:       string(rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(t, "method")),
			Time:         rapid.Int64Min(0).Draw(t, "time"),
			ClientRandom: rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "random"),
		}
		if rapid.Bool().Draw(t, "has session") {
			m.SessionID = rapid.SliceOfN(rapid.Byte(), MinSessionID, MaxSessionID).Draw(t, "session")
		}
		if rapid.Bool().Draw(t, "sequence") {
			m.SequenceID = rapid.SliceOfN(rapid.Byte(), SequenceID, SequenceID).Draw(t, "sequence id")
			m.Total = rapid.Uint8Range(MinSequence, MaxSequence).Draw(t, "total")
			m.Index = rapid.Uint8Range(0, m.Total-1).Draw(t, "index")
		}
		for range rapid.IntRange(0, 5).Draw(t, "tlvs") {
			m.TLVs = append(m.TLVs, TLV{
				Type:  rapid.Uint16().Draw(t, "type"),
				Value: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "value"),
			})
		}
		raw, err := AppendKnock(nil, c, port, &m, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseKnock(raw)
		if err != nil || !k.Match(s, c, port) {
			t.Fatalf("knock: %v", err)
		}
		if got, err := k.Open(s, c, port); err != nil || !sameKnock(got, m) {
			t.Fatalf("knock: %+v, %v", got, err)
		}
	})
}

func TestMessageOwnsItsMemory(t *testing.T) {
	c, s := testClient(t, "a"), NewScratch()
	m := KnockMessage{
		Method: "strange", SessionID: bytes.Repeat([]byte{1}, 20),
		ClientRandom: []byte{2, 2}, TLVs: []TLV{{Type: 3, Value: []byte{3, 3}}},
	}
	raw, err := AppendKnock(nil, c, testPort, &m, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKnock(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Open(s, c, testPort)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	clear(s.plain[:cap(s.plain)])
	if !sameKnock(got, m) {
		t.Errorf("changed under its owner: %+v", got)
	}
}

func TestEnvelopeFirstByteIsNoFrameVersion(t *testing.T) {
	random := append(bytes.Repeat([]byte{FrameV1Version}, EnvelopePrefix+2), 7)
	random = append(random, make([]byte, 128)...)
	raw, err := AppendEnvelopeV2(nil, testClient(t, "a"), testPort, &Message{}, HintRoute, 128, bytes.NewReader(random))
	if err != nil || raw[0] != 7 || raw[1] != FrameV1Version {
		t.Fatalf("%x, %v", raw, err)
	}
}

func TestPickBucketIsUniform(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	buckets := []int{512, 128, 256, 192, 384}
	m := Message{Extensions: make([]byte, 100)} // 182 bytes with a hint, 174 without
	counts := map[int]int{}
	draws := bytes.NewReader(all)
	for draws.Len() > 0 {
		bucket, err := PickBucket(buckets, &m, HintRoute, draws)
		if err != nil {
			t.Fatal(err)
		}
		counts[bucket]++
	}
	if len(counts) != 4 || counts[192] != 64 || counts[256] != 64 || counts[384] != 64 || counts[512] != 64 {
		t.Errorf("%v", counts)
	}
	m.Extensions = make([]byte, 600)
	if _, err := PickBucket(buckets, &m, HintRoute, rand.Reader); err != ErrNoBucket {
		t.Errorf("too large a message: %v", err)
	}
	// Exactly full, and one byte over: neither is refused at random.
	for _, hint := range []HintMode{HintRoute, HintNone} {
		m.Extensions = make([]byte, 128-MinBucket(hint))
		if bucket, err := PickBucket([]int{128}, &m, hint, rand.Reader); bucket != 128 || err != nil {
			t.Errorf("%s: exactly full: %d, %v", hint, bucket, err)
		}
		m.Extensions = append(m.Extensions, 0)
		if _, err := PickBucket([]int{128}, &m, hint, rand.Reader); err != ErrNoBucket {
			t.Errorf("%s: one over: %v", hint, err)
		}
	}
	if !slices.IsSorted(DefaultBuckets()) {
		t.Error("the default buckets are not in ascending order")
	}
}

func TestMethodNames(t *testing.T) {
	for name, want := range map[string]string{
		"udp": MethodUDP, "udp-sequence": MethodUDPSeq, "udp-passive-sequence": MethodUDPPassiveSeq,
		"tcp-syn": MethodTCPSYN, "tcp-syn-sequence": MethodTCPSYNSeq, "tcp-auth": MethodTCPAuth,
	} {
		if got, err := ParseMethod(name); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := ParseMethod("UDP"); err != ErrMethod {
		t.Errorf("UDP: %v", err)
	}
	if MethodFamily(MethodUDPPassive) != MethodUDP || MethodFamily(MethodUDPPassiveSeq) != MethodUDPSeq || MethodFamily(MethodTCPSYN) != MethodTCPSYN {
		t.Error("families")
	}
}
