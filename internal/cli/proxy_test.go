package cli

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestProxyServicesByName(t *testing.T) {
	one, two := newGate(t, hello), newGate(t, hello)
	p := one.profile("lab", "web")
	p.Services = append(p.Services, one.profile("lab", "Wiki").Services...)
	dir := profiles(t, p, two.profile("other.lab", "web"))
	l := listen(t, "proxy", "--listen", "127.0.0.1:0")
	get := func(host string) (int, string) {
		transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.addr})}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: timeout}).Get("http://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for host, gate := range map[string]*gate{
		"wiki": one, "wiki:8080": one, "wiki.lab": one, "web.lab": one, "web.other.lab": two, two.addr: two,
	} {
		before := gate.knocks.Load()
		if code, body := get(host); code != http.StatusOK || body != "hello from "+host || gate.knocks.Load() == before {
			t.Errorf("%s: %d %q", host, code, body)
		}
	}
	if code, body := get("web"); code != http.StatusBadGateway || !strings.Contains(body, "web.lab or web.other.lab") {
		t.Errorf("of two it was one: %d %q", code, body)
	}
	if code, body := get("www.example.org"); code != http.StatusForbidden || !strings.Contains(body, "web.lab, Wiki, web.other.lab") {
		t.Errorf("an open proxy: %d %q", code, body)
	}
	if _, err := dir.Save(one.profile("late", "news"), false); err != nil {
		t.Fatal(err)
	}
	if code, body := get("news"); code != http.StatusOK {
		t.Errorf("imported later: %d %q", code, body)
	}
}

func TestProxySingleProfile(t *testing.T) {
	g := newGate(t, hello)
	profiles(t, g.profile("lab", "web"), g.profile("other", "wiki"))
	s := proxyServices{dir: dirOf(t), only: []string{"lab"}}
	if _, err := s.find("web:80"); err != nil {
		t.Error(err)
	}
	if door, err := s.find("wiki:80"); err == nil {
		t.Errorf("found %v", door)
	}
}
