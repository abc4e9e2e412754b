package capture

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

func TestTapSnaplenAndDrops(t *testing.T) {
	tap := NewTap(TapOptions{Snaplen: 24, Queue: 2})
	e := &Event{Packet: syn(t, "10.1.2.2", "10.77.0.1"), Verdict: "drop", Reason: "no-grant"}
	e.Length = len(e.Packet.Data)
	for range 5 {
		tap.Enqueue(e)
	}
	if tap.Unreported() != 3 {
		t.Errorf("%d unreported, want 3", tap.Unreported())
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
		t.Errorf("3 dropped: record %d, total %d, %v", r.Dropped, tap.Dropped(), err)
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
