package config

import (
	"fmt"
	"testing"
	"time"
)

// FuzzHours parses hours from arbitrary text. Valid ones must contain or exclude
// every time, and the same after formatting and parsing.
func FuzzHours(f *testing.F) {
	for _, text := range []string{
		`{days: [mon, tue], from: "08:00", to: "18:00", zone: Europe/Berlin}`, `{from: "22:00", to: "06:00"}`, `{days: [sun]}`, `{zone: UTC}`, `{from: "24:00"}`,
	} {
		f.Add(text, int64(1790000000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		parse := func() *Hours {
			c, err := Parse("fuzz.yaml", fmt.Appendf(nil, "version: 1\ntun: {routes: [10.77.0.0/24]}\nclients:\n  - {id: alice, secret: \"alice's secret, long enough\", hours: %s}\nservices: []\n", text), WithoutUpstream())
			if err != nil || len(c.Clients) == 0 {
				return nil
			}
			return c.Clients[0].Hours
		}
		first := parse()
		if first == nil {
			return
		}
		moment := time.Unix(at%(1<<33), 0)
		if again := parse(); !first.equal(again) || first.Contains(moment) != again.Contains(moment) {
			t.Fatalf("%q is not the same twice", text)
		}
	})
}
