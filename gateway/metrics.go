package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/knockgw/knockgw/flows"
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
	attached := 0
	if src.filtering {
		attached = 1
	}
	gauge(desc("filter_attached", "1 if packets are refused in the kernel, too."), attached)
	filtered := desc("filter_dropped_packets_total", "Packets refused in the kernel, by reason; they are in no other count.", "reason")
	for _, c := range src.dropped() {
		count(filtered, c.Packets, c.Reason.String())
	}

	set := src.g.flows
	t := set.Totals()
	gauge(desc("flows", "Flows being served."), set.Len())
	count(desc("flows_relayed_total", "Flows that reached their upstream."), t.Flows)
	ends := desc("flow_ends_total", "Flows ended, by reason.", "reason")
	for e := range flows.NumEnds {
		count(ends, t.Ends[e], flows.End(e).String())
	}
	bytes := desc("relayed_bytes_total", "Bytes relayed, from clients (up) and to them (down).", "direction")
	count(bytes, t.Up, "up")
	count(bytes, t.Down, "down")
	count(desc("tcp_retransmits_total", "TCP segments that the stack sent again."), src.stack.Retransmits())
}

// metricsServer serves the registry; nil where nobody listens.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
}

// headerTime bounds how long a scraper may take to ask.
const headerTime = 5 * time.Second

func (g *Gateway) listenMetrics() (*metricsServer, error) {
	addr := g.now.Load().cfg.Metrics.Listen
	if !addr.IsValid() {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	return &metricsServer{l, &http.Server{Handler: mux, ReadHeaderTimeout: headerTime}}, nil
}

// run serves until ctx ends.
func (s *metricsServer) run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() })
	defer stop()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// Close gives the address back where run was never called.
func (s *metricsServer) Close() error {
	if s == nil {
		return nil
	}
	return s.listener.Close()
}
