package capture

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/packet"
)

const (
	// DefaultSnaplen is how many bytes of a packet are kept unless told
	// otherwise: its headers and the beginning of what it carries, not a
	// session's content.
	DefaultSnaplen = 128
	// MaxKnock is how many bytes of a datagram that is held as a knock are kept whatever
	// the snaplen: the largest knock (docs/wire-formats.md; protocol.MaxKnock). Cut off, it could
	// not be judged again, and whoever lacks the secret sees noise in it.
	MaxKnock = 1024
	// maxHeaders is how many bytes may stand before a datagram's payload: an IPv4 header
	// with options, or IPv6 with extension headers of that size, and UDP's.
	maxHeaders = 128
	// MaxSnaplen is the most that may be asked for.
	MaxSnaplen = packet.MaxPacket
	// DefaultQueue is how many packets may wait for their reader.
	DefaultQueue = 1024
	// maxQueueBytes bounds the bytes that a queue may come to hold, whatever the snaplen.
	maxQueueBytes = 4 << 20
)

// An Event is one packet and what was decided about it, as the packet path has
// it: everything is borrowed for the call.
type Event struct {
	// Packet has been through Parse, or DecodeTCP when Out is set.
	Packet *packet.Packet
	// Length is the packet's in bytes, of which Packet.Data may be a part.
	Length int
	// Out says that the packet was to leave by the device.
	Out bool
	// Verdict and Reason are constant names, as in metrics.
	Verdict, Reason string
}

// tuple is what Parse could read; zero of a packet that it could not.
func (e *Event) tuple() *packet.Tuple { return &e.Packet.Tuple }

// A Record is one packet of a capture, the owner's own.
type Record struct {
	Time   time.Time
	Data   []byte // from the IP header on, Snaplen bytes at most, or a whole knock
	Length int    // of the whole packet
	Out    bool
	// Verdict and Reason are what was decided, in what a Tap gives; a Reader leaves them empty.
	Verdict, Reason string
	// Dropped is how many packets before this one were left out.
	Dropped uint64

	buf *[]byte // by a Tap, which Data lies in; nil for the owner's own
}

// TapOptions are the options of NewTap. The zero value takes everything.
type TapOptions struct {
	Filter  Filter
	Snaplen int              // bytes kept of each packet but a knock; default DefaultSnaplen
	Queue   int              // packets that may wait; default DefaultQueue
	Now     func() time.Time // default time.Now
}

// A Tap takes copies of packets out of the packet path. Offer and Next may be
// called from any goroutine.
type Tap struct {
	opts       TapOptions
	records    chan Record
	free       sync.Pool // of *[]byte, with room for Snaplen
	unreported atomic.Uint64
	dropped    atomic.Uint64
	closed     chan struct{}
	closing    sync.Once
}

// NewTap returns a Tap, which takes packets until Close.
func NewTap(o TapOptions) *Tap {
	if o.Snaplen <= 0 {
		o.Snaplen = DefaultSnaplen
	}
	o.Snaplen = min(o.Snaplen, MaxSnaplen)
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	o.Queue = max(1, min(o.Queue, maxQueueBytes/max(o.Snaplen, maxHeaders+MaxKnock)))
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Tap{opts: o, records: make(chan Record, o.Queue), closed: make(chan struct{})}
	t.free.New = func() any {
		b := make([]byte, 0, o.Snaplen)
		return &b
	}
	return t
}

// Enqueue takes a copy of a packet that fits the filter, or counts it as missed
// when the queue is full. It never waits.
func (t *Tap) Enqueue(e *Event) {
	if !t.opts.Filter.Match(e) {
		return
	}
	data := t.free.Get().(*[]byte)
	r := Record{
		Time: t.opts.Now(), Length: e.Length, Out: e.Out, Verdict: e.Verdict, Reason: e.Reason,
		Data: append((*data)[:0], e.Packet.Data[:min(len(e.Packet.Data), t.captureLen(e))]...),
		buf:  data,
	}
	missed := t.unreported.Swap(0)
	r.Dropped = missed
	select {
	case t.records <- r:
	default:
		t.unreported.Add(missed + 1)
		t.dropped.Add(1)
		t.Free(&r)
	}
}

// What a datagram that is or could be a knock is called, in metrics and here.
const heldVerdict, knockReason = "hold", "knock"

// captureLen is how many bytes of a packet are kept.
func (t *Tap) captureLen(e *Event) int {
	p := e.Packet
	if e.Verdict != heldVerdict || e.Reason != knockReason || p.Proto != packet.UDP || p.Payload > maxHeaders {
		return t.opts.Snaplen
	}
	return max(t.opts.Snaplen, p.Payload+MaxKnock)
}

// Next waits for the next packet. It fails with io.EOF after Close, when there
// are none left, and with ctx's cause.
func (t *Tap) Next(ctx context.Context) (Record, error) {
	select {
	case r := <-t.records:
		return r, nil
	default:
	}
	select {
	case r := <-t.records:
		return r, nil
	case <-t.closed:
		select {
		case r := <-t.records:
			return r, nil
		default:
			return Record{}, io.EOF
		}
	case <-ctx.Done():
		return Record{}, context.Cause(ctx)
	}
}

// Free gives a record of Next back: its Data is used again. Whoever keeps a
// record does not call it.
func (t *Tap) Free(r *Record) {
	if r.buf != nil {
		t.free.Put(r.buf)
		r.Data, r.buf = nil, nil
	}
}

// Dropped is how many packets found the queue full, in all.
func (t *Tap) Dropped() uint64 { return t.dropped.Load() }

// Unreported is how many found the queue full of which no record tells: since the last.
func (t *Tap) Unreported() uint64 { return t.unreported.Load() }

// Queued is how many packets wait for Next, and how many may.
func (t *Tap) Queued() (now, most int) { return len(t.records), cap(t.records) }

// Snaplen is how many bytes of a packet the Tap keeps at most, a knock's among them.
func (t *Tap) Snaplen() int { return max(t.opts.Snaplen, maxHeaders+MaxKnock) }

// Filter is what the Tap takes.
func (t *Tap) Filter() Filter { return t.opts.Filter }

// Close ends Next, once it has given out what is queued. Offer is still safe to
// call, and of no effect that anybody sees.
func (t *Tap) Close() { t.closing.Do(func() { close(t.closed) }) }
