// Package statuspage is a page about a running gateway, for a browser: what is
// protected, who is inside, and what is being refused, with plots of the last
// hour.
//
// It is read-only and complete in itself: no script, no cookie, no asset from
// anywhere. What strangers may have had a hand in is escaped by html/template.
// Whoever can reach the listener can read it: it shows the names of clients and
// services and the addresses of both, and no secret.
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
	// span is how far back the plots go.
	span = time.Hour
	// sampled is how many samples are kept: one more than intervals, for rates
	// are differences.
	sampled = int(span/Interval) + 1
	// MaxSessions is how many sessions are listed, the newest first: a page is
	// for reading, and the rest is for `knockgw flows`.
	MaxSessions = 100
)

// Status is what the page shows of this moment.
type Status struct {
	Version  string
	Device   string
	Started  time.Time
	Ready    bool
	Filtered bool // strangers' packets are refused in the kernel
	Services []Service
	Flows    int       // that there are
	Sessions []Session // the newest first; those beyond MaxSessions are counted, not shown
	More     int       // sessions that are not in the list
	Grants   int
	Sources  int // addresses with grants, knocks or flows
	Banned   int
}

// A Service is one that is protected.
type Service struct {
	Name, Listen, Mode, StrangersSee string
	Knock, Auth                      string // the methods and the formats, "-" for none
	Clients, Flows                   int
}

// A Session is somebody inside.
type Session struct {
	Client, Source, Service, Upstream string
	For                               time.Duration
	Received, Sent                    uint64 // bytes from the client and to it
}

// Counts are totals since the gateway began, of which the plots show rates, and
// the flows that there are.
type Counts struct {
	Refused        uint64 // packets of strangers that the gate dropped
	RefusedEarlier uint64 // that the kernel dropped for it
	Knocks         uint64 // that opened the door
	KnocksRefused  uint64
	AuthsRefused   uint64
	Received, Sent uint64 // bytes of sessions
	Flows          int
}

// A Source is who knows; both functions are called from several goroutines.
type Source struct {
	Status func() Status
	Counts func() Counts
}

// A Page is the page, with the memory of its last hour. It is an http.Handler.
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

// New makes a page. It remembers while Run runs.
func New(s Source) *Page { return &Page{source: s, now: time.Now} }

// Run takes a sample each Interval until ctx ends.
func (p *Page) Run(ctx context.Context) {
	t := time.NewTicker(Interval)
	defer t.Stop()
	for {
		p.take()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *Page) take() {
	s := sample{p.now(), p.source.Counts()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == sampled {
		p.samples = append(p.samples[:0], p.samples[1:]...)
	}
	p.samples = append(p.samples, s)
}

// view is what the template is given.
type view struct {
	Status
	Now     time.Time
	Refresh int // seconds
	Plots   []plot
}

//go:embed page.html
var text string

// page is parsed once; an error in it would be found by any test.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": func(n uint64) string { return bytesize.Text(float64(n)) }, "since": sinceText, "clock": clockText,
	"name": nameText,
}).Parse(text))

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this page can only be read", http.StatusMethodNotAllowed)
		return
	}
	v := view{Status: p.source.Status(), Now: p.now(), Refresh: int(Interval / time.Second)}
	if n := len(v.Sessions); n > MaxSessions {
		v.More, v.Sessions = v.More+n-MaxSessions, v.Sessions[:MaxSessions]
	}
	p.mu.Lock()
	v.Plots = plots(p.samples, v.Now)
	p.mu.Unlock()
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
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
		_, _ = w.Write(b.Bytes()) // the reader has gone away
	}
}
