package capture

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// WriterOptions describe a capture in its header.
type WriterOptions struct {
	Interface string // the device's name
	Snaplen   int    // bytes captured of each packet
	Filter    string
}

// A Writer writes pcapng.
type Writer struct {
	w       *pcapgo.NgWriter
	began   time.Time
	written uint64
	dropped uint64
}

// nanoseconds is the resolution of the times in a capture, as the negative
// exponent of ten.
const nanoseconds = 9

// NewWriter writes the header to w. Call Flush to write buffered data.
func NewWriter(w io.Writer, o WriterOptions) (*Writer, error) {
	ng, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: o.Interface, Filter: o.Filter, OS: runtime.GOOS,
		LinkType: layers.LinkTypeRaw, SnapLength: uint32(max(0, o.Snaplen)), TimestampResolution: nanoseconds,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "knockgw",
	}})
	if err != nil {
		return nil, fmt.Errorf("begin the capture: %w", err)
	}
	return &Writer{w: ng, began: time.Now()}, nil
}

// Write writes one packet. It does not retain r.
func (w *Writer) Write(r *Record) error {
	o := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}}
	if r.Out {
		o.Flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	if r.Verdict != "" {
		o.Comments = []string{Comment(r)}
	}
	if r.Dropped > 0 {
		o.DropCount = &r.Dropped
	}
	w.written++
	w.dropped += r.Dropped
	return w.w.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: r.Time, CaptureLength: len(r.Data), Length: max(r.Length, len(r.Data)),
	}, r.Data, o)
}

// Comment returns the comment of a packet, such as "drop: no-grant".
func Comment(r *Record) string { return r.Verdict + ": " + r.Reason }

// Flush writes buffered data.
func (w *Writer) Flush() error { return w.w.Flush() }

// Close ends the capture with its statistics, and flushes it. dropped is the
// number of packets dropped after the last one that was written.
func (w *Writer) Close(dropped uint64) error {
	now := time.Now()
	err := w.w.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: now, StartTime: w.began, EndTime: now,
		PacketsReceived: w.written, PacketsDropped: w.dropped + dropped,
	})
	if err != nil {
		return err
	}
	return w.w.Flush()
}
