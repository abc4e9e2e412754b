package tuntest_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/packet"
)

func TestPairWriteRead(t *testing.T) {
	a, b := tuntest.Pair(1400, true)
	if i := a.Info(); i.MTU != 1400 || !i.Offload || i.Name == b.Info().Name {
		t.Errorf("%+v and %+v", i, b.Info())
	}
	o := packet.Offload{NeedsChecksum: true, SegmentSize: 1000}
	part := []byte("lo")
	if err := a.Write(o, [][]byte{[]byte("hel"), part}); err != nil {
		t.Fatal(err)
	}
	part[0] = 'x' // parts are borrowed for the call only
	var p packet.Packet
	if err := b.Read(&p); err != nil || string(p.Data) != "hello" || p.Offload != o {
		t.Errorf("%q %+v %v", p.Data, p.Offload, err)
	}
	if a.TryRead(&p) || b.TryRead(&p) {
		t.Error("a packet that was not written")
	}
}

func TestPairDropsWhenFull(t *testing.T) {
	a, b := tuntest.Pair(1500, false)
	for range tuntest.QueueLength + 10 {
		if err := a.Write(packet.Offload{}, [][]byte{{1}}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for p := new(packet.Packet); b.TryRead(p); n++ {
	}
	if n != tuntest.QueueLength {
		t.Errorf("%d packets wait", n)
	}
}

func TestPairCloseWakesBoth(t *testing.T) {
	a, b := tuntest.Pair(1500, false)
	ended := make(chan error, 2)
	for _, d := range []*tuntest.Device{a, b} {
		go func() { ended <- d.Read(new(packet.Packet)) }()
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	_ = b.Close() // twice is harmless
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("Read goes on waiting")
		}
	}
	if err := b.Write(packet.Offload{}, [][]byte{{1}}); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestPairReadsQueuedAfterClose(t *testing.T) {
	a, b := tuntest.Pair(1500, false)
	const many = 16 // a choice by chance would lose one of them
	for range many {
		if err := a.Write(packet.Offload{}, [][]byte{{1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	var p packet.Packet
	for i := range many {
		if err := b.Read(&p); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
	}
	for _, d := range []*tuntest.Device{a, b} {
		if err := d.Read(&p); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}
