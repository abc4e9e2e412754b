package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/knockgw/knockgw/internal/statuspage"
)

const (
	// headerTimeout bounds how long a client may take to send a request,
	// writeTimeout how long a response may take, idleTimeout how long a
	// connection waits for the next request (scrapers ask every 15 to 60 s),
	// and maxHeader the size of a request's header, in bytes.
	headerTimeout = 2 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = 75 * time.Second
	maxHeader     = 8 << 10
	// maxConnections is how many connections are served at once: some scrapers
	// and readers of the page. They cannot take the descriptors of flows.
	// maxPerAddress is how many of them one address may have.
	maxConnections = 32
	maxPerAddress  = 16
)

// A Server serves the metrics, readiness and the status page. A nil Server
// serves nothing.
type Server struct {
	listener *boundedListener
	server   *http.Server
	page     *statuspage.Page
}

// Listen opens the listener that the configuration asks for; nil for none.
func (ob *Observer) Listen() (*Server, error) {
	cfg := ob.o.Config().Metrics
	if !cfg.Listen.IsValid() {
		return nil, nil
	}
	l, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}

	page := statuspage.New(statuspage.Source{Status: ob.pageStatus, Counts: ob.pageCounts})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(ob.Metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", ob.serveReady)
	if cfg.Page {
		name, _ := os.Hostname() // without it, the page is found by addresses only
		mux.Handle("/{$}", requireOwnName(page, name))
	}

	listener := &boundedListener{Listener: l, max: maxConnections, maxPerAddress: maxPerAddress}
	s := &Server{listener, &http.Server{
		Handler: requireLocalName(l.Addr(), mux), ConnState: listener.setState, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
	}, page}
	ob.server.Store(s)
	return s, nil
}

// requireOwnName rejects requests for a host name that is not this host's. It
// prevents DNS rebinding: a web page can make a browser ask for a name of the
// attacker, and make that name resolve to an address of this host.
func requireOwnName(h http.Handler, hostname string) http.Handler {
	short, _, _ := strings.Cut(hostname, ".")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		_, err := netip.ParseAddr(host)
		own := err == nil || r.Host == "" || host == "localhost" ||
			host != "" && (strings.EqualFold(host, hostname) || strings.EqualFold(host, short))
		if !own {
			http.Error(w, "use this host's name or address: other names may be an attacker's", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// requireLocalName rejects requests for other names than localhost on a loopback
// address, against DNS rebinding.
func requireLocalName(at net.Addr, h http.Handler) http.Handler {
	if a, err := netip.ParseAddrPort(at.String()); err != nil || !a.Addr().IsLoopback() {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && r.Host != "" { // browsers always send one
			http.Error(w, "use localhost or an address: other names may be an attacker's", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() })
	defer stop()
	var sampling sync.WaitGroup
	sampling.Go(func() { s.page.Run(ctx) })
	defer sampling.Wait()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// connections returns the number of open connections.
func (s *Server) connections() int {
	if s == nil {
		return 0
	}
	return s.listener.count()
}

// Close closes the listener if Run was not called.
func (s *Server) Close() error {
	if s == nil {
		return nil
	}
	return s.listener.Close()
}
