package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/guard"
)

const namespace = "knockgw"

// Source is read at each collection: an admission.Gate or a guard.Guard.
type Source interface {
	Stats() guard.Stats
	Usage() []guard.Usage
}

// Gate is a prometheus.Collector of a gate's knocks, packets, flows and grants.
// Its methods are safe for concurrent use.
type Gate struct {
	knocks *prometheus.CounterVec

	mu     sync.Mutex
	source Source
}

// NewGate returns the collector of one gate.
func NewGate() *Gate {
	return &Gate{
		knocks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "knocks_total",
			Help: "Knocks processed, by method (empty if no client matched) and result.",
		}, []string{"method", "result"}),
	}
}

// Knocked counts a knock. Pass it as the hook of that name in the options of a
// gate or of a guard.
func (g *Gate) Knocked(e guard.KnockEvent) {
	g.knocks.WithLabelValues(e.Method, e.Result.String()).Inc()
}

// Watch sets the gate that is read at each collection. Before the first call
// only knocks are collected.
func (g *Gate) Watch(s Source) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.source = s
}

// The metrics that are read at each collection.
var (
	packets       = desc("packets_total", "Packets received, by verdict and reason.", "verdict", "reason")
	egressDropped = desc("egress_dropped_packets_total", "Packets of the TCP/IP stack that the egress gate dropped.")
	flowEntries   = desc("flow_table_entries", "Flows in the flow table, including closing ones.")
	halfOpen      = desc("half_open_flows", "Flows of open services that have not authenticated yet.")
	grants        = desc("grants", "Active grants.")
	sources       = desc("sources", "Source addresses with grants, knocks or flows.")
	knocksQueued  = desc("knock_queue_length", "Knocks waiting to be processed.")
	deferred      = desc("deferred_syns", "SYNs waiting for a knock to be processed.")
	bans          = desc("banned_sources", "Sources banned from open services.")
	resourceUsed  = desc("resource_used", "Usage of each limited resource; for a limit per client, source and so on, the highest usage of any of them.", "resource")
	resourceLimit = desc("resource_limit", "Limit of each resource.", "resource")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (g *Gate) Describe(ch chan<- *prometheus.Desc) {
	g.knocks.Describe(ch)
	for _, d := range []*prometheus.Desc{packets, egressDropped, flowEntries, halfOpen, grants, sources, knocksQueued, deferred, bans, resourceUsed, resourceLimit} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *Gate) Collect(ch chan<- prometheus.Metric) {
	g.knocks.Collect(ch)
	g.mu.Lock()
	source := g.source
	g.mu.Unlock()
	if source == nil {
		return
	}

	s := source.Stats()
	for _, p := range s.Packets {
		ch <- prometheus.MustNewConstMetric(packets, prometheus.CounterValue, float64(p.Count), p.Action.String(), p.Reason)
	}
	ch <- prometheus.MustNewConstMetric(egressDropped, prometheus.CounterValue, float64(s.EgressDropped))
	for _, m := range []struct {
		desc  *prometheus.Desc
		value int
	}{
		{flowEntries, s.Flows}, {halfOpen, s.HalfOpen}, {grants, s.Grants}, {sources, s.Sources}, {knocksQueued, s.KnocksQueued},
		{deferred, s.DeferredSYNs}, {bans, s.Bans},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, float64(m.value))
	}

	for _, b := range source.Usage() {
		CollectUsage(ch, b.Resource, b.Used, b.Limit)
	}
}

// CollectUsage sends the usage and the limit of a resource, whose name is in
// snake case.
func CollectUsage(ch chan<- prometheus.Metric, resource string, used, limit int) {
	ch <- prometheus.MustNewConstMetric(resourceUsed, prometheus.GaugeValue, float64(used), resource)
	ch <- prometheus.MustNewConstMetric(resourceLimit, prometheus.GaugeValue, float64(limit), resource)
}
