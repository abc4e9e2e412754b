package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syn is a SYN of 10.1.2.2:1234 (or its like in IPv6) to port 22.
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

func TestFilterMatch(t *testing.T) {
	v4 := &Event{Packet: syn(t, "10.1.2.2", "10.77.0.1"), Verdict: "drop", Reason: "no-grant"}
	v6 := &Event{Packet: syn(t, "fd01:2::2", "fd77::1"), Verdict: "pass", Reason: "grant", Out: true}
	for _, c := range []struct {
		filter string
		v4, v6 bool
	}{
		{"", true, true},
		{"host 10.1.2.2", true, false},
		{"host 10.77.0.1", true, false},
		{"host ::ffff:10.77.0.1", true, false},
		{"src 10.77.0.1", false, false},
		{"dst 10.77.0.0/24", true, false},
		{"net fd01:2::/64", false, true},
		{"port 22", true, true},
		{"port 1234", true, true},
		{"port 80", false, false},
		{"src port 1234", true, true},
		{"dst port 1234", false, false},
		{"dst port 22 and src host 10.1.2.2", true, false},
		{"not src port 22 and src net fd01::/16", false, true},
		{"dst host 10.1.2.2", false, false},
		{"proto tcp", true, true},
		{"proto icmp6", false, false},
		{"in", true, false},
		{"out", false, true},
		{"not out", true, false},
		{"verdict drop", true, false},
		{"reason grant", false, true},
		{"not verdict pass and port 22", true, false},
		{"proto tcp and host 10.1.2.2 and verdict drop and in", true, false},
		{"proto tcp and host 10.1.2.2 and verdict pass", false, false},
		{"tcp and port 22 and host 10.1.2.2", true, false},
		{"not tcp", false, false},
		{"udp", false, false},
	} {
		f, err := ParseFilter(c.filter, nil)
		if err != nil {
			t.Errorf("%q: %v", c.filter, err)
			continue
		}
		if f.Match(v4) != c.v4 || f.Match(v6) != c.v6 {
			t.Errorf("%q takes %v and %v, want %v and %v", c.filter, f.Match(v4), f.Match(v6), c.v4, c.v6)
		}
		if f.String() != c.filter {
			t.Errorf("%q is written %q", c.filter, f)
		}
	}
}

func TestParseFilterErrors(t *testing.T) {
	for filter, says := range map[string]string{
		"host":                           "needs a value",
		"host nobody":                    "neither an address nor a network",
		"port ssh":                       "not a port",
		"port 65536":                     "not a port",
		"proto sctp":                     "tcp, udp, icmp",
		"verdict maybe":                  "pass, hold or drop",
		"tcp port 22":                    "join terms with and",
		"sctp":                           "needs a value",
		"colour red":                     "unknown term",
		"in out":                         "join terms with and",
		"in and":                         "join terms with and",
		"not":                            "nothing after not",
		strings.Repeat("in and ", 40):    "more than 32",
		"host 10.1.1.1 or host 10.1.1.2": "or is not supported; use a wider filter",
		"reason nosuch":                  "not known; choose one of grant, no-grant",
		"src port ssh":                   "not a port",
		"src":                            "needs a value",
		"dst port":                       "needs a value",
		"src proto tcp":                  "neither an address nor a network",
	} {
		if _, err := ParseFilter(filter, []string{"grant", "no-grant"}); !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", filter, err, says)
		}
	}
}

func TestTapSnaplenAndDrops(t *testing.T) {
	tap := NewTap(TapOptions{Snaplen: 24, Queue: 2})
	e := &Event{Packet: syn(t, "10.1.2.2", "10.77.0.1"), Verdict: "drop", Reason: "no-grant"}
	e.Length = len(e.Packet.Data)
	for range 5 {
		tap.Enqueue(e)
	}
	if tap.Unreported() != 3 {
		t.Errorf("%d are told of by no record, not 3", tap.Unreported())
	}
	first, err := tap.Next(t.Context())
	if err != nil || len(first.Data) != 24 || first.Length != e.Length || first.Verdict != "drop" || first.Dropped != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if !bytes.Equal(first.Data, e.Packet.Data[:24]) {
		t.Error("another packet than was offered")
	}
	tap.Free(&first)
	if _, err := tap.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	tap.Enqueue(e)
	if r, err := tap.Next(t.Context()); err != nil || r.Dropped != 3 || tap.Dropped() != 3 || tap.Unreported() != 0 {
		t.Errorf("3 were left out: %d said, %d counted, %v", r.Dropped, tap.Dropped(), err)
	}
	tap.Close()
	if _, err := tap.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

func TestTapBounds(t *testing.T) {
	tap := NewTap(TapOptions{Snaplen: 1 << 30, Queue: 1 << 30})
	if tap.Snaplen() != MaxSnaplen || cap(tap.records) > maxQueueBytes/MaxSnaplen {
		t.Errorf("%d bytes, %d times", tap.Snaplen(), cap(tap.records))
	}
}

func TestTapAllocs(t *testing.T) {
	f, err := ParseFilter("host 10.9.9.9", nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &Event{Packet: syn(t, "10.1.2.2", "10.77.0.1"), Verdict: "drop", Reason: "no-grant"}
	unfit, full := NewTap(TapOptions{Filter: f}), NewTap(TapOptions{Queue: 1})
	full.Enqueue(e)
	for name, tap := range map[string]*Tap{"unfit": unfit, "full": full} {
		if n := testing.AllocsPerRun(100, func() { tap.Enqueue(e) }); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// written is a capture of records.
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

func TestTapKeepsWholeKnock(t *testing.T) {
	datagram := func(size int) *packet.Packet {
		p := &packet.Packet{Data: packettest.UDP{
			Src: netip.MustParseAddrPort("10.1.2.2:1234"), Dst: netip.MustParseAddrPort("10.77.0.1:62201"), Payload: make([]byte, size),
		}.Packet()}
		if !p.Parse() {
			t.Fatal(p.DropReason)
		}
		return p
	}
	const headers = 20 + 8
	tap := NewTap(TapOptions{Snaplen: 60})
	defer tap.Close()
	for _, c := range []struct {
		packet          *packet.Packet
		verdict, reason string
		kept            int
	}{
		{datagram(142), "hold", "knock", headers + 142},
		{datagram(1400), "hold", "knock", headers + MaxKnock},
		{datagram(142), "drop", "no-grant", 60},
		{datagram(142), "hold", "deferred", 60},
		{syn(t, "10.1.2.2", "10.77.0.1"), "hold", "knock", 40},
	} {
		tap.Enqueue(&Event{Packet: c.packet, Length: len(c.packet.Data), Verdict: c.verdict, Reason: c.reason})
		r, err := tap.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Data) != c.kept || len(r.Data) > tap.Snaplen() {
			t.Errorf("%d bytes, %s %s: %d were kept, want %d", len(c.packet.Data), c.verdict, c.reason, len(r.Data), c.kept)
		}
		tap.Free(&r)
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

// gzipped packs what the parts are together.
func gzipped(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// older returns a packet in pcap format.
func older(t *testing.T, packet []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	err := errors.Join(w.WriteFileHeader(MaxSnaplen, layers.LinkTypeRaw),
		w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(packet), Length: len(packet)}, packet))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReaderGzip(t *testing.T) {
	records := someRecords(t)
	for name, c := range map[string]struct {
		plain   []byte
		packets int
	}{"pcapng": {written(t, records...), len(records)}, "pcap": {older(t, records[0].Data), 1}} {
		packed := gzipped(t, c.plain)
		for _, cut := range []int{0, len(packed) / 3} {
			r, err := NewReader(bytes.NewReader(packed[:len(packed)-cut]))
			n := 0
			for err == nil {
				if _, err = r.Next(); err == nil {
					n++
				}
			}
			if cut == 0 && (n != c.packets || !errors.Is(err, io.EOF)) || cut > 0 && n > c.packets {
				t.Errorf("%s without the last %d bytes: %d packets, then %v", name, cut, n, err)
			}
		}
	}
}

func TestReaderBoundsGzip(t *testing.T) {
	const much = 12 * maxPerPacket   // bytes
	const little = 10 * maxPerPacket // bytes
	const header, trailer = 28, 4    // of a block with a packet, in bytes
	const nobodys, packet = 0xbad, 6 // types of blocks
	for name, c := range map[string]struct {
		kind uint32
		size int
	}{
		"small blocks":         {nobodys, maxPerPacket / 2}, // and no packet in any
		"a block that is one":  {nobodys, much},
		"a packet that is one": {packet, much},
	} {
		block := make([]byte, c.size)
		binary.LittleEndian.PutUint32(block, c.kind)
		binary.LittleEndian.PutUint32(block[4:], uint32(c.size))
		binary.LittleEndian.PutUint32(block[20:], uint32(c.size-header-trailer)) // of a packet, what is kept
		binary.LittleEndian.PutUint32(block[24:], uint32(c.size-header-trailer)) // and what there was
		binary.LittleEndian.PutUint32(block[c.size-trailer:], uint32(c.size))
		parts := [][]byte{written(t, someRecords(t)...)}
		for range much / c.size {
			parts = append(parts, block)
		}
		packed := gzipped(t, parts...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := NewReader(bytes.NewReader(packed))
		for err == nil {
			_, err = r.Next()
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; !strings.Contains(err.Error(), errTooLarge.Error()) || took > little {
			t.Errorf("%s: %d bytes take %d, and end with %v", name, len(packed), took, err)
		}
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

func TestReaderPcapLinkTypes(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "admission", "testdata", "client.pcap"))
	if err != nil {
		t.Skipf("no capture to read: %v", err)
	}
	defer func() { _ = f.Close() }()
	r, err := NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := packet.Packet{Data: record.Data}
		if p.Parse(); p.Version == 0 {
			t.Errorf("packet %d is no IP packet: %v", n, p.DropReason)
		}
		n++
	}
	if n == 0 {
		t.Error("there is no packet in it")
	}
}

func TestReaderRejectsOtherFiles(t *testing.T) {
	for _, text := range []string{"", "abc", "version: 1\n", strings.Repeat("\x00", 64)} {
		if _, err := NewReader(strings.NewReader(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// deflates is what a byte can be unpacked to, in bytes (RFC 1951: 258 bytes
// from two bits).
const deflates = 1032

// FuzzReader: whatever a file has in it, reading it ends.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x0a\x0d\x0d\x0a"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Add([]byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for range deflates*len(b) + 1 {
			record, err := r.Next()
			if err != nil {
				return
			}
			if v := record.Data[0] >> 4; v != 4 && v != 6 {
				t.Fatalf("no IP packet: %x", record.Data)
			}
		}
		t.Fatalf("more packets than bytes")
	})
}
