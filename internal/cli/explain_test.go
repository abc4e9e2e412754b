package cli

import (
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/protocol"
)

// capturedAt is the time of the packets in captures.
var capturedAt = time.Unix(1_700_000_000, 0)

// captured writes a capture file with snaplen bytes of each packet.
func captured(t *testing.T, snaplen int, packets ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "some.pcapng")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := capture.NewWriter(f, capture.WriterOptions{Interface: "knock0", Snaplen: snaplen})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.Write(&capture.Record{Time: capturedAt, Data: p[:min(len(p), snaplen)], Length: len(p)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(0); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExplainTruncatedKnock(t *testing.T) {
	config := filepath.Join(t.TempDir(), "knockgw.yaml")
	text := "version: 1\ntun: {routes: [10.77.0.0/24]}\nclients: [{id: alice, secret: \"" + aliceSecret + "\"}]\n" +
		"services: [{name: ssh, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	alice, err := protocol.NewClient("alice", []byte(aliceSecret))
	if err != nil {
		t.Fatal(err)
	}
	at := protocol.KnockMessage{Method: protocol.MethodUDP, Time: capturedAt.UnixMilli(), SessionID: make([]byte, 16)}
	knock, err := protocol.AppendKnock(nil, alice, 22, &at, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	datagram := packettest.UDP{
		Src: netip.MustParseAddrPort("10.1.2.2:1234"), Dst: netip.MustParseAddrPort("10.77.0.1:62201"), Payload: knock,
	}.Packet()
	wrong := append([]byte(nil), datagram...)
	wrong[26] ^= 1 // its checksum
	for _, c := range []struct {
		snaplen      int
		out, not, at string
	}{
		{46, "truncated: verdict unknown, capture with --snaplen", "drop", "2 packets were truncated"}, // as tcpdump -s 60
		{128, "truncated: verdict unknown, capture with --snaplen", "knock of", "2 packets were truncated"},
		{wholeKnock, `knock of "alice"`, "truncated", "1 packet was accepted in spite of a bad checksum"},
	} {
		out, errs, err := runCommandLine(t, nil, "explain", captured(t, c.snaplen, datagram, wrong), "--config", config)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(out, c.out) != 2 || strings.Contains(out, c.not) || strings.Contains(out, "checksum") || !strings.Contains(errs, c.at) {
			t.Errorf("snaplen %d: %s%s", c.snaplen, out, errs)
		}
	}
}

// The verdict on these depends only on the captured bytes.
func TestExplainTruncatedPayload(t *testing.T) {
	config := filepath.Join(t.TempDir(), "knockgw.yaml")
	text := "version: 1\ntun: {routes: [10.77.0.0/24]}\nclients: [{id: alice, secret: \"" + aliceSecret + "\"}]\n" +
		"services: [{name: ssh, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("10.1.2.2:1234")
	to := func(target string, size int) []byte {
		return packettest.UDP{Src: from, Dst: netip.MustParseAddrPort(target), Payload: make([]byte, size)}.Packet()
	}
	out, errs, err := runCommandLine(t, nil, "explain", captured(t, 46, to("10.77.0.1:53", 100), to("10.77.0.1:62201", protocol.MaxKnock+1)), "--config", config)
	if err != nil || !strings.Contains(out, "no-service") || !strings.Contains(out, "not-a-knock") || strings.Contains(errs, "truncated") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}

func TestExplainTruncatedFile(t *testing.T) {
	config := filepath.Join(t.TempDir(), "knockgw.yaml")
	text := "version: 1\ntun: {routes: [10.77.0.0/24]}\nservices: [{name: ssh, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	datagram := packettest.UDP{
		Src: netip.MustParseAddrPort("10.1.2.2:1234"), Dst: netip.MustParseAddrPort("10.77.0.1:53"), Payload: make([]byte, 100),
	}.Packet()
	header := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0}
	packet := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, byte(len(datagram)), 0, 0, 0, byte(len(datagram)), 0, 0, 0}, datagram...)
	raw := append(append([]byte(nil), header...), 101, 0, 0, 0) // raw IP
	whole := append(append([]byte(nil), raw...), packet...)
	for want, b := range map[string][]byte{
		"cut off after packet 1": append(append([]byte(nil), whole...), packet[:40]...),
		"it has type 147":        append(append([]byte(nil), header...), 147, 0, 0, 0),
	} {
		path := filepath.Join(t.TempDir(), "some.pcap")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := runCommandLine(t, nil, "explain", path, "--config", config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
