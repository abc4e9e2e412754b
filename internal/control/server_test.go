package control

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestServerRejectsUnknownRequests(t *testing.T) {
	g := &fakeGateway{}
	c := serve(t, g)
	for _, r := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v1/reload", http.StatusMethodNotAllowed},
		{http.MethodPost, "/v1/halt", http.StatusNotFound},
		{http.MethodPost, "/", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://knockgw"+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != r.want {
			t.Errorf("%s %s: %s", r.method, r.path, resp.Status)
		}
	}
	if len(g.calls) > 0 {
		t.Errorf("the gateway was asked %q", g.calls)
	}
}

func TestServerRejectsInvalidRevocations(t *testing.T) {
	g := &fakeGateway{}
	c := serve(t, g)
	for body, want := range map[string]int{
		`{"all":true}` + "\n":      http.StatusOK,
		`{"all":true} garbage`:     http.StatusUnprocessableEntity,
		`{"all":true}{"all":true}`: http.StatusUnprocessableEntity,
		`{"all":true}]`:            http.StatusUnprocessableEntity,
		`{"all":true,"more":1}`:    http.StatusUnprocessableEntity,
		``:                         http.StatusUnprocessableEntity,
	} {
		g.calls = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://knockgw/v1/revoke", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || (len(g.calls) > 0) != (want == http.StatusOK) {
			t.Errorf("%s: %s, the gateway was asked %q", body, resp.Status, g.calls)
		}
	}
}

func TestServerLimitsConnections(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var open []net.Conn
	for range MaxConnections {
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "connections already") {
		t.Errorf("one more than the most: %v", err)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Status(t.Context()); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatalf("no response after they are closed: %v", err)
		}
	}
}

func TestServerRejectsLongHeaders(t *testing.T) {
	c := serve(t, &fakeGateway{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://knockgw/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 2*maxHeader))
	resp, err := c.http().Do(req)
	if err != nil {
		return // closed while we wrote
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%s", resp.Status)
	}
}
