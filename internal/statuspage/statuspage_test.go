package statuspage

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/html"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTestPage returns a page and its clock.
func newTestPage(s Source) (*Page, *time.Time) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	p := New(s)
	p.now = func() time.Time { return now }
	return p, &now
}

func source(s Status, c *Counts) Source {
	return Source{Status: func() Status { return s }, Counts: func() Counts { return *c }}
}

// get returns the page and its header, and checks that it is HTML.
func get(t *testing.T, p *Page) (string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	if _, err := html.Parse(strings.NewReader(w.Body.String())); err != nil {
		t.Error(err)
	}
	return w.Body.String(), w.Header()
}

func TestPageShowsServicesAndSessions(t *testing.T) {
	p, now := newTestPage(Source{})
	p.source = source(Status{
		Version: "v1.2.3", Device: "knock0", Started: now.Add(-26 * time.Hour), Ready: true, Filtered: true,
		Services: []Service{{Name: "ssh", Listen: "10.77.0.1:22", Mode: "knock-auth", VisibleAs: "nothing", Knock: "udp", Auth: "v2", Clients: 3, Flows: 1}},
		Sessions: []Session{{Client: "alice", Source: "10.1.1.2:4711", Service: "ssh", Upstream: "10.0.2.2:22", Age: 90 * time.Second, Received: 5 << 20, Sent: 17}},
		Grants:   4,
	}, &Counts{Flows: 1})
	body, header := get(t, p)
	for _, want := range []string{
		"v1.2.3", "1d 2h", "10.77.0.1:22", "knock-auth", "alice", "10.1.1.2:4711", "1m 30s", "5.0 MiB", "17 B", "4 grants",
		"dropped in the kernel", `content="15"`, "2026-03-04 05:06:07 UTC",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%v", header)
	}
}

func TestPageIsSelfContained(t *testing.T) {
	p, _ := newTestPage(source(Status{}, &Counts{}))
	body, _ := get(t, p)
	for _, bad := range []string{"<script", "src=", "href=", "url(", "@import", "http://", "https://"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q in it", bad)
		}
	}
}

func TestPageEscapesNames(t *testing.T) {
	p, _ := newTestPage(source(Status{
		Sessions: []Session{{Client: `<script>alert(1)</script>`, Source: `"><img>`}},
		Services: []Service{{Name: `</style><b>`}},
	}, &Counts{}))
	if body, _ := get(t, p); strings.Contains(body, "<script>") || strings.Contains(body, "<img>") || strings.Contains(body, "<b>") {
		t.Error("a name is not escaped")
	}
}

func TestPageQuotesAndTruncatesNames(t *testing.T) {
	p, _ := newTestPage(source(Status{
		Sessions: []Session{{Client: "a\u202eb\x1b[31m\n"}, {Client: strings.Repeat("x", 1<<16)}},
	}, &Counts{}))
	body, _ := get(t, p)
	if strings.ContainsAny(body, "\u202e\x1b") || !strings.Contains(body, `a\u202eb\x1b[31m\n`) || len(body) > 1<<14 {
		t.Errorf("%d bytes: %q", len(body), body)
	}
}

func TestPageTruncatesSessions(t *testing.T) {
	s := Status{}
	for i := range MaxSessions + 7 {
		s.Sessions = append(s.Sessions, Session{Client: fmt.Sprintf("client-%d.", i)})
	}
	p, _ := newTestPage(source(s, &Counts{}))
	body, _ := get(t, p)
	if !strings.Contains(body, "and 7 more") || !strings.Contains(body, fmt.Sprintf("client-%d.", MaxSessions-1)) ||
		strings.Contains(body, fmt.Sprintf("client-%d.", MaxSessions)) {
		t.Error("the page does not have the first sessions and the number of the others")
	}
}

func TestPlotsShowRates(t *testing.T) {
	c := Counts{}
	p, now := newTestPage(source(Status{}, &c))
	for range 3 * maxSamples {
		p.sample()
		*now = now.Add(Interval)
		c.Dropped += 15 * 200
		c.Received += 15 << 20
		c.Flows = 12
	}
	p.sample()
	if len(p.samples) != maxSamples {
		t.Errorf("%d samples are kept, want %d", len(p.samples), maxSamples)
	}
	body, _ := get(t, p)
	for _, want := range []string{"up to 200/s", "by the gate: 200/s", "from clients: 1.0 MiB/s", "flows: 12"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	all := plots(p.samples, *now)
	points := strings.Fields(all[0].Lines[0].Points)
	if len(points) != maxSamples-1 || !strings.HasPrefix(points[0], "2.0,") || !strings.HasPrefix(points[len(points)-1], "480.0,") {
		t.Errorf("%d points from %s to %s", len(points), points[0], points[len(points)-1])
	}
}

func TestPlotsIgnoreCounterReset(t *testing.T) {
	c := Counts{Dropped: 1000}
	p, now := newTestPage(source(Status{}, &c))
	p.sample()
	*now = now.Add(Interval)
	c.Dropped = 0
	p.sample()
	if all := plots(p.samples, *now); all[0].Max != "0" {
		t.Errorf("up to %s", all[0].Max)
	}
}

func TestPageIsReadOnly(t *testing.T) {
	p, _ := newTestPage(source(Status{}, &Counts{}))
	for method, code := range map[string]int{http.MethodPost: 405, http.MethodDelete: 405, http.MethodHead: 200} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, "/", strings.NewReader("x")))
		if w.Code != code || method == http.MethodHead && w.Body.Len() != 0 {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}
