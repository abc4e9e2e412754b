package observe

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// serveBounded serves HTTP on a bounded listener on loopback, and returns its
// address.
func serveBounded(t *testing.T, max, maxPerAddress int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &boundedListener{Listener: l, max: max, maxPerAddress: maxPerAddress}
	server := &http.Server{ConnState: s.setState, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(s) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String()
}

func TestListenerEvictsIdleForProbes(t *testing.T) {
	const max = 4
	for name, atOnce := range map[string]int{"fewer": 2, "many": max} {
		t.Run(name, func(t *testing.T) {
			at := serveBounded(t, atOnce, 1)
			for range 10 * max {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
			probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
			for range 3 {
				answer, err := probe.Get("http://" + at + "/livez")
				if err != nil {
					t.Fatal(err)
				}
				_ = answer.Body.Close()
			}
		})
	}
}

func TestListenerEvictsBetweenRequests(t *testing.T) {
	at := serveBounded(t, 1, 1)
	first, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for range 2 { // kept open between requests
		_, _ = io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(first), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}

	// The server notes that a connection is idle only after sending the
	// response.
	var second *http.Response
	for range 200 {
		if second, err = http.Get("http://" + at + "/"); err == nil {
			_ = second.Body.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(err)
}

func TestStatusPageRequiresOwnName(t *testing.T) {
	page := requireOwnName(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), "gw1.example.org")
	for host, want := range map[string]int{
		"10.0.0.5:9091": http.StatusOK, "[fd00::5]:9091": http.StatusOK, "localhost:9091": http.StatusOK, "": http.StatusOK,
		"gw1.example.org:9091": http.StatusOK, "GW1:9091": http.StatusOK,
		"attacker.example:9091": http.StatusMisdirectedRequest, "gw1.attacker.example": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestListenerBoundsConnectionsPerAddress(t *testing.T) {
	s := &boundedListener{max: 4, maxPerAddress: 2}
	connection := func(addr string, busy bool) *boundedConn {
		return &boundedConn{listener: s, addr: netip.MustParseAddr(addr), busy: busy}
	}
	for i, c := range []struct {
		addr      string
		busy      bool
		evicts    bool
		refused   bool
		stillOpen int
	}{
		{addr: "192.0.2.1", busy: true, stillOpen: 1},
		{addr: "192.0.2.1", busy: true, stillOpen: 2},
		{addr: "192.0.2.1", refused: true, stillOpen: 2},
		{addr: "192.0.2.2", stillOpen: 3},
		{addr: "192.0.2.3", busy: true, stillOpen: 4},
		{addr: "192.0.2.4", busy: true, evicts: true, stillOpen: 4},
		{addr: "192.0.2.5", refused: true, stillOpen: 4},
	} {
		evicted, ok := s.add(connection(c.addr, c.busy))
		if (evicted != nil) != c.evicts || ok == c.refused || s.count() != c.stillOpen {
			t.Errorf("%d, %s: evicted %v, taken %v, %d are open", i, c.addr, evicted != nil, ok, s.count())
		}
	}
}
