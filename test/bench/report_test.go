//go:build linux

package bench_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A report is what was measured. The Markdown and the JSON are made of the same.
//
//	report ─┬─ part "throughput" ─┬─ row "1 stream up", Gb/s ─┬─ column "knockgw": 10.3 10.1 10.4
//	        │  of three columns   │                           ├─ column "HAProxy":  8.1  8.0  8.2
//	        │                     │                           └─ column "direct":  27.0 26.1 28.3
//	        └─ part "latency"     └─ row "8 streams up", Gb/s …
type report struct {
	Machine machine `json:"machine"`
	Parts   []*part `json:"parts"`
}

// machine is what the figures depend on besides knockgw.
type machine struct {
	CPUs       int    `json:"cpus"`
	Kernel     string `json:"kernel"`
	Congestion string `json:"congestion"` // the control that its sockets use
	Go         string `json:"go"`
}

// A part is a table: rows of measurements of the same contestants.
type part struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Columns []string `json:"columns"`
	Rows    []*row   `json:"rows"`

	// ratio is the two columns whose quotient the rows have: by default the
	// first by the second. Two of the same are none.
	ratio [2]int
}

// A row is one measurement of all the contestants, in rounds. A contestant that
// was not measured has none.
type row struct {
	Name   string      `json:"name"`
	Unit   string      `json:"unit"`
	Rounds [][]float64 `json:"rounds"` // of each column
	Goal   *goal       `json:"goal,omitempty"`
	Notes  []string    `json:"notes,omitempty"`
	// Derived when the report is written.
	Medians []*float64 `json:"medians"`         // of each column
	Ratio   *spread    `json:"ratio,omitempty"` // of two columns' rounds, one by one
	Met     *bool      `json:"met,omitempty"`

	part *part
}

// spread is the median of some values, and between what the middle half of them
// is.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// A goal is the required ratio of a row, or the required median of a column.
type goal struct {
	Of      string  `json:"of,omitempty"` // the column
	AtLeast bool    `json:"at_least"`
	Bound   float64 `json:"bound"`
}

func atLeast(bound float64) *goal { return &goal{AtLeast: true, Bound: bound} }

func atMost(bound float64) *goal { return &goal{Bound: bound} }

func (g goal) of(column string) *goal {
	g.Of = column
	return &g
}

func (g *goal) met(v float64) bool {
	if g.AtLeast {
		return v >= g.Bound
	}
	return v <= g.Bound
}

// String is the goal as the table has it.
func (g *goal) String() string {
	sign, what := "≤", "ratio"
	if g.AtLeast {
		sign = "≥"
	}
	if g.Of != "" {
		what = g.Of
	}
	return fmt.Sprintf("%s %s %v", what, sign, g.Bound)
}

// part adds a table.
func (r *report) part(name, about string, columns ...string) *part {
	p := &part{Name: name, About: about, Columns: columns, ratio: [2]int{0, min(1, len(columns)-1)}}
	r.Parts = append(r.Parts, p)
	return p
}

// row is the part's row of that name, a new one if it has none.
func (p *part) row(name, unit string) *row {
	for _, r := range p.Rows {
		if r.Name == name {
			return r
		}
	}
	r := &row{Name: name, Unit: unit, Rounds: make([][]float64, len(p.Columns)), part: p}
	for i := range r.Rounds {
		r.Rounds[i] = []float64{} // for JSON: none, not null
	}
	p.Rows = append(p.Rows, r)
	return r
}

// wants gives the row a goal.
func (r *row) wants(g *goal) *row {
	r.Goal = g
	return r
}

// add notes a round of one contestant. One in which there was nothing to divide
// by has no figure.
func (r *row) add(column string, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		r.note("a round of %s has no figure", column)
		return
	}
	at := slices.Index(r.part.Columns, column)
	r.Rounds[at] = append(r.Rounds[at], v)
}

// note adds a remark on the row, once.
func (r *row) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, n) {
		r.Notes = append(r.Notes, n)
	}
}

// finish derives what is derived.
func (r *row) finish() {
	r.Medians = make([]*float64, len(r.Rounds))
	for i, rounds := range r.Rounds {
		if len(rounds) > 0 {
			m := median(rounds)
			r.Medians[i] = &m
		}
	}
	// The ratio of two who took turns, turn by turn: what the machine did
	// meanwhile met both.
	above, below := r.Rounds[r.part.ratio[0]], r.Rounds[r.part.ratio[1]]
	if !r.part.compares() {
		above = nil
	}
	var ratios []float64
	for i := range min(len(above), len(below)) {
		if q := above[i] / below[i]; !math.IsNaN(q) && !math.IsInf(q, 0) {
			ratios = append(ratios, q)
		}
	}
	r.Ratio, r.Met = nil, nil
	if len(ratios) > 0 {
		slices.Sort(ratios)
		r.Ratio = &spread{median(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4]}
	}
	if r.Goal == nil {
		return
	}
	var judged *float64
	if r.Goal.Of != "" {
		judged = r.Medians[slices.Index(r.part.Columns, r.Goal.Of)]
	} else if r.Ratio != nil {
		judged = &r.Ratio.Median
	}
	if judged != nil {
		met := r.Goal.met(*judged)
		r.Met = &met
	}
}

// compares reports whether the part's rows have ratios.
func (p *part) compares() bool { return p.ratio[0] != p.ratio[1] }

// markdown is the report for people.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %d CPUs, Linux %s (%s), %s. Medians; ratios are the median of the rounds' ratios, with "+
		"the middle half of them in brackets.\n", r.Machine.CPUs, r.Machine.Kernel, r.Machine.Congestion, r.Machine.Go)
	for _, p := range r.Parts {
		p.markdown(&b)
	}
	return b.String()
}

func (p *part) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| | unit | %s |", p.Name, p.About, strings.Join(p.Columns, " | "))
	if p.compares() {
		fmt.Fprintf(b, " %s / %s |", p.Columns[p.ratio[0]], p.Columns[p.ratio[1]])
	}
	fmt.Fprintf(b, " goal | |\n|---|---|%s", strings.Repeat("---:|", len(p.Columns)))
	if p.compares() {
		b.WriteString("---:|")
	}
	b.WriteString("---|---|\n")
	var notes []string
	for _, r := range p.Rows {
		fmt.Fprintf(b, "| %s | %s |", r.Name, r.Unit)
		for _, m := range r.Medians {
			cell := ""
			if m != nil {
				cell = figure(*m)
			}
			fmt.Fprintf(b, " %s |", cell)
		}
		if p.compares() {
			cell := ""
			if r.Ratio != nil {
				cell = fmt.Sprintf("%.2f (%.2f to %.2f)", r.Ratio.Median, r.Ratio.Low, r.Ratio.High)
			}
			fmt.Fprintf(b, " %s |", cell)
		}
		wanted, verdict := "", ""
		if r.Goal != nil {
			wanted = r.Goal.String()
		}
		if r.Met != nil {
			verdict = map[bool]string{true: "met", false: "**missed**"}[*r.Met]
		}
		fmt.Fprintf(b, " %s | %s |\n", wanted, verdict)
		for _, n := range r.Notes {
			notes = append(notes, r.Name+": "+n)
		}
	}
	for _, n := range notes {
		fmt.Fprintf(b, "\n- %s", n)
	}
	if len(notes) > 0 {
		b.WriteByte('\n')
	}
}

// figure is a number with three digits that mean something.
func figure(v float64) string {
	digits := 0
	if a := math.Abs(v); a > 0 && a < 100 {
		digits = min(4, 2-int(math.Floor(math.Log10(a))))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// write leaves the report in a directory, for people and for programs.
func (r *report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("make JSON of the report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a directory for the report: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.md"), []byte(r.markdown()), 0o644))
}

func (r *report) finish() {
	for _, p := range r.Parts {
		for _, row := range p.Rows {
			row.finish()
		}
	}
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}
