package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/auth"
)

// handshakeSeconds are the limits of the histogram's buckets: from a neighbour's handshake, which takes
// a round trip and some microseconds of ours, to the default deadline and what lies beyond a longer one.
var handshakeSeconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 3.5, 10}

// Auth is a prometheus.Collector of authentications. Its methods are safe for concurrent use.
type Auth struct {
	results *prometheus.CounterVec
	seconds *prometheus.HistogramVec

	mu        sync.Mutex
	listeners map[string][]Listener
}

// Listener is what Auth reads when it is asked: an auth.Listener.
type Listener interface {
	// InHand is how many connections are neither refused nor accepted yet.
	InHand() int
}

// NewAuth returns the collector of any number of services.
func NewAuth() *Auth {
	return &Auth{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "authentications_total",
			Help: "TCP authentications, by service and result.",
		}, []string{"service", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "authentication_seconds",
			Help:    "Time that TCP authentications took which succeeded, by service.",
			Buckets: handshakeSeconds,
		}, []string{"service"}),
		listeners: make(map[string][]Listener),
	}
}

// Authenticated counts an authentication that has ended, and the time that it took where it succeeded:
// those that fail all take the same.
func (a *Auth) Authenticated(service string, r auth.Result, took time.Duration) {
	a.results.WithLabelValues(service, r.String()).Inc()
	if r == auth.ResultOK {
		a.seconds.WithLabelValues(service).Observe(took.Seconds())
	}
}

// Report returns the hook of this name of an auth.Listener's options.
func (a *Auth) Report(service string) func(auth.Event) {
	return func(e auth.Event) { a.Authenticated(service, e.Result, e.Took) }
}

// Watch adds a service's listener to those whose connections in hand are read on demand. It is watched
// until Forget.
func (a *Auth) Watch(service string, l Listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners[service] = append(a.listeners[service], l)
}

// Forget drops the counts of a service that is gone, and its listeners.
func (a *Auth) Forget(service string) {
	of := prometheus.Labels{"service": service}
	a.results.DeletePartialMatch(of)
	a.seconds.DeletePartialMatch(of)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.listeners, service)
}

var inHand = desc("connections_in_hand", "Connections that are neither refused nor accepted yet, by service.", "service")

// Describe implements prometheus.Collector.
func (a *Auth) Describe(ch chan<- *prometheus.Desc) {
	a.results.Describe(ch)
	a.seconds.Describe(ch)
	ch <- inHand
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
			n += l.InHand()
		}
		ch <- prometheus.MustNewConstMetric(inHand, prometheus.GaugeValue, float64(n), service)
	}
}
