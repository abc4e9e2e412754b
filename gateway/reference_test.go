package gateway_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// referencePage documents the metrics.
const referencePage = "../docs/reference.md"

var documentedMetric = regexp.MustCompile("`(knockgw_[a-z0-9_]+)`")

func TestMetricsMatchReference(t *testing.T) {
	b, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[string]bool)
	for _, m := range documentedMetric.FindAllStringSubmatch(string(b), -1) {
		said[m[1]] = true
	}
	// The device of this test supports no filter.
	there := map[string]bool{"knockgw_filter_dropped_packets_total": true}
	for _, m := range typeOfNames.FindAllStringSubmatch(scrape(t), -1) {
		if name := m[1]; strings.HasPrefix(name, "knockgw_") {
			if there[name] = true; !said[name] {
				t.Errorf("%s has no %s", referencePage, name)
			}
		}
	}
	for name := range said {
		if !there[name] {
			t.Errorf("%s has %s, which the gateway has not", referencePage, name)
		}
	}
}
