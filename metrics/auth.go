package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/auth"
)

// handshakeSeconds are the upper bounds of the histogram's buckets: from a
// handshake in a local network, which takes a round trip and some microseconds
// of processing, to the default deadline of 3 s and longer ones.
var handshakeSeconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 3.5, 10}

// Auth is a prometheus.Collector of authentications. Its methods are safe for
// concurrent use.
type Auth struct {
	results *prometheus.CounterVec
	seconds *prometheus.HistogramVec

	mu        sync.Mutex
	listeners map[string][]Listener
}

// Listener is read at each collection: an auth.Listener.
type Listener interface {
	// InFlight returns how many connections are handshaking, or authenticated
	// and not accepted yet.
	InFlight() int
}

// NewAuth returns a collector for any number of services.
func NewAuth() *Auth {
	return &Auth{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "authentications_total",
			Help: "TCP authentications, by service and result.",
		}, []string{"service", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "authentication_duration_seconds",
			Help:    "Duration of successful TCP authentications, by service.",
			Buckets: handshakeSeconds,
		}, []string{"service"}),
		listeners: make(map[string][]Listener),
	}
}

// Authenticated counts a completed authentication, and records its duration if
// it succeeded: failed ones all take the same time.
func (a *Auth) Authenticated(service string, r auth.Result, took time.Duration) {
	a.results.WithLabelValues(service, r.String()).Inc()
	if r == auth.ResultOK {
		a.seconds.WithLabelValues(service).Observe(took.Seconds())
	}
}

// Report returns the hook of that name for an auth.Listener's options.
func (a *Auth) Report(service string) func(auth.Event) {
	return func(e auth.Event) { a.Authenticated(service, e.Result, e.Took) }
}

// Watch adds a service's listener to those that are read at each collection,
// until Forget.
func (a *Auth) Watch(service string, l Listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners[service] = append(a.listeners[service], l)
}

// Forget removes the counts and the listeners of a service.
func (a *Auth) Forget(service string) {
	labels := prometheus.Labels{"service": service}
	a.results.DeletePartialMatch(labels)
	a.seconds.DeletePartialMatch(labels)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.listeners, service)
}

var handshakes = desc("handshakes_in_flight", "Connections handshaking, or authenticated and not accepted yet, by service.", "service")

// Describe implements prometheus.Collector.
func (a *Auth) Describe(ch chan<- *prometheus.Desc) {
	a.results.Describe(ch)
	a.seconds.Describe(ch)
	ch <- handshakes
}

// Collect implements prometheus.Collector.
func (a *Auth) Collect(ch chan<- prometheus.Metric) {
	a.results.Collect(ch)
	a.seconds.Collect(ch)
	a.mu.Lock()
	defer a.mu.Unlock()
	for service, listeners := range a.listeners {
		n := 0
		for _, l := range listeners {
			n += l.InFlight()
		}
		ch <- prometheus.MustNewConstMetric(handshakes, prometheus.GaugeValue, float64(n), service)
	}
}
