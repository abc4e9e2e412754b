package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Sample is one value of the gateway's metrics.
type Sample struct {
	Series string // name and labels, as written
	Name   string
	Labels map[string]string
	Value  float64
}

// Metrics are the gateway's metrics at one moment.
type Metrics []Sample

// Scrape reads metrics from an address.
func Scrape(ctx context.Context, address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (Metrics, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's metrics: %w", err)
	}
	m, err := ParseMetrics(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("read the gateway's metrics: status %s", resp.Status)
	}
	return m, errors.Join(err, resp.Body.Close())
}

// ParseMetrics reads Prometheus' text format (version 0.0.4), as far as the
// gateway writes it: its label values have neither commas nor quotes in them.
func ParseMetrics(r io.Reader) (Metrics, error) {
	var m Metrics
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("metrics: %q has no value", line)
		}

		s := Sample{Series: line[:i], Labels: map[string]string{}}
		var err error
		if s.Value, err = strconv.ParseFloat(line[i+1:], 64); err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		var labels string
		s.Name, labels, _ = strings.Cut(s.Series, "{")
		for l := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			if key, quoted, ok := strings.Cut(l, "="); ok {
				s.Labels[key] = strings.Trim(quoted, `"`)
			}
		}
		m = append(m, s)
	}
	return m, lines.Err()
}

// Sum adds the samples of a name that have all the labels, given as key, value,
// key, value.
func (m Metrics) Sum(name string, labels ...string) int {
	total := 0.0
	for _, s := range m {
		matches := s.Name == name
		for i := 0; i+1 < len(labels); i += 2 {
			matches = matches && s.Labels[labels[i]] == labels[i+1]
		}
		if matches {
			total += s.Value
		}
	}
	return int(total)
}

// A Count is a sum for one value of a label.
type Count struct {
	Label string
	N     int
}

// By splits Sum by the values of one more label, largest first, without those
// that are zero.
func (m Metrics) By(label, name string, labels ...string) []Count {
	var all []Count
	for _, s := range m {
		value := s.Labels[label]
		if s.Name != name || slices.ContainsFunc(all, func(c Count) bool { return c.Label == value }) {
			continue
		}
		if n := m.Sum(name, append(labels, label, value)...); n > 0 {
			all = append(all, Count{value, n})
		}
	}
	slices.SortStableFunc(all, func(a, b Count) int { return b.N - a.N })
	return all
}
