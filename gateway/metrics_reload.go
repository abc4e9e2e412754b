package gateway

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloadMetrics tell how reloads went.
type reloadMetrics struct {
	total      *prometheus.CounterVec
	successful prometheus.Gauge // 1 or 0
	succeeded  prometheus.Gauge // when, in Unix seconds

	mu     sync.Mutex
	last   time.Time // when a reload last succeeded; zero if none has
	failed bool      // the last one
}

const (
	reloadOK       = "ok"
	reloadRejected = "rejected"
)

func (r *reloadMetrics) init(counter func(name, help string, labels ...string) *prometheus.CounterVec) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "knockgw", Name: name, Help: help})
	}
	r.total = counter("config_reloads_total", "Reloads of the configuration, by result.", "result")
	r.successful = gauge("config_last_reload_successful", "1 unless the last reload of the configuration was refused.")
	r.succeeded = gauge("config_last_reload_success_timestamp_seconds", "When the configuration in force was loaded.")
	r.total.WithLabelValues(reloadOK)
	r.total.WithLabelValues(reloadRejected)
}

// began notes the first configuration.
func (r *reloadMetrics) began(now time.Time) {
	r.successful.Set(1)
	r.succeeded.Set(float64(now.Unix()))
}

// reloaded notes a reload.
func (m *metricSet) reloaded(err error, now time.Time) {
	r := &m.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed = err != nil; r.failed {
		r.total.WithLabelValues(reloadRejected).Inc()
		r.successful.Set(0)
		return
	}
	r.last = now
	r.total.WithLabelValues(reloadOK).Inc()
	r.began(now)
}

// lastReload returns when a reload last succeeded, the zero time if none has, and
// whether the last one failed.
func (m *metricSet) lastReload() (last time.Time, failed bool) {
	m.reloads.mu.Lock()
	defer m.reloads.mu.Unlock()
	return m.reloads.last, m.reloads.failed
}

// forget drops the counts of a service that is gone: their number must not grow
// with every reload.
func (m *metricSet) forget(service string) {
	m.auths.Forget(service)
	m.dials.DeletePartialMatch(prometheus.Labels{"service": service})
}
