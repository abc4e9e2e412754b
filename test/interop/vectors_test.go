package interop

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// hexBytes is a field that is written in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	*h = raw
	return err
}

// origin is what every vector says of its client.
type origin struct {
	ClientID string   `json:"client_id"`
	Secret   hexBytes `json:"secret"`
	Port     uint16   `json:"port"`
	UnixMS   int64    `json:"unix_ms"`
}

func (o origin) client(t *testing.T) *protocol.Client {
	t.Helper()
	c, err := protocol.NewClient(o.ClientID, o.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (o origin) now() time.Time { return time.UnixMilli(o.UnixMS) }

// streamVector is a case of either format of authentication.
type streamVector struct {
	origin
	Frame       hexBytes          `json:"frame"`
	ServerProof hexBytes          `json:"server_proof"`
	Flags       byte              `json:"flags"`
	Method      string            `json:"method"`
	SessionID   hexBytes          `json:"session_id"`
	Extensions  hexBytes          `json:"extensions"`
	Bucket      int               `json:"bucket"`
	HintMode    protocol.HintMode `json:"hint_mode"`
}

// wantsProof is the flag of both formats.
func (v *streamVector) wantsProof() bool { return v.Flags&1 != 0 }

type knockVector struct {
	origin
	Frame      hexBytes `json:"frame"`
	Method     string   `json:"method"`
	SessionID  hexBytes `json:"session_id"`
	SequenceID hexBytes `json:"sequence_id"`
	Index      int      `json:"sequence_index"`
	Total      int      `json:"sequence_total"`
	Random     hexBytes `json:"client_random"`
	TLVs       []any    `json:"tlvs"`
}

// nonce is the beginning of the frame. (UDP knock v1.)
func (v *knockVector) nonce() []byte { return v.Frame[:16] }

type synVector struct {
	origin
	Slot   int64  `json:"slot"`
	Seq    uint32 `json:"seq"`
	Window uint16 `json:"window"`
	TSVal  uint32 `json:"tsval"`
}

type synSequenceVector struct {
	origin
	Slot  int64 `json:"slot"`
	Total int   `json:"total"`
	Parts []struct {
		DstPort uint16 `json:"dst_port"`
		Seq     uint32 `json:"seq"`
		Window  uint16 `json:"window"`
		TSVal   uint32 `json:"tsval"`
	} `json:"parts"`
}

type vectors struct {
	FrameV1    []streamVector      `json:"tcp_frame_v1"`
	EnvelopeV2 []streamVector      `json:"tcp_envelope_v2"`
	Knock      []knockVector       `json:"udp_knock_v1"`
	SYN        []synVector         `json:"tcp_syn"`
	SYNSeq     []synSequenceVector `json:"tcp_syn_seq"`
}

func loadVectors(t *testing.T) vectors {
	t.Helper()
	raw, err := os.ReadFile("../../protocol/testdata/wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
