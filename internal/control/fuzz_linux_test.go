package control

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest sends requests with any query and body. Each must have a
// response, JSON or a stream; rejected requests must have no effect.
func FuzzRequest(f *testing.F) {
	requests := []string{
		"GET /v1/flows", "POST /v1/revoke", "POST /v1/pardon", "GET /v1/trace", "GET /v1/capture", "POST /v1/reload",
		"POST /v1/check", "GET /v1/status", "GET /v1/bans", "GET /v1/nothing",
	}
	for which, c := range [][2]string{
		{"measure=1s"}, {"", `{"client":"alice","source":"203.0.113.0/24","grants":true}`}, {"", `{"source":"203.0.113.2/32"}`},
		{"from=203.0.113.2/32&service=ssh"}, {"filter=tcp+and+port+22&snaplen=60&count=1"}, {},
	} {
		f.Add(byte(which), c[0], []byte(c[1]))
	}
	f.Add(byte(4), "filter=not+(udp+or+(host+::1))", []byte(nil))
	f.Fuzz(func(t *testing.T, which byte, query string, body []byte) {
		method, path, _ := strings.Cut(requests[int(which)%len(requests)], " ")
		g := &fakeGateway{result: &Result{}}
		r := httptest.NewRequest(method, "/", bytes.NewReader(body))
		r = r.WithContext(context.WithValue(t.Context(), peerKey{}, &peer{})) // root
		r.URL = &url.URL{Path: path, RawQuery: query}
		w := httptest.NewRecorder()
		(&Server{}).handler(g).ServeHTTP(w, r)
		answer := w.Result()
		if answer.StatusCode >= http.StatusBadRequest && len(g.calls) > 0 {
			t.Fatalf("status %d, and it did %v", answer.StatusCode, g.calls)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") && strings.HasPrefix(path, "/v1/re") && !json.Valid(text) {
			t.Fatalf("the answer is no JSON: %q", text)
		}
	})
}
