package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/admission"
)

const namespace = "knockgw"

// Source is what a Gate reads when it is asked: an admission.Gate or a guard.Guard.
type Source interface {
	Stats() admission.Stats
	Bounds() []admission.Bound
}

// Gate is a prometheus.Collector of what a gate decides: knocks, packets, flows and grants. Its methods
// are safe for concurrent use.
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
			Help: "Knocks decided, by method (empty when nobody's) and result.",
		}, []string{"method", "result"}),
	}
}

// Knocked counts a knock. It is the hook of this name of the options of a gate or of a guard.
func (g *Gate) Knocked(e admission.KnockEvent) {
	g.knocks.WithLabelValues(e.Method, e.Result.String()).Inc()
}

// Watch names the gate whose counts are read on demand, in place of the one before. Until then there
// are none but the knocks.
func (g *Gate) Watch(s Source) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.source = s
}

// The metrics that are read on demand.
var (
	packets      = desc("packets_total", "Packets from outside, by verdict and reason.", "verdict", "reason")
	muted        = desc("egress_muted_packets_total", "Packets of the stack that the egress gate kept back.")
	flowEntries  = desc("flow_table_entries", "Flows in the gate's table, closing ones included.")
	halfOpen     = desc("half_open_flows", "Flows of open services that have not authenticated.")
	grants       = desc("grants", "Grants that knocks have earned and that are not over.")
	sources      = desc("sources", "Addresses with grants, knocks or flows.")
	knocksQueued = desc("knock_queue_length", "Knocks waiting to be decided.")
	parked       = desc("parked_syns", "SYNs that wait for a knock to be decided.")
	bans         = desc("banned_sources", "Sources shut out of open services.")
	used         = desc("used", "How many there are, by what is limited; for a limit per client, source and the like, of the one that has the most.", "of")
	limit        = desc("limit", "How many there may be, by what is limited.", "of")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (g *Gate) Describe(ch chan<- *prometheus.Desc) {
	g.knocks.Describe(ch)
	for _, d := range []*prometheus.Desc{packets, muted, flowEntries, halfOpen, grants, sources, knocksQueued, parked, bans, used, limit} {
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
	ch <- prometheus.MustNewConstMetric(muted, prometheus.CounterValue, float64(s.Muted))
	for _, m := range []struct {
		desc  *prometheus.Desc
		value int
	}{
		{flowEntries, s.Flows}, {halfOpen, s.HalfOpen}, {grants, s.Grants}, {sources, s.Sources}, {knocksQueued, s.KnocksQueued},
		{parked, s.Parked}, {bans, s.Bans},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, float64(m.value))
	}
	for _, b := range source.Bounds() {
		Limited(ch, b.Of, b.Now, b.Most)
	}
}

// Limited collects how full a table or queue is: of what, in words with underscores.
func Limited(ch chan<- prometheus.Metric, of string, now, most int) {
	ch <- prometheus.MustNewConstMetric(used, prometheus.GaugeValue, float64(now), of)
	ch <- prometheus.MustNewConstMetric(limit, prometheus.GaugeValue, float64(most), of)
}
