package gateway

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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/statuspage"
	"github.com/knockgw/knockgw/metrics"
)

// metricSet is what the gateway counts: of the gate and the authentications what
// package metrics does for every program, and the rest here. Labels come from enums
// and from the configuration's service names, never from what strangers send.
type metricSet struct {
	registry *prometheus.Registry
	gate     *metrics.Gate
	auths    *metrics.Auth
	dials    *prometheus.CounterVec
	reloads  reloadMetrics
	source   atomic.Pointer[parts] // where the counts that are only read on demand come from
}

// newRegistry is the registry of a gateway that is a program of its own: what the
// process takes is in it, too.
func newRegistry() *ownRegistry {
	r := &ownRegistry{Registry: prometheus.NewRegistry(), process: newProcessCollector()}
	r.MustRegister(collectors.NewGoCollector())
	if r.process != nil {
		r.MustRegister(r.process)
	}
	return r
}

// ownRegistry is a registry that nobody has given us.
type ownRegistry struct {
	*prometheus.Registry
	process prometheus.Collector // nil where there is none
}

// open prepares what is to be read without privileges, until done.
func (r *ownRegistry) open() (done func()) {
	if r != nil {
		if p, ok := r.process.(interface{ open() func() }); ok {
			return p.open()
		}
	}
	return func() {}
}

func newMetrics(r *prometheus.Registry) (*metricSet, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "knockgw", Name: name, Help: help}, labels)
	}
	m := &metricSet{
		registry: r,
		gate:     metrics.NewGate(),
		auths:    metrics.NewAuth(),
		dials:    counter("upstream_dials_total", "Connections to upstreams, by service and result.", "service", "result"),
	}
	m.reloads.init(counter)
	for _, c := range []prometheus.Collector{
		m.gate, m.auths, m.dials, m.reloads.total, m.reloads.successful, m.reloads.succeeded, collector{m},
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

// watch names the parts whose counts are read on demand.
func (m *metricSet) watch(p *parts) {
	m.gate.Watch(p.gate)
	m.source.Store(p)
}

func (m *metricSet) dialed(service string, err error) {
	result := "ok"
	var timeout net.Error
	switch {
	case err == nil:
	case errors.As(err, &timeout) && timeout.Timeout():
		result = "timeout"
	default:
		result = "failed"
	}
	m.dials.WithLabelValues(service, result).Inc()
}

// collector reads the filter, the flows and the stack when Prometheus asks.
type collector struct{ m *metricSet }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("knockgw_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector. The metrics are made as they are
// collected; the registry checks them then.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	src := c.m.source.Load()
	if src == nil {
		return
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	truth := func(d *prometheus.Desc, is bool, labels ...string) {
		n := 0.0
		if is {
			n = 1
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	ready := desc("ready", "1 if this is not in the way of clients; /readyz has the words.", "check")
	for _, c := range src.g.checks(context.Background()) {
		truth(ready, len(c.problems) == 0, c.name)
	}
	truth(desc("filter_attached", "1 if packets are refused in the kernel, too."), src.filtering)
	truth(desc("filter_overflow", "1 if the kernel passes whatever could be a SYN knock or udp-v2, for want of room for those that are expected."),
		src.filtering && src.filter.Overflowed())
	filtered := desc("filter_dropped_packets_total", "Packets refused in the kernel, by reason; they are in no other count.", "reason")
	for _, c := range src.dropped() {
		count(filtered, c.Packets, c.Reason.String())
	}

	set := src.g.flows
	t := set.Totals()
	gauge(desc("flows", "Flows being served."), set.Len())
	count(desc("flows_relayed_total", "Flows that reached their upstream."), t.Flows)
	ends := desc("flow_ends_total", "Flows ended, by reason.", "reason")
	for e := range flows.NumCloseReasons {
		count(ends, t.Closed[e], flows.CloseReason(e).String())
	}
	bytes := desc("relayed_bytes_total", "Bytes relayed, from clients (up) and to them (down).", "direction")
	count(bytes, t.Up, "up")
	count(bytes, t.Down, "down")
	count(desc("tcp_retransmits_total", "TCP segments that the stack sent again."), src.stack.Retransmits())
	tcp := desc("tcp_events_total", "What the TCP/IP stack counts, by event.", "event")
	for _, c := range src.stack.Counters() {
		count(tcp, c.Count, c.Name)
	}
	src.collectBounds(ch)
	count(desc("audit_dropped_events_total", "Events that are missing in the audit."), src.g.audit.Dropped())
	now := src.g.now.Load().cfg
	gauge(desc("configured_services", "Services of the configuration in force."), len(now.Services))
	gauge(desc("configured_clients", "Clients of the configuration in force."), len(now.Clients))
	ch <- prometheus.MustNewConstMetric(desc("build_info", "1, labelled with what runs.", "version", "goversion"),
		prometheus.GaugeValue, 1, buildinfo.This().Version, buildinfo.This().Go)
}

// metricsServer serves the registry; nil where nobody listens.
type metricsServer struct {
	listener *scrapers
	server   *http.Server
	page     *statuspage.Page
}

const (
	// headerTime bounds how long a scraper may take to ask, answerTime how long an
	// answer may take, keptTime how long a connection waits for the next question
	// (scrapers ask every 15 to 60 s), and maxHeader what is read of a question, in
	// bytes.
	headerTime = 2 * time.Second
	answerTime = 10 * time.Second
	keptTime   = 75 * time.Second
	maxHeader  = 8 << 10
	// maxScrapers is how many connections are served at once: some scrapers and
	// readers of the page. They cannot take the descriptors of flows.
	// maxScrapersOfOne is how many of them one address may have.
	maxScrapers      = 32
	maxScrapersOfOne = 16
)

func (g *Gateway) listenMetrics() (*metricsServer, error) {
	addr := g.now.Load().cfg.Metrics.Listen
	if !addr.IsValid() {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	page := statuspage.New(statuspage.Source{Status: g.pageStatus, Counts: g.pageCounts})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", g.answerReady)
	if g.now.Load().cfg.Metrics.Page {
		name, _ := os.Hostname() // without it, the page is found by addresses alone
		mux.Handle("/{$}", ownNames(page, name))
	}
	listener := &scrapers{Listener: l, max: maxScrapers, maxPerAddress: maxScrapersOfOne}
	return &metricsServer{listener, &http.Server{
		Handler: askedHere(l.Addr(), mux), ConnState: listener.watch,
		ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: answerTime, IdleTimeout: keptTime, MaxHeaderBytes: maxHeader,
	}, page}, nil
}

// ownNames refuses requests for a name that is not this host's: pages of the web
// have a browser ask for a name of theirs, and make that name an address here.
func ownNames(h http.Handler, hostname string) http.Handler {
	short, _, _ := strings.Cut(hostname, ".")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		_, err := netip.ParseAddr(host)
		own := err == nil || r.Host == "" || host == "localhost" ||
			host != "" && (strings.EqualFold(host, hostname) || strings.EqualFold(host, short))
		if !own {
			http.Error(w, "ask for this host's name or address: any other name may be a stranger's", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// askedHere refuses requests for another host where only this one is to ask: pages of
// the web have a browser ask for a name of theirs, which by then is the name of 127.0.0.1.
func askedHere(at net.Addr, h http.Handler) http.Handler {
	if a, err := netip.ParseAddrPort(at.String()); err != nil || !a.Addr().IsLoopback() {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && r.Host != "" { // a browser names one
			http.Error(w, "ask for localhost or an address: any other name may be a stranger's", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// run serves until ctx ends.
func (s *metricsServer) run(ctx context.Context) error {
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

// connections is how many scrapers and browsers there are.
func (s *metricsServer) connections() int {
	if s == nil {
		return 0
	}
	return s.listener.count()
}

// Close gives the address back where run was never called.
func (s *metricsServer) Close() error {
	if s == nil {
		return nil
	}
	return s.listener.Close()
}
