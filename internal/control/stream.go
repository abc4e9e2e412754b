package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/knockgw/knockgw/internal/netx"
)

// Steps of a TraceEvent.
const (
	StepPacket = "packet" // verdict of the gate
	StepKnock  = "knock"  // verdict of a knock worker
	StepAuth   = "authentication"
	StepFlow   = "flow" // ended
)

// A TraceEvent is an event of a traced source.
type TraceEvent struct {
	Time   time.Time `json:"time"`
	Step   string    `json:"step"`
	Source string    `json:"source"` // address, with the port if there is one
	Target string    `json:"target,omitempty"`
	Out    bool      `json:"out,omitempty"` // outgoing packet
	Detail string    `json:"detail"`        // the packet, the method, or the format
	// Verdict and Reason are the labels of the metrics; Message explains them.
	Verdict         string  `json:"verdict"`
	Reason          string  `json:"reason,omitempty"`
	Message         string  `json:"message,omitempty"`
	Client          string  `json:"client,omitempty"`
	Service         string  `json:"service,omitempty"`
	ClockDifference float64 `json:"clock_difference_seconds,omitempty"`
	// Dropped is the number of events missing before this one.
	Dropped uint64 `json:"dropped,omitempty"`
}

// TraceOptions say what to trace.
type TraceOptions struct {
	From    netip.Prefix // of the packets
	Service string       // only this service; "" for all packets
}

// CaptureOptions say what to capture.
type CaptureOptions struct {
	Filter  string // for capture.ParseFilter; "" for all packets
	Snaplen int    // bytes captured of each packet; 0 means capture.DefaultSnaplen
}

// Streamer is the part of a Gateway that traces and captures. Both methods
// return when ctx ends or their output fails.
type Streamer interface {
	// Trace calls each with the events, not concurrently. It returns
	// ErrUnavailable, or an error if there are too many traces.
	Trace(ctx context.Context, o TraceOptions, each func(*TraceEvent) error) error
	// Capture writes pcapng to w, and calls flush when there are no more
	// packets for the moment.
	Capture(ctx context.Context, o CaptureOptions, w io.Writer, flush func() error) error
}

// A stream is a request whose response continues until the client closes it.
type stream struct {
	pattern, contentType string
	run                  func(r *http.Request, w io.Writer, flush func() error) error
}

// streams returns the streams of a Streamer.
func streams(g Streamer) []stream {
	return []stream{
		{"GET /v1/trace", "application/x-ndjson", func(r *http.Request, w io.Writer, flush func() error) error {
			from, err := ParseSource(r.URL.Query().Get("from"))
			if err != nil {
				return err
			}
			enc := json.NewEncoder(w)
			return g.Trace(r.Context(), TraceOptions{From: from, Service: r.URL.Query().Get("service")}, func(e *TraceEvent) error {
				return errors.Join(enc.Encode(e), flush())
			})
		}},
		{"GET /v1/capture", "application/octet-stream", func(r *http.Request, w io.Writer, flush func() error) error {
			snaplen, err := strconv.Atoi(orDefault(r.URL.Query().Get("snaplen"), "0"))
			if err != nil || snaplen < 0 {
				return errors.New("snaplen: write a number of bytes")
			}
			return g.Capture(r.Context(), CaptureOptions{r.URL.Query().Get("filter"), snaplen}, w, flush)
		}},
	}
}

// ServeHTTP implements http.Handler. Errors are reported only before the first
// byte of the response; after it, the response just ends.
func (s stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	started := false
	start := func() {
		if !started {
			started = true
			w.Header().Set("Content-Type", s.contentType)
			w.WriteHeader(http.StatusOK)
		}
	}
	out := writerFunc(func(b []byte) (int, error) {
		start()
		if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return 0, err
		}
		return w.Write(b)
	})

	err := s.run(r, out, func() error {
		start()
		return control.Flush()
	})
	switch {
	case started || r.Context().Err() != nil:
	case errors.Is(err, ErrUnavailable):
		writeJSON(w, http.StatusServiceUnavailable, Problems{problems(err)})
	case err != nil:
		writeJSON(w, http.StatusUnprocessableEntity, Problems{problems(err)})
	}
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// maxEvent limits the line of a TraceEvent, in bytes.
const maxEvent = 1 << 20

// Trace calls each with the events, until ctx ends, the gateway stops or each
// fails.
func (c *Client) Trace(ctx context.Context, o TraceOptions, each func(*TraceEvent) error) error {
	query := url.Values{"from": {o.From.String()}}
	if o.Service != "" {
		query.Set("service", o.Service)
	}
	resp, err := c.send(ctx, http.MethodGet, "trace?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read

	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e TraceEvent
		if err := c.decode(bytes.NewReader(lines.Bytes()), &e); err != nil {
			return err
		}
		if e.Step == "" {
			continue // shows that the trace has started
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	return lines.Err()
}

// captureGrace is how long the gateway may take to complete a capture.
const captureGrace = 2 * time.Second

// Capture copies pcapng to w until ctx ends, the gateway stops or w fails. When
// ctx ends, the gateway has captureGrace to complete the capture. started is
// called when the gateway has started to capture.
func (c *Client) Capture(ctx context.Context, o CaptureOptions, w io.Writer, started func()) error {
	query := url.Values{"filter": {o.Filter}, "snaplen": {strconv.Itoa(o.Snaplen)}}
	reqCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	var conn net.Conn
	reqCtx = httptrace.WithClientTrace(reqCtx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }})
	resp, err := c.send(reqCtx, http.MethodGet, "capture?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if !stop() {
		return context.Cause(ctx)
	}

	// From here on, the end of ctx ends the request, not the response.
	stop = context.AfterFunc(ctx, func() {
		if netx.CloseWrite(conn) != nil {
			cancel()
		}
		time.AfterFunc(captureGrace, cancel)
	})
	defer stop()
	started()
	_, err = io.Copy(w, resp.Body)
	return err
}
