package observe

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/metrics"
)

// Metrics counts events: those of the gate and of authentications with the
// collectors of package metrics, which any program may use, and the gateway's
// own here. Label values are enumerations and the names of configured services;
// none comes from the network.
type Metrics struct {
	noEvents
	registry   *prometheus.Registry
	gate       *metrics.Gate
	auths      *metrics.Auth
	dials      *prometheus.CounterVec
	reloads    reloadMetrics
	authFailed atomic.Uint64 // for the status page
}

func newMetrics(r *prometheus.Registry, onDemand prometheus.Collector) (*Metrics, error) {
	m := &Metrics{
		registry: r,
		gate:     metrics.NewGate(),
		auths:    metrics.NewAuth(),
		dials:    newCounter("upstream_dials_total", "Connections to upstreams, by service and result.", "service", "result"),
		reloads:  newReloadMetrics(),
	}
	for _, c := range []prometheus.Collector{
		m.gate, m.auths, m.dials, m.reloads.total, m.reloads.successful, m.reloads.succeeded, onDemand,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func newCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "knockgw", Name: name, Help: help}, labels)
}

// Knock implements Sink.
func (m *Metrics) Knock(e *knock.Event) { m.gate.Knocked(*e) }

// Auth implements Sink.
func (m *Metrics) Auth(e *AuthEvent) {
	m.auths.Authenticated(e.Service, e.Result, e.Took)
	if e.Peer == nil {
		m.authFailed.Add(1)
	}
}

// Dialed counts a connection to an upstream.
func (m *Metrics) Dialed(service string, err error) {
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

// Forget removes the counts of a service that was removed: their number must not
// grow with every reload.
func (m *Metrics) Forget(service string) {
	m.auths.Forget(service)
	m.dials.DeletePartialMatch(prometheus.Labels{"service": service})
}

// reloadMetrics counts reloads of the configuration.
type reloadMetrics struct {
	total      *prometheus.CounterVec
	successful prometheus.Gauge // 1 or 0
	succeeded  prometheus.Gauge // time of the last success in Unix seconds

	mu     *sync.Mutex
	last   time.Time // of the last successful reload; zero for none
	failed bool      // the last reload
}

// Results of a reload.
const (
	reloadOK       = "ok"
	reloadRejected = "rejected"
)

func newReloadMetrics() reloadMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "knockgw", Name: name, Help: help})
	}
	r := reloadMetrics{
		total:      newCounter("config_reloads_total", "Reloads of the configuration, by result.", "result"),
		successful: gauge("config_last_reload_successful", "1 unless the last reload of the configuration was rejected."),
		succeeded:  gauge("config_last_reload_success_timestamp_seconds", "Time at which the configuration in force was loaded."),
		mu:         new(sync.Mutex),
	}
	r.total.WithLabelValues(reloadOK)
	r.total.WithLabelValues(reloadRejected)
	return r
}

// setSuccess records that a configuration is in force since a time.
func (r *reloadMetrics) setSuccess(at time.Time) {
	r.successful.Set(1)
	r.succeeded.Set(float64(at.Unix()))
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(err error, at time.Time) {
	r := &m.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed = err != nil; r.failed {
		r.total.WithLabelValues(reloadRejected).Inc()
		r.successful.Set(0)
		return
	}
	r.last = at
	r.total.WithLabelValues(reloadOK).Inc()
	r.setSuccess(at)
}

// LastReload returns the time of the last successful reload, zero for none, and
// whether the last reload failed.
func (m *Metrics) LastReload() (last time.Time, failed bool) {
	m.reloads.mu.Lock()
	defer m.reloads.mu.Unlock()
	return m.reloads.last, m.reloads.failed
}
