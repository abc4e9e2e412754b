//go:build linux

package netns_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	nginxPath  = "/usr/sbin/nginx"
	webPort    = 8080
	webWelcome = "welcome behind the endpoint\n"
	// webLarge is the size of the large page in bytes.
	webLarge = 20_000_000
	proxied  = "127.0.0.1:1080"
)

// A website is a real nginx on the upstream with two pages.
type website struct {
	*lab.Process

	large [sha256.Size]byte // digest of /large
}

func serveWeb(t *testing.T, h *lab.Host) *website {
	t.Helper()
	lab.RequireTools(t, nginxPath, "curl")
	dir := t.TempDir()
	root := filepath.Join(dir, "pages")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, root, "index.html", webWelcome)
	w := &website{large: random(t, filepath.Join(root, "large"), webLarge)}
	config := write(t, dir, "nginx.conf", `daemon off;
user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr notice;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		root %[1]s/pages;
	}
}
`, dir, netip.AddrPortFrom(h.Addr4, webPort))
	w.Process = h.Start(nginxPath, "-e", "stderr", "-p", dir, "-c", config)
	// Killed, the master would leave its worker behind.
	t.Cleanup(func() {
		w.Signal(syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), serverTime)
		defer cancel()
		if _, err := w.Wait(ctx); err != nil {
			t.Error(err)
		}
	})
	waitLog(t, w.Process, serverTime, "start worker process ")
	return w
}

func TestHiddenWebServesBrowser(t *testing.T) {
	t.Parallel()
	lab.RequireTools(t, "nmap")
	l := lab.New(t)
	web := serveWeb(t, l.Upstream)
	d := endpoint{name: "web", listen: netip.MustParseAddrPort("10.77.0.1:80"),
		upstream: netip.AddrPortFrom(l.Upstream.Addr4, webPort).String()}
	h := hide(t, l, protocol.MethodUDP, d)
	h.filtered(t, d)
	proxy := h.Client.StartCommand(t, h.command(t.Context(), "knockgw", "proxy", "--listen", proxied))
	waitLog(t, proxy, serverTime, proxied)

	h.unseen(t, d, func() {
		for name, flags := range map[string][]string{
			"by SOCKS5":        {"--proxy", "socks5h://" + proxied},
			"by HTTP CONNECT":  {"--proxy", "http://" + proxied, "--proxytunnel"},
			"by a request":     {"--proxy", "http://" + proxied},
			"by SOCKS5's IPv4": {"--proxy", "socks5://" + proxied},
		} {
			t.Run("curl "+name, func(t *testing.T) {
				at := "http://web/"
				if strings.HasPrefix(flags[1], "socks5:") { // which resolves names itself
					at = "http://" + d.listen.String() + "/"
				}
				flags := append([]string{"--silent", "--show-error", "--fail", "--noproxy", "", "--max-time", "30"}, flags...)
				if out := h.run(t, "curl", append(flags, at)...); out != webWelcome {
					t.Errorf("curl got %q", out)
				}
				large := h.run(t, "curl", append(flags, at+"large")...)
				if len(large) != webLarge || sha256.Sum256([]byte(large)) != web.large {
					t.Errorf("curl got %d bytes of %d, or others", len(large), webLarge)
				}
			})
		}
		t.Run("curl asks for what is no service", func(t *testing.T) {
			for _, flags := range [][]string{{"--proxy", "socks5h://" + proxied}, {"--proxy", "http://" + proxied},
				{"--proxy", "http://" + proxied, "--proxytunnel"}} {
				args := append([]string{"--silent", "--show-error", "--fail", "--noproxy", "", "--max-time", "30"}, flags...)
				out, err := h.Client.RunCommand(h.command(t.Context(), "curl", append(args, "http://elsewhere/")...))
				if err == nil {
					t.Errorf("curl %v got %q", flags, out)
				}
			}
		})
		t.Run("http.Client with a Dialer", func(t *testing.T) {
			got := done[fetched](withTimeout(t, serverTime), t, l.Client, &fetching{Profile: h.file(), Service: d.name, Pages: 40})
			if want := hex.EncodeToString(web.large[:]); got.Large != want || got.Welcome != 2*40 {
				t.Errorf("it was welcomed %d times of %d, and got a page with digest %s, want %s", got.Welcome, 2*40,
					got.Large, want)
			}
		})
	})
	h.filtered(t, d)
}

// fetching is a Go program with an http.Client that dials with a client.Dialer,
// and one that dials with a profile.
type fetching struct {
	Profile string // the file
	Service string
	Pages   int // how many small ones each client fetches, several at a time
}

type fetched struct {
	Welcome int    // how often the small page was as it should be
	Large   string // digest of the large one
}

// fetchers is how many pages are fetched at a time.
const fetchers = 8

func (f *fetching) do(ctx context.Context) (any, error) {
	p, err := profile.Load(f.Profile)
	if err != nil {
		return nil, err
	}
	endpoint, err := p.Find(f.Service)
	if err != nil {
		return nil, err
	}
	dialer, err := endpoint.Dialer()
	if err != nil {
		return nil, err
	}
	var got fetched
	var mu sync.Mutex
	for at, transport := range map[string]*http.Transport{
		"http://" + endpoint.Address + "/": {DialContext: dialer.DialContext, MaxIdleConnsPerHost: fetchers / 2},
		"http://" + f.Service + "/":        {DialContext: p.DialContext, MaxIdleConnsPerHost: fetchers / 2},
	} {
		c := &http.Client{Transport: transport}
		var all errgroup.Group
		all.SetLimit(fetchers)
		for range f.Pages {
			all.Go(func() error {
				text, err := fetch(ctx, c, at)
				mu.Lock()
				defer mu.Unlock()
				if string(text) == webWelcome {
					got.Welcome++
				}
				return err
			})
		}
		if err := all.Wait(); err != nil {
			return nil, err
		}
		text, err := fetch(ctx, c, at+"large")
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256(text)
		got.Large = hex.EncodeToString(digest[:])
		transport.CloseIdleConnections()
	}
	return got, nil
}

func fetch(ctx context.Context, c *http.Client, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", at, resp.Status)
	}
	return text, errors.Join(err, resp.Body.Close())
}
