package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/knockgw/knockgw/metrics"
)

// collectBounds says of everything that has a bound how full it is: knockgw_resource_used and
// knockgw_resource_limit have the same labels, so that one rule is about all of them. What the
// gate has is metrics.Gate's to say.
func (p *parts) collectBounds(ch chan<- prometheus.Metric) {
	g := p.g
	bound := func(of string, now, most int) { metrics.CollectUsage(ch, of, now, most) }
	if p.filter != nil {
		for _, t := range p.filter.Tables() {
			bound(t.Name, t.Used, t.Limit)
		}
	}
	watching, waiting, most := 0, 0, watchQueue
	g.watchers.each(func(w watcher) {
		watching++
		if now, room := w.queued(); now*most >= waiting*room { // the fullest of them
			waiting, most = now, room
		}
	})
	ch <- prometheus.MustNewConstMetric(desc("trace_sessions", "Traces and captures under way."), prometheus.GaugeValue, float64(watching))
	bound("trace_sessions", watching, maxWatchers)
	bound("trace_queue_length", waiting, most)
	now, most := g.audit.Queued()
	bound("audit_queue_length", now, most)
	now, most = g.audit.Burst()
	bound("audit_burst", now, most)
	now, most = p.servers.control.connections()
	bound("control_connections", now, most)
	bound("metrics_connections", p.servers.metrics.connections(), maxScrapers)
	now, most = g.now.Load().waiting()
	bound("accept_queue_length", now, most)
	now, most = p.stack.Handshakes()
	bound("handshakes", now, most)

	c := p.stack.Connections()
	bound("unread_bytes_per_connection", c.UnreadMax, c.UnreadLimit)
	states := desc("tcp_connections", "Connections of the TCP/IP stack, by state.", "state")
	for _, s := range []struct {
		name string
		n    int
	}{{"handshake", c.Handshake}, {"established", c.Established}, {"closing", c.Closing}, {"time-wait", c.TimeWait}} {
		ch <- prometheus.MustNewConstMetric(states, prometheus.GaugeValue, float64(s.n), s.name)
	}
	ch <- prometheus.MustNewConstMetric(desc("tcp_unread_bytes", "Bytes that the TCP/IP stack has received and nobody has read yet."),
		prometheus.GaugeValue, float64(c.Unread))
}

// waiting is how many connections wait for the Accept of the service that has the
// most of them, and how many may.
func (s *setup) waiting() (now, most int) {
	for _, svc := range s.services {
		if svc.listener != nil {
			now = max(now, len(svc.listener.conns))
		}
	}
	return now, acceptBacklog
}
