// Package statuspage serves a page about a running gateway for a browser: the
// protected services, the sessions, and what is being dropped, with plots of the
// last hour.
//
// It is read-only and self-contained: no script, no cookie, and no asset from
// elsewhere. Text that a remote host may have influenced is escaped by
// html/template. Every host that can reach the listener can read the page: it
// shows the names of clients and services and the addresses of both, and no
// secret.
package statuspage

import (
	"bytes"
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/knockgw/knockgw/internal/bytesize"
)

const (
	// Interval is the time between two samples, and between two reloads of the
	// page.
	Interval = 15 * time.Second
	// span is the time that the plots cover.
	span = time.Hour
	// maxSamples is one more than the number of intervals: rates are
	// differences.
	maxSamples = int(span/Interval) + 1
	// MaxSessions is how many sessions are listed, the newest first: a page is
	// for reading, and the rest is for `knockgw flows`.
	MaxSessions = 100
)

// Status is the current state of the gateway.
type Status struct {
	Version   string
	Device    string
	Started   time.Time
	Ready     bool
	Filtered  bool // unauthorized packets are dropped in the kernel
	Services  []Service
	Flows     int
	Sessions  []Session // the newest first; those beyond MaxSessions are only counted
	Remaining int       // sessions not in the list
	Grants    int
	Sources   int // addresses with grants, knocks or flows
	Banned    int
}

// A Service is a protected service. VisibleAs is what unauthorized hosts see.
type Service struct {
	Name, Listen, Mode, VisibleAs string
	Knock, Auth                   string // methods and protocols, "-" for none
	Clients, Flows                int
}

// A Session is a flow of a client.
type Session struct {
	Client, Source, Service, Upstream string
	Age                               time.Duration
	Received, Sent                    uint64 // bytes from the client and to it
}

// Counts are totals since the start, whose rates the plots show, and the current
// number of flows.
type Counts struct {
	Dropped         uint64 // packets that the gate dropped
	DroppedInKernel uint64 // packets that the kernel dropped
	Knocks          uint64 // that created a grant
	KnocksDenied    uint64
	AuthsDenied     uint64
	Received, Sent  uint64 // bytes of sessions
	Flows           int
}

// A Source provides the data; its functions are called concurrently.
type Source struct {
	Status func() Status
	Counts func() Counts
}

// A Page is the page with the samples of the last hour. It is an http.Handler.
type Page struct {
	source Source
	now    func() time.Time

	mu      sync.Mutex
	samples []sample // oldest first
}

type sample struct {
	at time.Time
	Counts
}

// New returns a page, which samples while Run runs.
func New(s Source) *Page { return &Page{source: s, now: time.Now} }

// Run takes a sample each Interval until ctx ends.
func (p *Page) Run(ctx context.Context) {
	t := time.NewTicker(Interval)
	defer t.Stop()
	for {
		p.sample()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *Page) sample() {
	s := sample{p.now(), p.source.Counts()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == maxSamples {
		p.samples = append(p.samples[:0], p.samples[1:]...)
	}
	p.samples = append(p.samples, s)
}

// view is the data of the template.
type view struct {
	Status
	Now     time.Time
	Refresh int // seconds
	Plots   []plot
}

//go:embed page.html
var text string

// page is the parsed template; any test would find an error in it.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": func(n uint64) string { return bytesize.Text(float64(n)) }, "since": formatDuration, "clock": formatTime,
	"name": formatName,
}).Parse(text))

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the page is read-only", http.StatusMethodNotAllowed)
		return
	}

	v := view{Status: p.source.Status(), Now: p.now(), Refresh: int(Interval / time.Second)}
	if n := len(v.Sessions); n > MaxSessions {
		v.Remaining, v.Sessions = v.Remaining+n-MaxSessions, v.Sessions[:MaxSessions]
	}
	p.mu.Lock()
	v.Plots = plots(p.samples, v.Now)
	p.mu.Unlock()
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "cannot render the page: "+err.Error(), http.StatusInternalServerError)
		return
	}

	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodGet {
		_, _ = w.Write(b.Bytes()) // fails if the reader has left
	}
}
