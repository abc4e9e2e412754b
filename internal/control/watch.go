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
	StepPacket = "packet" // judged by the gate
	StepKnock  = "knock"  // decided by a worker
	StepAuth   = "authentication"
	StepFlow   = "flow" // ended
)

// A TraceEvent is one thing that happened to a source that is traced.
type TraceEvent struct {
	Time   time.Time `json:"time"`
	Step   string    `json:"step"`
	Source string    `json:"source"` // address, with the port where there is one
	Target string    `json:"target,omitempty"`
	Out    bool      `json:"out,omitempty"` // of a packet: it was to leave
	Detail string    `json:"detail"`        // the packet, the method, the format
	// Verdict and Reason are what was decided, by the names of the metrics; Words
	// are what that means.
	Verdict         string  `json:"verdict"`
	Reason          string  `json:"reason,omitempty"`
	Message         string  `json:"message,omitempty"`
	Client          string  `json:"client,omitempty"`
	Service         string  `json:"service,omitempty"`
	ClockDifference float64 `json:"clock_difference_seconds,omitempty"`
	// Dropped is how many events before this one were left out.
	Dropped uint64 `json:"dropped,omitempty"`
}

// TraceOptions say what to trace.
type TraceOptions struct {
	From    netip.Prefix // whose packets
	Service string       // for which service alone; "" for all, and for none
}

// CaptureOptions say what to capture.
type CaptureOptions struct {
	Filter  string // as capture.ParseFilter takes it; "" for everything
	Snaplen int    // bytes kept of each packet; 0: capture.DefaultSnaplen
}

// Watching is what a Gateway lets its operator watch. Both methods go on until ctx
// ends, or until their output fails.
type Watching interface {
	// Trace calls each, one at a time, with what happens. It fails with
	// ErrUnavailable, or when too many are watching.
	Trace(ctx context.Context, o TraceOptions, each func(*TraceEvent) error) error
	// Capture writes pcapng to w, and calls flush when it has nothing more to write
	// for the moment.
	Capture(ctx context.Context, o CaptureOptions, w io.Writer, flush func() error) error
}

// A stream is a request whose answer goes on until the client is gone.
type stream struct {
	pattern, contentType string
	run                  func(r *http.Request, w io.Writer, flush func() error) error
}

// streams are the requests that watch.
func streams(g Watching) []stream {
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
			snaplen, err := strconv.Atoi(orElse(r.URL.Query().Get("snaplen"), "0"))
			if err != nil || snaplen < 0 {
				return errors.New("snaplen: write a number of bytes")
			}
			return g.Capture(r.Context(), CaptureOptions{r.URL.Query().Get("filter"), snaplen}, w, flush)
		}},
	}
}

// ServeHTTP implements http.Handler. What is wrong with the request is said before
// anything is written; an answer that has begun just ends.
func (s stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	began := false
	begin := func() {
		if !began {
			began = true
			w.Header().Set("Content-Type", s.contentType)
			w.WriteHeader(http.StatusOK)
		}
	}
	out := writerFunc(func(b []byte) (int, error) {
		begin()
		// A client that does not read holds up nobody but itself.
		if err := control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return 0, err
		}
		return w.Write(b)
	})
	err := s.run(r, out, func() error {
		begin()
		return control.Flush()
	})
	switch {
	case began || r.Context().Err() != nil:
	case errors.Is(err, ErrUnavailable):
		reply(w, http.StatusServiceUnavailable, Problems{problems(err)})
	case err != nil:
		reply(w, http.StatusUnprocessableEntity, Problems{problems(err)})
	}
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// maxEvent bounds one TraceEvent's line, in bytes.
const maxEvent = 1 << 20

// Trace calls each with what happens, until ctx ends, the gateway stops or each
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
		if err := c.understand(bytes.NewReader(lines.Bytes()), &e); err != nil {
			return err
		}
		if e.Step == "" {
			continue // to show that it has begun
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	return lines.Err()
}

// captureEnd is how long the end of a capture may take, which its client waits for.
const captureEnd = 2 * time.Second

// Capture copies pcapng to w until ctx ends, the gateway stops or w fails. When ctx
// ends, the gateway is given the time to end the capture in order. begun is called
// when the gateway watches.
func (c *Client) Capture(ctx context.Context, o CaptureOptions, w io.Writer, begun func()) error {
	query := url.Values{"filter": {o.Filter}, "snaplen": {strconv.Itoa(o.Snaplen)}}
	asked, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, cut)
	var conn net.Conn
	asked = httptrace.WithClientTrace(asked, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }})
	resp, err := c.send(asked, http.MethodGet, "capture?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if !stop() {
		return context.Cause(ctx)
	}
	// From here on the end of ctx is the end of what is asked, and not of the answer.
	stop = context.AfterFunc(ctx, func() {
		if netx.CloseWrite(conn) != nil {
			cut()
		}
		time.AfterFunc(captureEnd, cut)
	})
	defer stop()
	begun()
	_, err = io.Copy(w, resp.Body)
	return err
}
