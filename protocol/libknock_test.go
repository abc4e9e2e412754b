package protocol

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

// testdata/libknock-client.json is what a libknock client put on the wire, in
// order: one knock by each method, then one TCP authentication in each format.
// Times are the packets' own.
type recorded struct {
	Kind   string   `json:"kind"`
	UnixMS int64    `json:"unix_ms"`
	Data   hexBytes `json:"data"`
	Seq    uint32   `json:"seq"`
	Window uint16   `json:"window"`
	TSVal  uint32   `json:"tsval"`
}

func TestLibknockMessages(t *testing.T) {
	raw, err := os.ReadFile("testdata/libknock-client.json")
	if err != nil {
		t.Fatal(err)
	}
	var packets []recorded
	if err := json.Unmarshal(raw, &packets); err != nil {
		t.Fatal(err)
	}
	const port = 8443
	c, err := NewClient("client-001", []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewScratch()
	fresh := func(p recorded, at int64) {
		t.Helper()
		if late := p.UnixMS - at; late < -1000 || late > 1000 {
			t.Errorf("%s: its time differs by %d ms from its packet's", p.Kind, late)
		}
	}
	var methods []string
	var syns int
	for _, p := range packets {
		switch p.Kind {
		case "udp":
			k, err := ParseKnock(p.Data)
			if err != nil || !k.Match(s, c, port) {
				t.Fatalf("knock: %v", err)
			}
			m, err := k.Open(s, c, port)
			if err != nil {
				t.Fatalf("knock: %v", err)
			}
			fresh(p, m.Time)
			if m.Index == 0 {
				methods = append(methods, m.Method)
			}
		case "syn":
			slot := Slot(time.UnixMilli(p.UnixMS), 30*time.Second)
			got := SYNFields{Seq: p.Seq, Window: p.Window, TSVal: p.TSVal}
			want := c.SYN(s, port, slot)
			if syns > 0 {
				want = c.SYNPart(s, port, slot, syns-1)
			}
			if got != want {
				t.Errorf("SYN %d: %+v, want %+v", syns, got, want)
			}
			syns++
		case "frame-v1":
			f, size, err := ParseFrameV1(p.Data, DefaultMaxFrame)
			if err != nil || size != len(p.Data) || !f.Match(s, c, port) {
				t.Fatalf("frame: %v", err)
			}
			m, err := f.Open(s, c, port)
			if err != nil {
				t.Fatalf("frame: %v", err)
			}
			fresh(p, m.Time)
		case "envelope-v2":
			e, _, err := ParseEnvelopeV2(p.Data, HintRoute)
			if err != nil || !e.Match(s, c, port) {
				t.Fatalf("envelope: %v", err)
			}
			m, err := e.Open(s, c, port, len(p.Data))
			if err != nil {
				t.Fatalf("envelope: %v", err)
			}
			fresh(p, m.Time)
		default:
			t.Fatalf("unknown kind %q", p.Kind)
		}
	}
	want := []string{MethodUDP, MethodUDPSeq, MethodUDPPassive, MethodUDPPassiveSeq}
	if len(methods) != len(want) || syns != 4 {
		t.Fatalf("methods %v, %d SYNs", methods, syns)
	}
	for i := range want {
		if methods[i] != want[i] {
			t.Errorf("knock %d is %q, want %q", i, methods[i], want[i])
		}
	}
}
