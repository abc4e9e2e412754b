package explain

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/knock"
)

// explainedConfig is the configuration of the gateway in the capture.
func explainedConfig(t *testing.T, secret string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("explain.yaml", []byte(`
version: 1
tun: {routes: [10.0.1.1/32]}
clients: [{id: client-001, secret: `+secret+`}]
services:
  - {name: captured, listen: "10.0.1.1:8443", upstream: "10.9.9.9:80"}
`))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// explained judges the capture of a real client, with its times shifted.
func explained(t *testing.T, secret string, shifted time.Duration) (verdicts []string, knocks []knock.Event) {
	t.Helper()
	cfg := explainedConfig(t, secret)
	b, err := os.ReadFile("../../admission/testdata/client.pcap")
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(bytes.NewReader(shift(t, b, shifted)))
	if err != nil {
		t.Fatal(err)
	}
	err = Capture(cfg, r, func(e *Packet) error {
		if !e.Protected || e.Record.Verdict == "" || e.Record.Reason == "" {
			t.Errorf("packet %d has no verdict", e.Number)
		}
		if e.Number != len(verdicts)+1 {
			t.Errorf("packet %d after %d", e.Number, len(verdicts))
		}
		verdicts = append(verdicts, e.Record.Verdict+" "+e.Record.Reason)
		knocks = append(knocks, e.Knocks...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return verdicts, knocks
}

// rewrite rewrites a capture, with the packets that each returns for one of
// them.
func rewrite(t *testing.T, pcap []byte, each func(capture.Record) []capture.Record) []byte {
	t.Helper()
	r, err := capture.NewReader(bytes.NewReader(pcap))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := capture.NewWriter(&b, capture.WriterOptions{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		record, err := r.Next()
		if err != nil {
			break
		}
		for _, packet := range each(record) {
			if err := w.Write(&packet); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shift shifts the times of a capture.
func shift(t *testing.T, pcap []byte, by time.Duration) []byte {
	t.Helper()
	return rewrite(t, pcap, func(r capture.Record) []capture.Record {
		r.Time = r.Time.Add(by)
		return []capture.Record{r}
	})
}

const capturedSecret = "0123456789abcdef0123456789abcdef"

func TestCaptureVerdictsMatchGateway(t *testing.T) {
	verdicts, knocks := explained(t, capturedSecret, 0)
	var methods []string
	for _, k := range knocks {
		if k.Result == knock.OK {
			methods = append(methods, k.Method)
		}
	}
	want := []string{"udp", "udp-seq", "udp-passive", "udp-passive-seq", "tcp-syn", "tcp-syn-seq"}
	if !slices.Equal(methods, want) {
		t.Errorf("knocks by %v, want %v", methods, want)
	}
	let := 0
	for _, v := range verdicts {
		if v == "pass grant" {
			let++
		}
	}
	if let != 2 || verdicts[0] != "hold knock" {
		t.Errorf("%d connections were let in: %s", let, strings.Join(verdicts, ", "))
	}
}

func TestCaptureWithOtherSecretAdmitsNothing(t *testing.T) {
	verdicts, knocks := explained(t, strings.Repeat("x", 32), 0)
	for _, k := range knocks {
		if k.Result != knock.UnknownClient {
			t.Errorf("%+v", k)
		}
	}
	if slices.Contains(verdicts, "pass grant") || len(knocks) == 0 {
		t.Errorf("%d knocks; %s", len(knocks), strings.Join(verdicts, ", "))
	}
}

func TestCaptureReportsClockDifference(t *testing.T) {
	_, knocks := explained(t, capturedSecret, 41*time.Second) // the client's is behind then
	stale := 0
	for _, k := range knocks {
		if k.Result == knock.Stale {
			stale++
			if k.Client != "client-001" || k.Skew.Round(time.Second) != -41*time.Second {
				t.Errorf("%+v", k)
			}
		}
	}
	if stale == 0 {
		t.Errorf("%+v", knocks)
	}
}

// FuzzCapture judges arbitrary packets at arbitrary times.
func FuzzCapture(f *testing.F) {
	cfg, err := config.Parse("explain.yaml", []byte(`
version: 1
tun: {routes: [10.0.1.1/32, "2001:db8::/64"]}
knock: {udp_port: 62201, gateway: edge}
clients: [{id: client-001, secret: "hex:`+strings.Repeat("ab", 32)+`"}]
services:
  - {name: captured, listen: "10.0.1.1:8443", upstream: "10.9.9.9:80", knock: [udp, udp-v2, tcp-syn]}
  - {name: open, listen: "[2001:db8::1]:443", upstream: "10.9.9.9:80", mode: auth}
`))
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile("../../admission/testdata/client.pcap")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := capture.NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		last := 0
		_ = Capture(cfg, r, func(e *Packet) error { // the capture may be cut off
			if e.Number <= last || e.Protected && !e.Forwarded && !e.Inconclusive && (e.Record.Verdict == "" || e.Record.Reason == "") {
				t.Fatalf("packet %d after %d: %+v", e.Number, last, e.Record)
			}
			last = e.Number
			return nil
		})
	})
}

// anyInterface turns a capture of a single interface into one of all interfaces
// of a router: each packet is followed by its forwarded copy and one that is
// not IP.
func anyInterface(t *testing.T, pcap []byte) []byte {
	t.Helper()
	return rewrite(t, pcap, func(r capture.Record) []capture.Record {
		left := r
		left.Data = bytes.Clone(r.Data)
		left.Data[8]-- // the hops that are left
		left.Time = r.Time.Add(10 * time.Microsecond)
		noIP := capture.Record{Time: left.Time, Data: make([]byte, 28), Length: 28}
		return []capture.Record{r, left, noIP}
	})
}

func TestCaptureJudgesForwardedPacketsOnce(t *testing.T) {
	alone, knocks := explained(t, capturedSecret, 0)
	cfg := explainedConfig(t, capturedSecret)
	pcap, err := os.ReadFile("../../admission/testdata/client.pcap")
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(bytes.NewReader(anyInterface(t, pcap)))
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []string
	decided, forwarded := 0, 0
	err = Capture(cfg, r, func(e *Packet) error {
		decided += len(e.Knocks)
		if e.Forwarded {
			forwarded++
			if e.Record.Verdict != "" || e.Number%3 != 2 {
				t.Errorf("packet %d: forwarded, and %q", e.Number, e.Record.Verdict)
			}
			return nil
		}
		if e.Number%3 != 1 {
			t.Errorf("packet %d is not one that came", e.Number)
		}
		verdicts = append(verdicts, e.Record.Verdict+" "+e.Record.Reason)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(verdicts, alone) || decided != len(knocks) || forwarded != len(alone) {
		t.Errorf("%d forwarded of %d, %d knocks of %d; verdicts %s, alone %s", forwarded, len(alone), decided, len(knocks),
			strings.Join(verdicts, ", "), strings.Join(alone, ", "))
	}
}
