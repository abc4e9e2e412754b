package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/metrics"
)

// gate is a source of fixed values.
type gate admission.Stats

func (g gate) Stats() admission.Stats { return admission.Stats(g) }

func (gate) Usage() []admission.Usage {
	return []admission.Usage{{Resource: "grants", Used: 5, Limit: 13}, {Resource: "udp_sequences", Used: 1, Limit: 22}}
}

// listener has a fixed number of handshakes in flight.
type listener int

func (l listener) InFlight() int { return int(l) }

func TestCollectorsExportAllMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	g, a := metrics.NewGate(), metrics.NewAuth()
	registry.MustRegister(g, a)
	g.Knocked(knock.Event{Result: knock.OK, Method: "udp", Client: "alice"})
	g.Knocked(knock.Event{Result: knock.UnknownClient})
	g.Watch(gate{
		Packets:       []admission.PacketCount{{Action: admission.Drop, Reason: "no-grant", Count: 3}},
		EgressDropped: 1, Flows: 2, HalfOpen: 4, Grants: 5, Sources: 6, KnocksQueued: 7, DeferredSYNs: 8, Bans: 9,
	})
	a.Authenticated("ssh", auth.ResultOK, 3*time.Millisecond)
	a.Report("ssh")(auth.Event{Result: auth.ResultStale, Took: 3 * time.Second})
	a.Watch("ssh", listener(2))
	a.Watch("ssh", listener(3))

	got := gather(t, registry)
	for name, want := range map[string]float64{
		"knockgw_authentications_total{result=ok,service=ssh}":    1,
		"knockgw_authentications_total{result=stale,service=ssh}": 1,
		"knockgw_authentication_duration_seconds{service=ssh}":    1, // how many, not how long
		"knockgw_handshakes_in_flight{service=ssh}":               5,
		"knockgw_knocks_total{method=udp,result=ok}":              1,
		"knockgw_knocks_total{method=,result=unknown}":            1,
		"knockgw_packets_total{reason=no-grant,verdict=drop}":     3,
		"knockgw_egress_dropped_packets_total{}":                  1,
		"knockgw_flow_table_entries{}":                            2,
		"knockgw_half_open_flows{}":                               4,
		"knockgw_grants{}":                                        5,
		"knockgw_sources{}":                                       6,
		"knockgw_knock_queue_length{}":                            7,
		"knockgw_deferred_syns{}":                                 8,
		"knockgw_banned_sources{}":                                9,
		"knockgw_resource_limit{resource=grants}":                 13,
		"knockgw_resource_limit{resource=udp_sequences}":          22,
		"knockgw_resource_used{resource=grants}":                  5,
		"knockgw_resource_used{resource=udp_sequences}":           1,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, ok, want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("and %v", got)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	a.Forget("ssh")
	for name := range gather(t, registry) {
		if strings.Contains(name, "ssh") {
			t.Errorf("%s is left of a service that was forgotten", name)
		}
	}
}

// gather returns all values by name and labels; for a histogram, the number of
// observations.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return all
}

func TestGateCountsKnocksBeforeWatch(t *testing.T) {
	g := metrics.NewGate()
	g.Knocked(knock.Event{})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	if got := gather(t, registry); len(got) != 1 || got["knockgw_knocks_total{method=,result=ok}"] != 1 {
		t.Errorf("%v", got)
	}
}
