package statuspage

import (
	"context"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testtool"
)

// screenshotVariable names the file to which the test writes a screenshot.
const screenshotVariable = "KNOCKGW_SCREENSHOT"

// busy returns a page with an hour of samples, including a port scan.
func busy() *Page {
	c := Counts{}
	p, now := newTestPage(Source{})
	started := now.Add(-51 * time.Hour)
	p.source = source(Status{
		Version: "v1.0.0", Device: "knock0", Started: started, Ready: true, Filtered: true, Flows: 3,
		Services: []Service{
			{Name: "ssh", Listen: "10.77.0.1:22", Mode: "knock-auth", VisibleAs: "nothing", Knock: "udp, udp-v2", Auth: "v1, v2", Clients: 12, Flows: 2},
			{Name: "postgres", Listen: "10.77.0.2:5432", Mode: "knock-auth", VisibleAs: "nothing", Knock: "udp-v2", Auth: "v2", Clients: 3, Flows: 1},
			{Name: "web", Listen: "[fd77::1]:443", Mode: "auth", VisibleAs: "an open port", Knock: "-", Auth: "v2", Clients: 12},
		},
		Sessions: []Session{
			{Client: "alice", Source: "10.1.1.2:50122", Service: "ssh", Upstream: "10.0.2.2:22", Age: 42 * time.Second, Received: 18 << 10, Sent: 400 << 10},
			{Client: "backup", Source: "10.1.4.9:41200", Service: "postgres", Upstream: "10.0.2.3:5432", Age: 3 * time.Hour, Received: 90 << 20, Sent: 7 << 30},
			{Client: "bob", Source: "[fd01:1::2]:50911", Service: "ssh", Upstream: "10.0.2.2:22", Age: 26 * time.Hour, Received: 2 << 20, Sent: 30 << 20},
		},
		Grants: 1, Sources: 5, Banned: 2,
	}, &c)
	for i := range maxSamples {
		p.sample()
		*now = now.Add(Interval)
		scan := 0.0
		if i > 90 && i < 150 {
			scan = 3000 * math.Sin(float64(i-90)/60*math.Pi)
		}
		c.Dropped += uint64(15 * (4 + scan/40 + float64(i%7)))
		c.DroppedInKernel += uint64(15 * (20 + scan + float64(i%11)))
		c.Knocks += uint64(1 + i%29/20)
		if i%40 == 0 {
			c.KnocksDenied++
		}
		c.Received += uint64(15 * (200<<10 + (i%13)*(30<<10)))
		c.Sent += uint64(15 * (2<<20 + int(800<<10*math.Sin(float64(i)/9))))
		c.Flows = 3 + i/20%4
	}
	p.sample()
	return p
}

// browserTime is the time limit of the browser, which takes a second.
const browserTime = time.Minute

func TestPageRendersInBrowser(t *testing.T) {
	chromium := testtool.Require(t, "chromium")[0]
	server := httptest.NewServer(busy())
	defer server.Close()
	file := os.Getenv(screenshotVariable)
	if file == "" {
		file = filepath.Join(t.TempDir(), "page.png")
	}
	browse := func(args ...string) string {
		t.Helper()
		args = append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
			"--user-data-dir=" + t.TempDir(), "--window-size=1240,1120", "--hide-scrollbars",
		}, args...)
		ctx, cancel := context.WithTimeout(t.Context(), browserTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, chromium, append(args, server.URL)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		return string(out)
	}
	dom := browse("--dump-dom")
	for _, want := range []string{"Protected services", "alice", "10.77.0.2:5432", "<polyline"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the browser has no %q", want)
		}
	}
	browse("--screenshot=" + file)
	if info, err := os.Stat(file); err != nil || info.Size() < 10<<10 {
		t.Errorf("no screenshot: %v", err)
	}
}
