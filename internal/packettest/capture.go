package packettest

import (
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
)

// A CapturedPacket is an IPv4 packet of a capture, from its IP header on.
type CapturedPacket struct {
	Time time.Time
	Data []byte
}

// ReadCapture reads the IPv4 packets of a capture of an Ethernet link.
func ReadCapture(tb testing.TB, path string) []CapturedPacket {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}

	var all []CapturedPacket
	for {
		frame, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			tb.Fatal(err)
		}
		const ethernet = 14 // bytes of header; the type is in the last two
		if frame[12] == 0x08 && frame[13] == 0x00 {
			all = append(all, CapturedPacket{info.Timestamp, slices.Clone(frame[ethernet:])})
		}
	}
}
