package gateway_test

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/buildinfo"
)

// withMetrics returns a harness that serves metrics, and their URL.
func withMetrics(t *testing.T, more string) (*harness, string, *prometheus.Registry) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	h := newHarness(t, true, services(echoUpstream(t))+more+fmt.Sprintf("metrics: {listen: %q}\n", addr),
		func(o *gateway.Options) { o.Registry = registry })
	return h, "http://" + addr, registry
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestMetricsServerServesPageAndHealth(t *testing.T) {
	h, url, _ := withMetrics(t, "")
	conn, err := h.connectAs(alice, clientAddrs[2], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "alice is on the page", func() bool {
		code, body := get(t, url+"/")
		return code == http.StatusOK && strings.Contains(body, "alice") && strings.Contains(body, "ipv6-3") && strings.Contains(body, "[2001:db8::1]:")
	})
	for _, path := range []string{"/", "/metrics"} {
		if _, body := get(t, url+path); !strings.Contains(html.UnescapeString(body), buildinfo.This().Version) {
			t.Errorf("%s does not say that this is %s", path, buildinfo.This().Version)
		}
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/nothing": 404} {
		if code, body := get(t, url+path); code != want {
			t.Errorf("%s: %d, %s", path, code, body)
		}
	}
}

func TestMetricsServerRejectsForeignHost(t *testing.T) {
	_, url, _ := withMetrics(t, "")
	defer http.DefaultClient.CloseIdleConnections()
	for host, want := range map[string]int{
		"": 200, "localhost:9100": 200, "localhost": 200, "127.0.0.1": 200, "[::1]:9100": 200, "[::1]": 200,
		"evil.example": 421, "evil.example:9100": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
	} {
		for _, path := range []string{"/", "/metrics"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s for %q: %d", path, host, resp.StatusCode)
			}
		}
	}
}

// Health checks with HTTP/1.0 send no Host header; browsers always do.
func TestMetricsServerAcceptsMissingHost(t *testing.T) {
	_, url, _ := withMetrics(t, "")
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /livez HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("%q, %v", line, err)
	}
}

func TestMetricsServerLimitsConnections(t *testing.T) {
	_, url, registry := withMetrics(t, "")
	defer http.DefaultClient.CloseIdleConnections()
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	const most = 32
	for range most {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	// Before the probe, which takes the oldest's place and gives it back.
	eventually(t, "all connections are in use", func() bool {
		used, limit := usage(t, registry)
		return used["metrics_connections"] == most && limit["metrics_connections"] == most
	})
	if code, _ := get(t, url+"/livez"); code != http.StatusOK { // the oldest makes room
		t.Errorf("a probe was answered with %d", code)
	}
	for _, c := range idle {
		c.Close()
	}
	if code, _ := get(t, url+"/livez"); code != http.StatusOK {
		t.Error(code)
	}
}

func TestReadyzReportsUnresolvedUpstream(t *testing.T) {
	_, url, _ := withMetrics(t, `  - {name: lost, listen: "10.77.0.1:99", upstream: "nowhere.invalid:1", mode: knock}`+"\n")
	if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "service lost") {
		t.Errorf("%d, %s", code, body)
	}
	if _, body := get(t, url+"/metrics"); !strings.Contains(body, `knockgw_ready{check="upstreams"} 0`) {
		t.Error("the metrics do not say that it is not ready")
	}
}

func TestMetricsFollowNamingConventions(t *testing.T) {
	h, url, registry := withMetrics(t, "")
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %+v", err, problems)
	}
	_, body := get(t, url+"/metrics")
	for _, want := range []string{
		`knockgw_resource_limit{resource="flow_table_entries"} 131072`, `knockgw_resource_limit{resource="knock_queue_length"} 512`, "knockgw_build_info{",
		"knockgw_trace_sessions 0", "knockgw_banned_sources 0", `knockgw_tcp_events_total{event="handshakes"}`, "knockgw_audit_dropped_events_total 0",
		"knockgw_configured_clients 2", `knockgw_ready{check="device"} 1`, `knockgw_ready{check="store"} 1`, `knockgw_resource_limit{resource="udp_sequences"} 4096`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
}
