package demo

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A sample is one value of the gateway's metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// counters are the gateway's metrics at one moment.
type counters []sample

// parseCounters reads Prometheus' text format (version 0.0.4), as far as the
// gateway writes it: its label values come from enumerations and have neither commas
// nor quotes in them.
func parseCounters(r io.Reader) (counters, error) {
	var c counters
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := cutLast(line, ' ')
		if !ok {
			return nil, fmt.Errorf("metrics: %q has no value", line)
		}
		s := sample{labels: map[string]string{}}
		var err error
		if s.value, err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		var labels string
		s.name, labels, _ = strings.Cut(name, "{")
		for l := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			if key, quoted, ok := strings.Cut(l, "="); ok {
				s.labels[key] = strings.Trim(quoted, `"`)
			}
		}
		c = append(c, s)
	}
	return c, lines.Err()
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// sum adds the samples of a name that have all the labels, given as key, value, key, value.
func (c counters) sum(name string, labels ...string) int {
	total := 0.0
	for _, s := range c {
		fits := s.name == name
		for i := 0; i+1 < len(labels); i += 2 {
			fits = fits && s.labels[labels[i]] == labels[i+1]
		}
		if fits {
			total += s.value
		}
	}
	return int(total)
}

// by splits sum by one more label's values, largest first, without those that are zero.
func (c counters) by(label, name string, labels ...string) []count {
	var all []count
	for _, s := range c {
		what := s.labels[label]
		if s.name != name || slices.ContainsFunc(all, func(n count) bool { return n.what == what }) {
			continue
		}
		if n := c.sum(name, append(labels, label, what)...); n > 0 {
			all = append(all, count{what, n})
		}
	}
	slices.SortStableFunc(all, func(a, b count) int { return b.n - a.n })
	return all
}

// A count says how many there were of something.
type count struct {
	what string
	n    int
}
