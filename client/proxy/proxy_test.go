package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/client/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout limits waits for events that should be immediate.
const timeout = 10 * time.Second

// services are the addresses or errors of a test proxy, by name.
type services map[string]any

func (s services) dial(ctx context.Context, address string) (net.Conn, error) {
	switch to := s[address].(type) {
	case string:
		return (&net.Dialer{}).DialContext(ctx, "tcp", to)
	case error:
		return nil, to
	default:
		return nil, &UnknownServiceError{Address: address, Services: []string{"web", "echo"}}
	}
}

// testProxy is a running proxy.
type testProxy struct {
	addr string
	stop context.CancelFunc
	done chan error
	ends chan Result
}

func start(t *testing.T, s services) testProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := testProxy{addr: l.Addr().String(), stop: stop, done: make(chan error, 1), ends: make(chan Result, 64)}
	go func() {
		r.done <- Serve(ctx, Options{Listener: l, Dial: s.dial, Drain: -1, Report: func(e Result) { r.ends <- e }})
		close(r.done)
	}()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end stops the proxy.
func (r testProxy) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Fatal("Serve does not end")
	}
}

// connect opens a connection to the proxy.
func (r testProxy) connect(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(timeout))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// waitResult returns the next Result, and checks its protocol and address.
func (r testProxy) waitResult(t *testing.T, protocol, address string) Result {
	t.Helper()
	select {
	case e := <-r.ends:
		if e.Protocol != protocol || e.Address != address {
			t.Errorf("reported %+v", e)
		}
		return e
	case <-time.After(timeout):
		t.Fatal("nothing was reported")
		return Result{}
	}
}

// echoServer starts a server that echoes each stream until its end.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// newWebSite starts a web server that responds with the request.
func newWebSite(t *testing.T, tls bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s%s", r.Method, r.Host, r.URL.Path, body, r.Header.Get("X-Forwarded-For"))
	}))
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// browser returns an HTTP client that uses a proxy.
func browser(t *testing.T, proxyURL string) *http.Client {
	t.Helper()
	u, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: timeout}
}

func TestServeBrowserByName(t *testing.T) {
	r := start(t, services{
		"web:80":         newWebSite(t, false).Listener.Addr().String(),
		"web:443":        newWebSite(t, true).Listener.Addr().String(),
		"10.77.0.1:8080": newWebSite(t, false).Listener.Addr().String(),
		"[fd77::1]:80":   newWebSite(t, false).Listener.Addr().String(),
	})
	for _, scheme := range []string{"http://", "socks5h://"} {
		for _, c := range []struct{ url, want string }{
			{"http://web/wiki", "POST web /wiki question"},
			{"http://WEB./wiki", "POST WEB. /wiki question"},
			{"https://web/", "POST web / question"},
			{"http://10.77.0.1:8080/", "POST 10.77.0.1:8080 / question"},
			{"http://[fd77:0::1]/x", "POST [fd77:0::1] /x question"},
		} {
			t.Run(scheme+c.url, func(t *testing.T) {
				resp, err := browser(t, scheme+r.addr).Post(c.url, "text/plain", strings.NewReader("question"))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != c.want {
					t.Errorf("%s %q: %v", resp.Status, got, err)
				}
			})
		}
	}
}

func TestServeUnknownService(t *testing.T) {
	r := start(t, services{"shut:80": errors.New("authenticate: no"), "late:80": context.DeadlineExceeded})
	for address, want := range map[string]int{
		"www.example.org": http.StatusForbidden, "shut": http.StatusBadGateway, "late": http.StatusGatewayTimeout,
	} {
		resp, err := browser(t, "http://"+r.addr).Get("http://" + address + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || want == http.StatusForbidden && !strings.Contains(string(body), "web, echo") {
			t.Errorf("%s: %s %q", address, resp.Status, body)
		}
		if e := r.waitResult(t, HTTP, address+":80"); e.Err == nil {
			t.Errorf("%+v", e)
		}
	}
	c := r.connect(t)
	fmt.Fprintf(c, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%+v, %v", resp, err)
	}
	defer resp.Body.Close()
	body := make([]byte, resp.ContentLength)
	if _, _ = io.ReadFull(resp.Body, body); !strings.Contains(string(body), "web, echo") {
		t.Errorf("%q", body)
	}
	r.waitResult(t, Connect, "example.org:443")
}

func TestHTTPBadRequest(t *testing.T) {
	r := start(t, services{})
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: web\r\n\r\n",
		"GET https://web/ HTTP/1.1\r\nHost: web\r\n\r\n",
		"GET http://web:99999/ HTTP/1.1\r\nHost: web\r\n\r\n",
		"CONNECT web HTTP/1.1\r\nHost: web\r\n\r\n",
		"CONNECT web:0 HTTP/1.1\r\nHost: web\r\n\r\n",
		"CONNECT /web:1 HTTP/1.1\r\nHost: web:1\r\n\r\n",
		"CONNECT a%0ab:1 HTTP/1.1\r\nHost: web:1\r\n\r\n",
		"* / \r\n\r\n",
		"GET http://web/ HTTP/1.1\r\nHost: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n",
	} {
		c := r.connect(t)
		go func() { _, _ = io.WriteString(c, text) }()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%.60q: %v", text, err)
			continue
		}
		if resp.StatusCode/100 != 4 || resp.StatusCode == http.StatusForbidden {
			t.Errorf("%.60q: %s", text, resp.Status)
		}
		_ = resp.Body.Close()
		_ = c.Close()
	}
}

func TestConnectEarlyDataAndHalfClose(t *testing.T) {
	r := start(t, services{"echo:7": echoServer(t)})
	const early, late = "said before the answer ", "and after"
	for name, hello := range map[string]string{
		Connect: "CONNECT echo:7 HTTP/1.1\r\nHost: echo:7\r\n\r\n",
		SOCKS5:  "\x05\x02\x00\x02" + "\x05\x01\x00\x03\x04echo\x00\x07",
	} {
		t.Run(name, func(t *testing.T) {
			c := r.connect(t)
			if _, err := io.WriteString(c, hello+early); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(c)
			if name == Connect {
				resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatal(resp, err)
				}
				defer resp.Body.Close()
			} else if n, err := in.Discard(2 + 10); err != nil {
				t.Fatal(n, err)
			}
			if _, err := io.WriteString(c, late); err != nil {
				t.Fatal(err)
			}
			_ = c.CloseWrite()
			if got, err := io.ReadAll(in); err != nil || string(got) != early+late {
				t.Errorf("%q, %v", got, err)
			}
			e := r.waitResult(t, name, "echo:7")
			if want := int64(len(early + late)); e.Err != nil || !e.Dialled || e.Stats != (relay.Stats{Up: want, Down: want}) {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestServeContextEndsClients(t *testing.T) {
	r := start(t, services{"echo:7": echoServer(t), "web:80": newWebSite(t, false).Listener.Addr().String()})
	silent := r.connect(t)
	joined := r.connect(t)
	_, _ = io.WriteString(joined, "CONNECT echo:7 HTTP/1.1\r\nHost: echo:7\r\n\r\n")
	if _, err := io.ReadFull(joined, make([]byte, len(established))); err != nil {
		t.Fatal(err)
	}
	idle := r.connect(t)
	_, _ = io.WriteString(idle, "GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(idle), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	begun := r.connect(t)
	_, _ = io.WriteString(begun, "GET ht")
	r.end(t)
	for _, c := range []net.Conn{silent, joined, idle, begun} {
		if _, err := io.ReadAll(c); errors.Is(err, syscall.ETIMEDOUT) || isTimeout(err) {
			t.Error("a connection lives on")
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestServeRequiredOptions(t *testing.T) {
	if err := Serve(t.Context(), Options{}); !errors.Is(err, relay.ErrOptions) {
		t.Error(err)
	}
}

func TestNormalizeAddress(t *testing.T) {
	for _, c := range []struct{ host, want string }{
		{"Web", "web:80"}, {"web.", "web:80"}, {"a.b.example.", "a.b.example:80"},
		{"192.0.2.1", "192.0.2.1:80"}, {"192.0.2.1.", "192.0.2.1:80"}, {"::FFFF:192.0.2.1", "192.0.2.1:80"}, {"FD77::0001", "[fd77::1]:80"},
		{"", ""}, {".", ""}, {"..", ""}, {"web..", ""}, {".web", ""}, {"a..b", ""}, {"a b", ""}, {"a:b", ""}, {strings.Repeat("a", maxHostLen+1), ""},
	} {
		got, err := normalizeAddress(c.host, 80)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("address(%q) = %q, %v; want %q", c.host, got, err, c.want)
		}
		if err == nil {
			checkNormalized(t, got)
		}
	}
}
