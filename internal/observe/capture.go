package observe

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/verdict"
)

// captureDelay is how long packets may be collected before the client gets them.
const captureDelay = 100 * time.Millisecond

// captureSink captures packets.
type captureSink struct {
	noEvents
	tap *capture.Tap
}

// Packet implements Sink.
func (s captureSink) Packet(e *capture.Event) { s.tap.Enqueue(e) }

// Capture writes the packets that o selects to w as pcapng, until ctx ends or w
// fails. It calls flush when there is nothing more to write for the moment.
func (ob *Observer) Capture(ctx context.Context, o control.CaptureOptions, w io.Writer, flush func() error) error {
	target := ob.running.Load()
	if target == nil {
		return control.ErrUnavailable
	}
	filter, err := capture.ParseFilter(o.Filter, verdict.Reasons())
	if err != nil {
		return err
	}
	tap := capture.NewTap(capture.TapOptions{Filter: filter, Snaplen: o.Snaplen, Now: ob.o.Now})
	defer tap.Close()
	unsubscribe, err := ob.Sessions.subscribe(&session{captureSink{tap: tap}, tap.Queued}, netip.Prefix{})
	if err != nil {
		return err
	}
	unsubscribe = sync.OnceFunc(unsubscribe)
	defer unsubscribe()

	out, err := capture.NewWriter(w, capture.WriterOptions{
		Interface: target.Device.Info().Name, Snaplen: tap.Snaplen(), Filter: o.Filter,
	})
	if err != nil {
		return err
	}
	for {
		if err := errors.Join(out.Flush(), flush()); err != nil {
			return err
		}
		if err := writeBatch(ctx, out, tap); err != nil {
			return err
		}
		if ctx.Err() != nil { // the client wants no more, but may still read
			unsubscribe()
			return errors.Join(endCapture(out, tap), flush())
		}
	}
}

// writeBatch waits for a packet and writes it with those that follow within
// captureDelay. It returns when ctx ends, too.
func writeBatch(ctx context.Context, out *capture.Writer, tap *capture.Tap) error {
	r, err := tap.Next(ctx)
	if err != nil {
		return nil
	}
	until, cancel := context.WithTimeout(ctx, captureDelay)
	defer cancel()
	for {
		if err := out.Write(&r); err != nil {
			return err
		}
		tap.Free(&r)
		if r, err = tap.Next(until); err != nil {
			return nil
		}
	}
}

// endCapture writes the packets that are queued, and the number of those
// dropped.
func endCapture(out *capture.Writer, tap *capture.Tap) error {
	tap.Close()
	for {
		r, err := tap.Next(context.Background()) // does not wait after Close
		if err != nil {
			return out.Close(tap.Unreported())
		}
		if err := out.Write(&r); err != nil {
			return err
		}
		tap.Free(&r)
	}
}
