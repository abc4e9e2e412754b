package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// hexBytes is a field of wire.json that is written in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	*h = raw
	return err
}

// identity is the client of a vector.
type identity struct {
	ClientID string   `json:"client_id"`
	Secret   hexBytes `json:"secret"`
	Port     uint16   `json:"port"`
}

func (i identity) client(t testing.TB) *Client {
	t.Helper()
	c, err := NewClient(i.ClientID, i.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tcpVector is a case of either TCP authentication format.
type tcpVector struct {
	identity
	Frame       hexBytes `json:"frame"`
	ServerProof hexBytes `json:"server_proof"`
	Flags       byte     `json:"flags"`
	UnixMS      int64    `json:"unix_ms"`
	Method      string   `json:"method"`
	SessionID   hexBytes `json:"session_id"`
	Extensions  hexBytes `json:"extensions"`
	Bucket      int      `json:"bucket"`
	HintMode    HintMode `json:"hint_mode"`
}

func (v tcpVector) message() Message {
	return Message{
		WantProof: v.Flags&flagProof != 0, Time: v.UnixMS, Method: v.Method,
		SessionID: v.SessionID, Extensions: v.Extensions,
	}
}

type knockVector struct {
	identity
	Frame      hexBytes `json:"frame"`
	UnixMS     int64    `json:"unix_ms"`
	Method     string   `json:"method"`
	SessionID  hexBytes `json:"session_id"`
	SequenceID hexBytes `json:"sequence_id"`
	Index      uint8    `json:"sequence_index"`
	Total      uint8    `json:"sequence_total"`
	Random     hexBytes `json:"client_random"`
	TLVs       []struct {
		Type  uint16   `json:"type"`
		Value hexBytes `json:"value"`
	} `json:"tlvs"`
}

func (v knockVector) message() KnockMessage {
	m := KnockMessage{
		Method: v.Method, Time: v.UnixMS, SessionID: v.SessionID, SequenceID: v.SequenceID,
		Index: v.Index, Total: v.Total, ClientRandom: v.Random,
	}
	for _, tlv := range v.TLVs {
		m.TLVs = append(m.TLVs, TLV{Type: tlv.Type, Value: tlv.Value})
	}
	return m
}

type synVector struct {
	identity
	Slot   int64  `json:"slot"`
	Seq    uint32 `json:"seq"`
	Window uint16 `json:"window"`
	TSVal  uint32 `json:"tsval"`
}

type synSeqVector struct {
	identity
	Slot  int64 `json:"slot"`
	Total int   `json:"total"`
	Parts []struct {
		Index   int    `json:"index"`
		DstPort uint16 `json:"dst_port"`
		Seq     uint32 `json:"seq"`
		Window  uint16 `json:"window"`
		TSVal   uint32 `json:"tsval"`
	} `json:"parts"`
}

type vectors struct {
	FrameV1    []tcpVector    `json:"tcp_frame_v1"`
	EnvelopeV2 []tcpVector    `json:"tcp_envelope_v2"`
	Knock      []knockVector  `json:"udp_knock_v1"`
	SYN        []synVector    `json:"tcp_syn"`
	SYNSeq     []synSeqVector `json:"tcp_syn_seq"`
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields() // every field of a vector is tested
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func sameMessage(a, b Message) bool {
	return a.WantProof == b.WantProof && a.Time == b.Time && a.Method == b.Method &&
		bytes.Equal(a.SessionID, b.SessionID) && bytes.Equal(a.Extensions, b.Extensions)
}

func sameKnock(a, b KnockMessage) bool {
	if a.Method != b.Method || a.Time != b.Time || !bytes.Equal(a.SessionID, b.SessionID) ||
		!bytes.Equal(a.SequenceID, b.SequenceID) || a.Index != b.Index || a.Total != b.Total ||
		!bytes.Equal(a.ClientRandom, b.ClientRandom) || len(a.TLVs) != len(b.TLVs) {
		return false
	}
	for i, tlv := range a.TLVs {
		if tlv.Type != b.TLVs[i].Type || !bytes.Equal(tlv.Value, b.TLVs[i].Value) {
			return false
		}
	}
	return true
}

func TestFrameV1VectorsDecodeAndEncode(t *testing.T) {
	s := NewScratch()
	for i, v := range loadVectors(t).FrameV1 {
		c := v.client(t)
		f, size, err := ParseFrameV1(v.Frame, DefaultMaxFrame)
		if err != nil || size != len(v.Frame) {
			t.Fatalf("%d: parse: size %d of %d, %v", i, size, len(v.Frame), err)
		}
		if !f.Match(s, c, v.Port) {
			t.Fatalf("%d: no match", i)
		}
		m, err := f.Open(s, c, v.Port)
		if err != nil || !sameMessage(m, v.message()) {
			t.Fatalf("%d: open: %+v, %v", i, m, err)
		}
		if proof := f.AppendProof(nil, s, c, v.Port); !bytes.Equal(proof, v.ServerProof) {
			t.Fatalf("%d: proof %x, want %x", i, proof, v.ServerProof)
		}
		if !f.VerifyProof(s, c, v.Port, v.ServerProof) {
			t.Fatalf("%d: proof does not verify", i)
		}
		again, err := AppendFrameV1(nil, c, v.Port, &m, bytes.NewReader(f.Nonce()))
		if err != nil || !bytes.Equal(again, v.Frame) {
			t.Fatalf("%d: encoded %x, %v\nwant %x", i, again, err, v.Frame)
		}
	}
}

func TestEnvelopeV2VectorsDecodeAndEncode(t *testing.T) {
	s := NewScratch()
	for i, v := range loadVectors(t).EnvelopeV2 {
		c := v.client(t)
		e, _, err := ParseEnvelopeV2(v.Frame, v.HintMode)
		if err != nil || len(v.Frame) != v.Bucket {
			t.Fatalf("%d: parse: %d bytes for %d, %v", i, len(v.Frame), v.Bucket, err)
		}
		if !e.Match(s, c, v.Port) {
			t.Fatalf("%d: no match", i)
		}
		m, err := e.Open(s, c, v.Port, v.Bucket)
		if err != nil || !sameMessage(m, v.message()) {
			t.Fatalf("%d: open: %+v, %v", i, m, err)
		}
		if proof := e.AppendProof(nil, s, c, v.Port); !bytes.Equal(proof, v.ServerProof) {
			t.Fatalf("%d: proof %x, want %x", i, proof, v.ServerProof)
		}
		if !e.VerifyProof(s, c, v.Port, v.ServerProof) {
			t.Fatalf("%d: proof does not verify", i)
		}
		// The random bytes of a vector are its prefix and its pad, which lies
		// at the end of what Open left in the scratch.
		pad := v.Bucket - envelopeSize(&m, v.HintMode)
		plain := s.plain[:v.Bucket-len(e.head())-tagSize]
		random := append(append([]byte(nil), e.Nonce()...), plain[len(plain)-pad:]...)
		again, err := AppendEnvelopeV2(nil, c, v.Port, &m, v.HintMode, v.Bucket, bytes.NewReader(random))
		if err != nil || !bytes.Equal(again, v.Frame) {
			t.Fatalf("%d: encoded %x, %v\nwant %x", i, again, err, v.Frame)
		}
	}
}

func TestKnockVectorsDecodeAndEncode(t *testing.T) {
	s := NewScratch()
	for i, v := range loadVectors(t).Knock {
		c := v.client(t)
		k, err := ParseKnock(v.Frame)
		if err != nil {
			t.Fatalf("%d: parse: %v", i, err)
		}
		if !k.Match(s, c, v.Port) {
			t.Fatalf("%d: no match", i)
		}
		m, err := k.Open(s, c, v.Port)
		if err != nil || !sameKnock(m, v.message()) {
			t.Fatalf("%d: open: %+v, %v", i, m, err)
		}
		again, err := AppendKnock(nil, c, v.Port, &m, bytes.NewReader(k.Nonce()))
		if err != nil || !bytes.Equal(again, v.Frame) {
			t.Fatalf("%d: encoded %x, %v\nwant %x", i, again, err, v.Frame)
		}
	}
}

func TestSYNVectors(t *testing.T) {
	s := NewScratch()
	all := loadVectors(t)
	for i, v := range all.SYN {
		want := SYNFields{Seq: v.Seq, Window: v.Window, TSVal: v.TSVal}
		if got := v.client(t).SYN(s, v.Port, v.Slot); got != want {
			t.Fatalf("%d: %+v, want %+v", i, got, want)
		}
	}
	for i, v := range all.SYNSeq {
		c := v.client(t)
		if len(v.Parts) != v.Total || v.Total < MinSYNSequence || v.Total > MaxSYNSequence {
			t.Fatalf("%d: %d parts of %d", i, len(v.Parts), v.Total)
		}
		for _, part := range v.Parts {
			want := SYNFields{Seq: part.Seq, Window: part.Window, TSVal: part.TSVal}
			if got := c.SYNPart(s, v.Port, v.Slot, part.Index); got != want || part.DstPort != v.Port {
				t.Fatalf("%d part %d: %+v, want %+v", i, part.Index, got, want)
			}
		}
	}
}
