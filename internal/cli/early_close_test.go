package cli

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client"
)

// reset resets a connection, as a gateway does if the service is down.
func reset(c net.Conn) {
	_ = c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).SetLinger(0)
}

func TestEarlyCloseNamesService(t *testing.T) {
	g := newGate(t, reset)
	proven := g.profile("lab", "down")
	proven.Services[0].Auth.Proof = true
	profiles(t, proven)
	early := (&client.EarlyCloseError{Proven: true}).Error()
	r, w := io.Pipe()
	defer w.Close()
	if _, _, err := runCommandLine(t, r, "connect", "down"); exitCode(err) != exitFailed || err.Error() != early {
		t.Errorf("connect: %d, %v", exitCode(err), err)
	}
	out, _, err := runCommandLine(t, nil, "ping", "down", "-c", "1", "-o", "json")
	var report pingReport
	if bad := json.Unmarshal([]byte(out), &report); bad != nil || exitCode(err) != exitFailed ||
		report.Succeeded != 0 || report.Attempts[0].Step != stepService || report.Attempts[0].Error != early {
		t.Errorf("ping: %v, %v, %+v", bad, err, report)
	}
	// Without a proof, the authentication may have failed too.
	if _, _, err := runCommandLine(t, nil, "ping", "down", "-c", "1", "--proof=false", "--timeout", "1s"); exitCode(err) != exitAuthenticate {
		t.Errorf("ping without a proof: %v", err)
	}

	l := listen(t, "forward", "down")
	c, err := net.Dial("tcp", l.addr)
	if err == nil { // unless it is reset at once
		_ = c.SetDeadline(time.Now().Add(timeout))
		_, _ = io.WriteString(c, "hello")
		_, _ = io.ReadAll(c)
		_ = c.Close()
	}
	l.end(t)
	if text := l.stderr.String(); !strings.Contains(text, early) || strings.Contains(text, "readfrom") {
		t.Errorf("forward: %s", text)
	}

	l = listen(t, "proxy", "--listen", "127.0.0.1:0")
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.addr})}
	answer, err := (&http.Client{Transport: transport, Timeout: timeout}).Get("http://down/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	transport.CloseIdleConnections()
	l.end(t)
	if answer.StatusCode != http.StatusBadGateway || !strings.Contains(string(body), early) {
		t.Errorf("proxy: %s, %s", answer.Status, body)
	}
	if text := l.stderr.String(); !strings.Contains(text, early) {
		t.Errorf("proxy: %s", text)
	}
}

func TestEarlyCloseSilentService(t *testing.T) {
	g := newGate(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	profiles(t, g.profile("lab", "sink"))
	if _, _, err := runCommandLine(t, strings.NewReader("taken"), "connect", "sink", "--proof"); err != nil {
		t.Error(err)
	}
	if out, _, err := runCommandLine(t, nil, "ping", "sink", "--proof", "-c", "1"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
