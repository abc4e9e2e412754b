package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/packet"
)

// A packet and its verdict, from the packet path into a file and back.
func Example() {
	filter, err := capture.ParseFilter("verdict drop and not port 22", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	tap := capture.NewTap(capture.TapOptions{Filter: filter})

	// On the packet path:
	for _, port := range []uint16{22, 443} {
		data := packettest.SYN(netip.MustParseAddrPort("192.0.2.7:40000"), netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), port), 1)
		packet := &packet.Packet{Data: data}
		packet.Parse()
		tap.Enqueue(&capture.Event{Packet: packet, Length: len(data), Verdict: "drop", Reason: "no-grant"})
	}
	tap.Close()

	// In another goroutine:
	var file bytes.Buffer
	w, err := capture.NewWriter(&file, capture.WriterOptions{Interface: "knock0", Snaplen: capture.DefaultSnaplen, Filter: filter.String()})
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		r, err := tap.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		err = errors.Join(err, w.Write(&r))
		fmt.Println(r.Length, "bytes,", capture.Comment(&r))
		tap.Free(&r)
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := w.Close(tap.Dropped()); err != nil {
		fmt.Println(err)
		return
	}

	// Read them:
	r, err := capture.NewReader(&file)
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		record, err := r.Next()
		if err != nil {
			break // io.EOF
		}
		fmt.Println("read:", record.Length, "bytes to", netip.AddrFrom4([4]byte(record.Data[16:20])))
	}
	// Output:
	// 40 bytes, drop: no-grant
	// read: 40 bytes to 10.77.0.1
}

func ExampleParseFilter() {
	_, err := capture.ParseFilter("prot 22", nil)
	fmt.Println(errors.Is(err, capture.ErrFilter))
	// Output: true
}
