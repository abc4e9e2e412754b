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
	// DefaultSnaplen is the default size of the part of a packet that is
	// captured, in bytes: its headers and the beginning of its payload, not a
	// session's content.
	DefaultSnaplen = 128
	// MaxKnock is the part of the payload of a datagram held as a knock that is
	// captured whatever the snaplen is, in bytes: the largest knock
	// (docs/wire-formats.md; protocol.MaxKnock). A truncated knock could not be
	// evaluated again, and without the secret it is indistinguishable from
	// noise.
	MaxKnock = 1024
	// maxHeaders is the size of the headers before the payload of a datagram,
	// at most, in bytes: an IPv4 header with options, or IPv6 with extension
	// headers of that size, and UDP's.
	maxHeaders = 128
	// MaxSnaplen is the largest snaplen.
	MaxSnaplen = packet.MaxPacket
	// DefaultQueue is the default length of the queue in packets.
	DefaultQueue = 1024
	// maxQueueBytes bounds the memory of a queue, whatever the snaplen is.
	maxQueueBytes = 4 << 20
)

// An Event is one packet and its verdict, as on the packet path: everything is
// borrowed for the call.
type Event struct {
	// Packet has been through Parse, or DecodeTCP when Out is set.
	Packet *packet.Packet
	// Length of the packet in bytes. Packet.Data may be a part of it.
	Length int
	// Out reports that the stack sent the packet.
	Out bool
	// Verdict and Reason are constant names, as in metrics.
	Verdict, Reason string
}

// tuple returns the tuple, which is zero for packets that Parse could not
// decode.
func (e *Event) tuple() *packet.Tuple { return &e.Packet.Tuple }

// A Record is one packet of a capture, owned by the caller.
type Record struct {
	Time   time.Time
	Data   []byte // from the IP header, at most Snaplen bytes, or a whole knock
	Length int    // of the whole packet
	Out    bool
	// Verdict and Reason are set by a Tap, but not by a Reader.
	Verdict, Reason string
	// Dropped is the number of packets dropped before this one.
	Dropped uint64

	buf *[]byte // that Data is in, if it belongs to a Tap
}

// TapOptions are the options of NewTap. The zero value captures all packets.
type TapOptions struct {
	Filter  Filter
	Snaplen int              // bytes captured of each packet except a knock; default DefaultSnaplen
	Queue   int              // length in packets; default DefaultQueue
	Now     func() time.Time // default time.Now
}

// A Tap copies packets from the packet path. Its methods may be called from any
// goroutine.
type Tap struct {
	opts       TapOptions
	records    chan Record
	free       sync.Pool     // of *[]byte, with room for Snaplen
	unreported atomic.Uint64 // dropped since the last record
	dropped    atomic.Uint64 // in all
	closed     chan struct{}
	closing    sync.Once
}

// NewTap returns a Tap that captures packets until Close.
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

// Enqueue copies a packet that matches the filter into the queue, or counts it
// as dropped if the queue is full. It never blocks.
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
	dropped := t.unreported.Swap(0)
	r.Dropped = dropped
	select {
	case t.records <- r:
	default:
		t.unreported.Add(dropped + 1)
		t.dropped.Add(1)
		t.Free(&r)
	}
}

// The verdict and reason of a datagram that is or could be a knock.
const heldVerdict, knockReason = "hold", "knock"

// captureLen returns how many bytes of a packet are captured.
func (t *Tap) captureLen(e *Event) int {
	p := e.Packet
	if e.Verdict != heldVerdict || e.Reason != knockReason || p.Proto != packet.UDP || p.Payload > maxHeaders {
		return t.opts.Snaplen
	}
	return max(t.opts.Snaplen, p.Payload+MaxKnock)
}

// Next waits for the next packet. It fails with io.EOF after Close, once the
// queue is empty, and with the cause of ctx.
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

// Free returns a record of Next, whose Data is reused. Records that are
// retained must not be freed.
func (t *Tap) Free(r *Record) {
	if r.buf != nil {
		t.free.Put(r.buf)
		r.Data, r.buf = nil, nil
	}
}

// Dropped returns the number of packets dropped because the queue was full.
func (t *Tap) Dropped() uint64 { return t.dropped.Load() }

// Unreported returns the number of packets dropped since the last record.
func (t *Tap) Unreported() uint64 { return t.unreported.Load() }

// Queued returns the number of packets in the queue, and its limit.
func (t *Tap) Queued() (used, limit int) { return len(t.records), cap(t.records) }

// Snaplen returns the largest number of bytes that the Tap captures of a
// packet, including knocks.
func (t *Tap) Snaplen() int { return max(t.opts.Snaplen, maxHeaders+MaxKnock) }

// Filter returns the filter.
func (t *Tap) Filter() Filter { return t.opts.Filter }

// Close ends the capture: Next fails once the queue is empty. Enqueue may still
// be called, and has no effect.
func (t *Tap) Close() { t.closing.Do(func() { close(t.closed) }) }
