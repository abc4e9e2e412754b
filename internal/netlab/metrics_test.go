package netlab

import (
	"slices"
	"strings"
	"testing"
)

const metricsText = `# HELP knockgw_packets_total Packets from outside, by verdict and reason.
# TYPE knockgw_packets_total counter
knockgw_packets_total{reason="no-grant",verdict="drop"} 12
knockgw_packets_total{reason="no-service",verdict="drop"} 1.0002e+04
knockgw_packets_total{reason="icmp",verdict="drop"} 0
knockgw_packets_total{reason="flow",verdict="pass"} 7
knockgw_knocks_total{method="udp",result="replay"} 1
knockgw_knocks_total{method="",result="unknown"} 2
knockgw_flows 3
`

func TestParseMetrics(t *testing.T) {
	c, err := ParseMetrics(strings.NewReader(metricsText))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		want   int
		name   string
		labels []string
	}{
		{10014, "knockgw_packets_total", []string{"verdict", "drop"}},
		{12, "knockgw_packets_total", []string{"verdict", "drop", "reason", "no-grant"}},
		{3, "knockgw_knocks_total", nil},
		{3, "knockgw_flows", nil},
		{0, "knockgw_unheard_of", nil},
	} {
		if got := c.Sum(s.name, s.labels...); got != s.want {
			t.Errorf("%s%v: %d, want %d", s.name, s.labels, got, s.want)
		}
	}
	want := []Count{{"no-service", 10002}, {"no-grant", 12}}
	if got := c.By("reason", "knockgw_packets_total", "verdict", "drop"); !slices.Equal(got, want) {
		t.Errorf("by reason: %v, want %v", got, want)
	}
}

func TestParseMetricsRejectsInvalid(t *testing.T) {
	for _, text := range []string{"knockgw_flows\n", "knockgw_flows many\n"} {
		if _, err := ParseMetrics(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken for metrics", text)
		}
	}
}
