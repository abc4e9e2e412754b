package observe

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/flows"
	"github.com/knockgw/knockgw/internal/buildinfo"
	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/metrics"
)

// collector reads the counts of the filter, the flows and the stack at each
// collection.
type collector struct{ ob *Observer }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("knockgw_"+name, help, labels, nil)
}

// emitter sends metrics to a channel.
type emitter chan<- prometheus.Metric

func (e emitter) counter(d *prometheus.Desc, n uint64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (e emitter) gauge(d *prometheus.Desc, n int, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func (e emitter) bool(d *prometheus.Desc, is bool, labels ...string) {
	n := 0
	if is {
		n = 1
	}
	e.gauge(d, n, labels...)
}

func (e emitter) usage(resource string, used, limit int) {
	metrics.CollectUsage(e, resource, used, limit)
}

// Describe implements prometheus.Collector. The metrics are created as they are
// collected; the registry checks them then.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	t := c.ob.target.Load()
	if t == nil {
		return
	}
	e := emitter(ch)
	c.collectHost(e, t)
	c.collectFlows(e, t)
	c.collectUsage(e, t)

	e.counter(desc("audit_dropped_events_total", "Events missing in the audit log."), c.ob.Audit.log.Dropped())
	cfg := c.ob.o.Config()
	e.gauge(desc("configured_services", "Services of the configuration in force."), len(cfg.Services))
	e.gauge(desc("configured_clients", "Clients of the configuration in force."), len(cfg.Clients))
	e.gauge(desc("build_info", "1, labeled with the version.", "version", "goversion"), 1, buildinfo.This().Version, buildinfo.This().Go)
}

// collectHost collects readiness and the kernel's filter.
func (c *collector) collectHost(e emitter, t *Target) {
	ready := desc("ready", "1 if this condition of readiness holds; /readyz describes problems.", "check")
	for _, check := range c.ob.checks(context.Background()) {
		e.bool(ready, len(check.problems) == 0, check.name)
	}
	e.bool(desc("filter_attached", "1 if the kernel's filter drops packets, too."), t.FilterAttached)
	e.bool(desc("filter_overflow", "1 if the kernel's filter passes every possible SYN knock and udp-v2 knock, because its table is too small."),
		t.FilterAttached && t.Filter.Overflowed())
	dropped := desc("filter_dropped_packets_total", "Packets dropped by the kernel's filter, by reason; no other metric counts them.", "reason")
	for _, c := range t.filterCounts() {
		e.counter(dropped, c.Packets, c.Reason.String())
	}
}

// filterCounts returns the counts of the filter; nil if there is none, or it is
// closed.
func (t *Target) filterCounts() []filter.Count {
	if t.Filter == nil {
		return nil
	}
	counts, err := t.Filter.Counts()
	if err != nil {
		return nil
	}
	return counts
}

// collectFlows collects the flows and what the TCP/IP stack counts.
func (c *collector) collectFlows(e emitter, t *Target) {
	table := c.ob.o.Flows
	totals := table.Totals()
	e.gauge(desc("flows", "Flows being served."), table.Len())
	e.counter(desc("flows_relayed_total", "Flows that reached their upstream."), totals.Flows)
	ends := desc("flow_ends_total", "Flows ended, by reason.", "reason")
	for r := range flows.NumCloseReasons {
		e.counter(ends, totals.Closed[r], flows.CloseReason(r).String())
	}
	bytes := desc("relayed_bytes_total", "Bytes relayed, from clients (up) and to them (down).", "direction")
	e.counter(bytes, totals.Up, "up")
	e.counter(bytes, totals.Down, "down")

	e.counter(desc("tcp_retransmits_total", "TCP segments retransmitted by the TCP/IP stack."), t.Stack.Retransmits())
	events := desc("tcp_events_total", "Events counted by the TCP/IP stack.", "event")
	for _, c := range t.Stack.Counters() {
		e.counter(events, c.Count, c.Name)
	}
	s := t.Stack.Connections()
	states := desc("tcp_connections", "Connections of the TCP/IP stack, by state.", "state")
	e.gauge(states, s.Handshake, "handshake")
	e.gauge(states, s.Established, "established")
	e.gauge(states, s.Closing, "closing")
	e.gauge(states, s.TimeWait, "time-wait")
	e.gauge(desc("tcp_unread_bytes", "Bytes that the TCP/IP stack has received and no relay has read yet."), s.Unread)
	e.usage("unread_bytes_per_connection", s.UnreadMax, s.UnreadLimit)
}

// collectUsage collects the usage of every limited resource, except those of the
// gate, which metrics.Gate collects.
func (c *collector) collectUsage(e emitter, t *Target) {
	if t.Filter != nil {
		for _, table := range t.Filter.Tables() {
			e.usage(table.Name, table.Used, table.Limit)
		}
	}
	sessions, used, limit := c.ob.Sessions.usage()
	e.gauge(desc("trace_sessions", "Traces and captures in progress."), sessions)
	e.usage("trace_sessions", sessions, maxSessions)
	e.usage("trace_queue_length", used, limit)

	used, limit = c.ob.Audit.log.Queued()
	e.usage("audit_queue_length", used, limit)
	used, limit = c.ob.Audit.log.Burst()
	e.usage("audit_burst", used, limit)
	used, limit = t.ControlConnections()
	e.usage("control_connections", used, limit)
	e.usage("metrics_connections", c.ob.server.Load().connections(), maxConnections)
	used, limit = t.AcceptQueue()
	e.usage("accept_queue_length", used, limit)
	used, limit = t.Stack.Handshakes()
	e.usage("handshakes", used, limit)
}
