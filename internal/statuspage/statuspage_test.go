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

// begun is a page whose clock is the test's.
func begun(s Source) (*Page, *time.Time) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	p := New(s)
	p.now = func() time.Time { return now }
	return p, &now
}

func source(s Status, c *Counts) Source {
	return Source{Status: func() Status { return s }, Counts: func() Counts { return *c }}
}

// got is what a browser gets, which must be HTML.
func got(t *testing.T, p *Page) (string, http.Header) {
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
	p, now := begun(Source{})
	p.source = source(Status{
		Version: "v1.2.3", Device: "knock0", Started: now.Add(-26 * time.Hour), Ready: true, Filtered: true,
		Services: []Service{{Name: "ssh", Listen: "10.77.0.1:22", Mode: "knock-auth", StrangersSee: "nothing", Knock: "udp", Auth: "v2", Clients: 3, Flows: 1}},
		Sessions: []Session{{Client: "alice", Source: "10.1.1.2:4711", Service: "ssh", Upstream: "10.0.2.2:22", For: 90 * time.Second, Received: 5 << 20, Sent: 17}},
		Grants:   4,
	}, &Counts{Flows: 1})
	body, header := got(t, p)
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
	p, _ := begun(source(Status{}, &Counts{}))
	body, _ := got(t, p)
	for _, bad := range []string{"<script", "src=", "href=", "url(", "@import", "http://", "https://"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q in it", bad)
		}
	}
}

func TestPageEscapesNames(t *testing.T) {
	p, _ := begun(source(Status{
		Sessions: []Session{{Client: `<script>alert(1)</script>`, Source: `"><img>`}},
		Services: []Service{{Name: `</style><b>`}},
	}, &Counts{}))
	if body, _ := got(t, p); strings.Contains(body, "<script>") || strings.Contains(body, "<img>") || strings.Contains(body, "<b>") {
		t.Error("a name is not escaped")
	}
}

func TestPageQuotesAndTruncatesNames(t *testing.T) {
	p, _ := begun(source(Status{
		Sessions: []Session{{Client: "a\u202eb\x1b[31m\n"}, {Client: strings.Repeat("x", 1<<16)}},
	}, &Counts{}))
	body, _ := got(t, p)
	if strings.ContainsAny(body, "\u202e\x1b") || !strings.Contains(body, `a\u202eb\x1b[31m\n`) || len(body) > 1<<14 {
		t.Errorf("%d bytes: %q", len(body), body)
	}
}

func TestPageTruncatesSessions(t *testing.T) {
	s := Status{}
	for i := range MaxSessions + 7 {
		s.Sessions = append(s.Sessions, Session{Client: fmt.Sprintf("client-%d.", i)})
	}
	p, _ := begun(source(s, &Counts{}))
	body, _ := got(t, p)
	if !strings.Contains(body, "and 7 more") || !strings.Contains(body, fmt.Sprintf("client-%d.", MaxSessions-1)) ||
		strings.Contains(body, fmt.Sprintf("client-%d.", MaxSessions)) {
		t.Error("not the first of them and the number of the rest")
	}
}

func TestPlotsShowRates(t *testing.T) {
	c := Counts{}
	p, now := begun(source(Status{}, &c))
	for range 3 * sampled {
		p.take()
		*now = now.Add(Interval)
		c.Refused += 15 * 200
		c.Received += 15 << 20
		c.Flows = 12
	}
	p.take()
	if len(p.samples) != sampled {
		t.Errorf("%d samples are kept, want %d", len(p.samples), sampled)
	}
	body, _ := got(t, p)
	for _, want := range []string{"up to 200/s", "by the gate: 200/s", "from clients: 1.0 MiB/s", "flows: 12"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	all := plots(p.samples, *now)
	points := strings.Fields(all[0].Lines[0].Points)
	if len(points) != sampled-1 || !strings.HasPrefix(points[0], "2.0,") || !strings.HasPrefix(points[len(points)-1], "480.0,") {
		t.Errorf("%d points from %s to %s", len(points), points[0], points[len(points)-1])
	}
}

func TestPlotsIgnoreCounterReset(t *testing.T) {
	c := Counts{Refused: 1000}
	p, now := begun(source(Status{}, &c))
	p.take()
	*now = now.Add(Interval)
	c.Refused = 0
	p.take()
	if all := plots(p.samples, *now); all[0].Most != "0" {
		t.Errorf("up to %s", all[0].Most)
	}
}

func TestPageIsReadOnly(t *testing.T) {
	p, _ := begun(source(Status{}, &Counts{}))
	for method, code := range map[string]int{http.MethodPost: 405, http.MethodDelete: 405, http.MethodHead: 200} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, "/", strings.NewReader("x")))
		if w.Code != code || method == http.MethodHead && w.Body.Len() != 0 {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}
