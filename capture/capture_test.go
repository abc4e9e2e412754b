package capture

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syn returns a SYN from 10.1.2.2:1234 (or its like in IPv6) to port 22.
func syn(t *testing.T, src, dst string) *packet.Packet {
	t.Helper()
	p := &packet.Packet{Data: packettest.TCP{
		Src: netip.AddrPortFrom(netip.MustParseAddr(src), 1234),
		Dst: netip.AddrPortFrom(netip.MustParseAddr(dst), 22), Flags: packet.SYN,
	}.Packet()}
	if !p.Parse() {
		t.Fatalf("the packet does not parse: %v", p.DropReason)
	}
	return p
}

// written returns a capture of records.
func written(t *testing.T, records ...Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, WriterOptions{Interface: "knock0", Snaplen: 128, Filter: "port 22"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if err := w.Write(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func someRecords(t *testing.T) []Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	in, out := syn(t, "10.1.2.2", "10.77.0.1").Data, syn(t, "fd77::1", "fd01:2::2").Data
	return []Record{
		{Time: at, Data: in, Length: len(in), Verdict: "drop", Reason: "no-grant"},
		{Time: at.Add(time.Second), Data: out[:40], Length: 1500, Out: true, Verdict: "pass", Reason: "flow", Dropped: 7},
	}
}

func TestWriterRoundTrip(t *testing.T) {
	records := someRecords(t)
	r, err := NewReader(bytes.NewReader(written(t, records...)))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range records {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !got.Time.Equal(want.Time) || !bytes.Equal(got.Data, want.Data) || got.Length != want.Length {
			t.Errorf("packet %d is %+v, want %+v", i, got, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestWriterTsharkComments(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	file := filepath.Join(t.TempDir(), "some.pcapng")
	if err := os.WriteFile(file, written(t, someRecords(t)...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tshark, "-r", file, "-T", "fields", "-E", "separator=/t",
		"-e", "frame.comment", "-e", "frame.packet_flags_direction", "-e", "ip.src", "-e", "ipv6.dst", "-e", "frame.len").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "drop: no-grant\t") || !strings.Contains(lines[0], "10.1.2.2") ||
		!strings.HasPrefix(lines[1], "pass: flow\t") || !strings.Contains(lines[1], "1500") {
		t.Errorf("tshark shows\n%s", out)
	}
}

// deflates is the largest expansion of a byte (RFC 1951: 258 bytes from two
// bits).
const deflates = 1032
